"""Which matrix and field of view the samples of a ``.seq`` file are meant for."""

import numpy as np

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.sequence.seq_file import SeqFile


def grid_of(seq: SeqFile) -> tuple[int, float]:
    """Return matrix and field of view [m] that fit the k-space of a file.

    The step along the first receive window gives the field of view unless the file defines one;
    lines give the matrix by their samples, other paths by how far out they go.

    Raises
    ------
    InvalidInput
        If the samples of the first window do not move.
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
    fov_m = 1 / step_per_m if straight or seq.fov_m is None else seq.fov_m
    if straight:
        return len(first), round(fov_m, 6)
    furthest_per_m = max(float(np.abs(k[:, :2]).max()) for k in seq.kspace_per_m)
    return 2 * round(furthest_per_m * fov_m), round(fov_m, 6)
