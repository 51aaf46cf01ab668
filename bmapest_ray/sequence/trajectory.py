"""Where a rendered sequence takes its samples in k-space, by its own gradients."""

from typing import Any

import numpy as np
import numpy.typing as npt

from bmapest_ray.sequence.events import AdcReadout

Positions = npt.NDArray[np.float64]


def sample_positions(
    sequence: Any,  # noqa: ANN401 - pypulseq has no types
    readouts: tuple[AdcReadout, ...],
) -> tuple[Positions, ...]:
    """Return kx and ky [1/m] of every sample of each receive window.

    Excitations restart the path and refocusing pulses mirror it.

    Parameters
    ----------
    sequence
        A `pypulseq.Sequence`.
    readouts
        Its receive windows in the order of acquisition.

    Returns
    -------
    tuple of ndarray
        One per window, shape ``(sample, 2)``.
    """
    played = np.asarray(sequence.calculate_kspace()[0], dtype=np.float64).T[:, :2]
    ends = np.cumsum([readout.samples for readout in readouts])
    return tuple(np.split(played, ends[:-1]))
