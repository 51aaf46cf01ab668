"""A viewer of tissue maps for a browser: one file that needs nothing else."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

THICK = 5
"""A single slice is shown this many pixels thick, so that it can be seen from all sides."""


def save_viewer(
    maps: NDArray[np.float32],
    background: NDArray[np.float32] | None,
    affine: NDArray[np.float64],
    tissues: Sequence[str],
    path: Path,
    title: str,
) -> None:
    """Write one page with nilearn's viewer of every tissue.

    Parameters
    ----------
    maps
        Fractions. Shape `(tissue, y, x)`.
    background
        Image to show below them. Shape `(y, x)`.
    affine
        Shape `(4, 4)`: pixel index `(x, y, 0)` to RAS world millimetres.
    tissues
        Their names.
    path
        Of the page.
    title
        What is shown.
    """
    frames = [
        _frame(_view(maps[index], background, affine, name), name)
        for index, name in enumerate(tissues)
    ]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<link rel="icon" href="data:,"><style>body{margin:0;padding:1rem;background:#fff;'
        "color:#1a1a1a;font:16px system-ui,sans-serif}iframe{border:0;width:100%;height:300px}"
        f"</style></head><body><h1>{escape(title)}</h1>{''.join(frames)}</body></html>\n"
    )
    path.write_text(page, encoding="utf-8")


def _frame(page: str, name: str) -> str:
    return f'<iframe title="{escape(name)}" srcdoc="{escape(page, quote=True)}"></iframe>'


def _view(
    values: NDArray[np.float32],
    background: NDArray[np.float32] | None,
    affine: NDArray[np.float64],
    name: str,
) -> str:
    from nilearn.plotting import view_img

    below = False if background is None else _thick(background, affine)
    view = view_img(
        _thick(values, affine),
        bg_img=below,
        cmap="gray" if background is None else "viridis",
        symmetric_cmap=False,
        vmin=0.0,
        vmax=1.0,
        threshold=None if background is None else 0.05,
        black_bg=True,
        resampling_interpolation="nearest",
        title=name,
    )
    return re.sub(r'<link\s+rel="icon"[^>]*>', "", str(view.get_standalone()))  # it is on the web


def _thick(values: NDArray[np.float32], affine: NDArray[np.float64]) -> object:
    from nibabel import Nifti1Image

    step = abs(float(affine[0, 0]))
    thick = affine.copy()
    thick[2, 2] = step
    thick[2, 3] -= step * (THICK // 2)
    volume = np.repeat(values.T[:, :, None], THICK, axis=2)
    return Nifti1Image(volume, thick)  # type: ignore[no-untyped-call]
