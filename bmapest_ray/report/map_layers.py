"""The maps of a report: one small grey picture per layer, which the page colours and windows."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.figures.job_panel import read_maps
from bmapest_ray.report.evidence import MOST_SHOWN, Evidence

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class MapLayers:
    """Maps of one subject and slice.

    Parameters
    ----------
    where
        Subject and slice in words.
    labels
        Protocols, best first.
    layers
        ``truth``, and ``estimate:0``, ``std:0``, ``image:0``, ... of the protocol at a place in
        `labels`. Shape `(row, y, x)` with a row per tissue, one row for an image.
    """

    where: str
    labels: tuple[str, ...]
    layers: Mapping[str, Pixels]

    @property
    def matrix(self) -> int:
        """Pixels along x."""
        return int(self.layers["truth"].shape[-1])

    @property
    def largest_std(self) -> float:
        """Standard deviation below which 99 % of those shown are; 0 where none are."""
        known = [v[v > 0] for name, v in self.layers.items() if name.startswith("std:")]
        return float(np.quantile(np.concatenate(known), 0.99)) if known else 0.0

    def has(self, kind: str) -> bool:
        """Whether there is a layer of a kind: ``std``, ``image``."""
        return any(name.startswith(f"{kind}:") for name in self.layers)


def map_layers(evidence: Evidence, wanted: tuple[str, ...] = ()) -> MapLayers | None:
    """Gather the typical subject's maps under the best protocols; None where no job left any.

    Parameters
    ----------
    evidence
        What the study found.
    wanted
        Protocols that must be there, e.g. a pair that was asked for.
    """
    directory = evidence.result.study.directory
    ranked = [row.label for row in evidence.ranked]
    chosen = [label for label in ranked[:MOST_SHOWN] if label not in wanted]
    chosen = sorted({*chosen[: MOST_SHOWN - len(wanted)], *wanted}, key=ranked.index)
    layers: dict[str, Pixels] = {}
    labels: list[str] = []
    where = ""
    for label in chosen:
        job = evidence.typical_job(label)
        maps = None if job is None else read_maps(job, directory)
        truth = None if job is None else read_maps(job, directory, "truth_")
        if job is None or maps is None or truth is None:
            continue
        where = f"sub-{job.subject}, slice {job.slice}"
        layers.setdefault("truth", truth)
        layers[f"estimate:{len(labels)}"] = maps
        shown = evidence.shown.get(job.id)
        if shown is not None:
            layers[f"image:{len(labels)}"] = shown.image[None]
            if shown.std is not None:
                layers[f"std:{len(labels)}"] = shown.std
        labels.append(label)
    return MapLayers(where, tuple(labels), layers) if labels else None


def encoded(layer: Pixels, low: float, high: float) -> str:
    """Return a layer as a grey PNG in a data URI: rows side by side, anterior up.

    Parameters
    ----------
    layer
        Shape `(row, y, x)`.
    low, high
        Values of black and white; what lies outside is clipped.
    """
    from PIL import Image

    scaled = np.clip((layer - low) / (high - low), 0.0, 1.0)
    grey = np.round(255 * scaled).astype(np.uint8)[:, ::-1]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(list(grey), axis=1)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
