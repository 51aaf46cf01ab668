"""What a picture of a sequence shows: the whole contrast, one repetition of it, its k-space."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bmapest_ray.figures.palette import OKABE_ITO
from bmapest_ray.sequence.diagram import Diagram, Track

USES = ("excitation", "refocusing", "inversion", "preparation", "saturation")
AXES = ("x", "y", "z")
USE_COLOURS = dict(zip(USES, OKABE_ITO, strict=False))
AXIS_COLOURS = dict(zip(AXES, (OKABE_ITO[0], OKABE_ITO[1], OKABE_ITO[2]), strict=True))


@dataclass(frozen=True)
class SequenceView:
    """One contrast, ready to be drawn.

    Parameters
    ----------
    title, caption
        Above and below the picture.
    whole
        Everything that is played.
    closeup_s
        Begin and end of the repetition that is shown large.
    images
        Names of the images.
    kspace_per_m
        Per receive window, in the order of acquisition. Shape ``(sample, 2)``.
    window_images
        Index of the image of each window.
    """

    title: str
    caption: str
    whole: Diagram
    closeup_s: tuple[float, float]
    images: tuple[str, ...]
    kspace_per_m: tuple[Track, ...]
    window_images: tuple[int, ...]

    def windows_of(self, image: int) -> list[Track]:
        """Return the k-space of the windows of one image."""
        pairs = zip(self.kspace_per_m, self.window_images, strict=True)
        return [k for k, mine in pairs if mine == image]


def pulse_track(diagram: Diagram, use: str) -> Track:
    """Return stems of the pulses of one use: time [s] and flip angle [deg], shape ``(point, 2)``.

    NaN separates them, so that one line draws all.
    """
    mine = diagram.pulses[np.array([known == use for known in diagram.uses], dtype=bool)]
    middle = mine[:, :2].mean(axis=1)
    stems = np.full((len(mine), 3, 2), np.nan)
    stems[:, 0] = np.column_stack([middle, np.zeros(len(mine))])
    stems[:, 1] = np.column_stack([middle, mine[:, 2]])
    return stems.reshape(-1, 2)


def window_track(diagram: Diagram, image: int | None = None) -> Track:
    """Return receive windows as boxes of height 1, shape ``(point, 2)``, NaN between."""
    keep = [image is None or known == image for known in diagram.images]
    mine = diagram.windows[np.array(keep, dtype=bool)]
    boxes = np.full((len(mine), 5, 2), np.nan)
    boxes[:, :4, 1] = (0.0, 1.0, 1.0, 0.0)
    boxes[:, (0, 1), 0] = mine[:, :1]
    boxes[:, (2, 3), 0] = mine[:, 1:2]
    return boxes.reshape(-1, 2)


def time_unit(span_s: float) -> tuple[float, str]:
    """Return factor and name of the unit in which a span is read best."""
    return (1e3, "ms") if span_s < 1.0 else (1.0, "s")


def kspace_points(windows: Sequence[Track]) -> Track:
    """Return windows one after the other with NaN between, shape ``(point, 2)``."""
    gap = np.full((1, 2), np.nan)
    return np.concatenate([part for window in windows for part in (window, gap)])
