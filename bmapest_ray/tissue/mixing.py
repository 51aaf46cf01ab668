"""How the signal of a voxel follows from its tissue fractions."""

from __future__ import annotations

from enum import StrEnum


class Mixing(StrEnum):
    """The named mixing models.

    ``COMPARTMENTS``: the signal is the sum of the tissues' signals, ``s = sum_t p_t s_t``; the
    complex signal is linear in the fractions.

    ``AVERAGE``: the voxel has one set of properties, ``T1 = sum_t p_t T1_t`` and likewise T2, T2',
    D and PD, as in BMapEst (arXiv 2404.14739); non-linear.

    ``AVERAGE_NORMALISED``: as ``AVERAGE`` with T1, T2, T2' and D divided by ``sum_t p_t``, so that
    the rim of the head keeps its tissue's relaxation times; PD stays ``sum_t p_t PD_t``.
    """

    COMPARTMENTS = "compartments"
    AVERAGE = "average"
    AVERAGE_NORMALISED = "average-normalised"

    @property
    def is_linear(self) -> bool:
        """Whether the complex signal is linear in the fractions."""
        return self is Mixing.COMPARTMENTS
