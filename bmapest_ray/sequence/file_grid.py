"""Which matrix and field of view the samples of a ``.seq`` file are meant for."""

import numpy as np

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.sequence.seq_file import SeqFile

_SLACK = 0.02
"""The samples of a grid end half a step inside its edge, give or take a rounded gradient."""


def grid_of(seq: SeqFile) -> tuple[int, float]:
    """Return matrix and field of view [m] that fit the k-space of a file.

    The file's definition gives the field of view, without one the step along the first window.
    How far samples go out gives the matrix: readouts may be oversampled, shifted, or cut short at
    one end.

    Raises
    ------
    InvalidInput
        If the samples of the first window do not move, or are too far apart for the definition.
    """
    first = seq.kspace_per_m[0][:, :2]
    steps = np.hypot(*np.diff(first, axis=0).T)
    step_per_m = float(np.median(steps)) if len(steps) else 0.0
    if not step_per_m > 0:
        raise InvalidInput(
            f"the samples of {seq.path} must move through k-space, got a first receive window that "
            "stands still; play a readout gradient"
        )
    straight = float(np.ptp(steps)) < 0.05 * step_per_m
    if straight and seq.fov_m is not None and seq.fov_m * step_per_m > 1.01:
        raise InvalidInput(
            f"the FOV definition of {seq.path} must be at most the {1 / step_per_m:.4g} m that the "
            f"steps of its first readout allow ({step_per_m:.4g} 1/m in {window_name(seq, 0)}), "
            f"got {seq.fov_m:.4g} m; correct the definition"
        )
    fov_m = round(1 / step_per_m if seq.fov_m is None else seq.fov_m, 6)
    return 2 * int(furthest_per_m(seq) * fov_m + 0.5 + _SLACK), fov_m


def furthest_per_m(seq: SeqFile) -> float:
    """Return the largest absolute kx or ky of a file, in 1/m."""
    return max(float(np.abs(k[:, :2]).max()) for k in seq.kspace_per_m)


def window_name(seq: SeqFile, window: int) -> str:
    """Return the block of a receive window."""
    numbers = [number for number, block in seq.blocks if block.adc is not None]
    return f"block {numbers[window]}"
