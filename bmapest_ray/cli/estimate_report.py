"""The quality report of one scan: a page that works offline."""

from base64 import b64encode
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.base.tissues import TISSUE_NAMES, TISSUES
from bmapest_ray.report import markup

if TYPE_CHECKING:
    from PIL.Image import Image

    from bmapest_ray.scan.estimate import ScanFit

_CUTS = (0.3, 0.45, 0.6, 0.75)
_HEIGHT = 220


def write_quality_report(fit: "ScanFit", path: Path, subject: str) -> Path:
    """Write the report and return its path."""
    from bmapest_ray.scan.verdict import misfit, unproven, warnings_of

    bad = misfit(fit) or unproven(fit)
    answer = bad[0] if bad else "The protocol explains the images."
    top = f'<h1>Tissue maps of sub-{escape(subject)}</h1><p class="answer">{escape(answer)}</p>'
    sections = [
        ("volumes", "Volumes", _volumes(fit)),
        ("warnings", "What to keep in mind", markup.bullets(warnings_of(fit), "caveats")),
        ("maps", "Maps over the scan", _pictures(fit)),
        ("nuisances", "What was fitted beside the maps", _nuisances(fit)),
        ("noise", "Noise and residual", _noise(fit)),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(markup.page(f"sub-{subject}: tissue maps", top, sections), "utf-8")
    return path


def _volumes(fit: "ScanFit") -> str:
    rows = [
        (TISSUE_NAMES[t], f"{v:.1f}", f"{max(v - 1.96 * s, 0):.1f} to {v + 1.96 * s:.1f}")
        for t, v, s in zip(TISSUES, fit.volume_ml, fit.volume_sd_ml, strict=True)
    ]
    caption = "Inside the fitted region; intervals hold noise and nuisances"
    return markup.table(("tissue", "volume (ml)", "95 % interval (ml)"), rows, caption)


def _nuisances(fit: "ScanFit") -> str:
    from bmapest_ray.scan.verdict import nuisance_lines

    rows = [
        (
            line.name,
            f"{line.value:+.3f}",
            f"{line.spread:.3f}",
            f"{line.prior_spread:.3g}",
            f"{line.learnt:.0%}",
        )
        for line in nuisance_lines(fit)
    ]
    header = ("nuisance", "estimate", "sd", "sd before", "learnt from the scan")
    return markup.table(header, rows, "Relative changes (logarithms); 0 is what is published")


def _noise(fit: "ScanFit") -> str:
    rows = []
    for number, name in enumerate(fit.model.response.names):
        inside = fit.residual[number][fit.mask]
        rows.append(
            (
                name,
                f"{float(fit.nuisances.level.noise[number]):.3g}",
                f"{float(fit.nuisances.level.relative[number]):.1%}",
                f"{float(np.sqrt(np.mean(inside**2))):.3g}",
            )
        )
    header = ("image", "noise sd", "unexplained share", "residual rms")
    return markup.table(header, rows, "In units of the image")


def _pictures(fit: "ScanFit") -> str:
    planes = np.flatnonzero(fit.mask.any((1, 2)))
    chosen = sorted({int(planes[int(cut * (len(planes) - 1))]) for cut in _CUTS})
    what = f"{len(chosen)} axial planes from below to above" if chosen[1:] else "one axial plane"
    rows = {
        **{f"image {n}": fit.scan.images[i] for i, n in enumerate(fit.model.response.names)},
        **{TISSUES[t]: fit.fraction[t] for t in range(len(TISSUES))},
        "standard deviation": fit.deviation.max(0),
        "other": fit.other,
        **{
            f"size of the residual {n}": np.abs(fit.residual[i])
            for i, n in enumerate(fit.model.response.names)
        },
    }
    parts = []
    for title, volume in rows.items():
        high = 1.0 if title in (*TISSUES, "other") else float(np.quantile(volume[fit.mask], 0.995))
        text = f"{title}, 0 to {high:.3g}, {what}"
        parts.append(_figure(_strip(volume[chosen], high), text))
    return "".join(parts)


def _figure(image: "Image", text: str) -> str:
    buffer = BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    code = b64encode(buffer.getvalue()).decode()
    shown = escape(text)
    return (
        f'<figure><img src="data:image/png;base64,{code}" alt="{shown}">'
        f"<figcaption>{shown}</figcaption></figure>"
    )


def _strip(planes: NDArray[np.float32], high: float) -> "Image":
    """Return planes `(plane, y, x)` side by side, anterior up."""
    from PIL import Image

    grey = np.clip(planes / max(high, 1e-12), 0, 1)[:, ::-1]
    joined = np.concatenate(list(grey), axis=1)
    image = Image.fromarray((joined * 255).round().astype(np.uint8))
    scale = _HEIGHT / image.height
    return image.resize((round(image.width * scale), _HEIGHT), Image.Resampling.BILINEAR)
