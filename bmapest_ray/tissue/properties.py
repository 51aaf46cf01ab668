"""Voxel properties from tissue fractions, for both mixing models."""

from __future__ import annotations

import torch

from bmapest_ray.tissue.mixing import Mixing
from bmapest_ray.tissue.table import TissueTable

_FLOOR = 1e-6
_RELAXATION = ("t1_s", "t2_s", "t2dash_s", "diffusivity_m2_per_s")

PROPERTIES = ("pd", *_RELAXATION)
"""What decides the signal of a voxel, beside the fields."""


def mixed_properties(
    fractions: torch.Tensor, table: TissueTable, mixing: Mixing
) -> dict[str, torch.Tensor]:
    """Return proton density and relaxation of every part of every voxel, SI units.

    Parameters
    ----------
    fractions
        Shape ``(tissue, voxel)``.
    table
        Rows of pure tissues.
    mixing
        ``compartments``: one part per tissue, whose density is ``p_t PD_t``. ``average``: one part
        with the sums ``sum_t p_t X_t``; ``average-normalised`` divides all but the density by
        ``sum_t p_t``.

    Returns
    -------
    dict
        ``pd, t1_s, t2_s, t2dash_s, diffusivity_m2_per_s``, each ``(part, voxel)``. Times are kept
        above 1e-6 s, as MR-zero does.
    """

    def column(row: str) -> torch.Tensor:
        return table.column(row, device=fractions.device).to(fractions.dtype)[:, None]

    if mixing is Mixing.COMPARTMENTS:
        pure = {row: column(row).expand_as(fractions) for row in _RELAXATION}
        return {"pd": fractions * column("pd"), **pure}
    total = fractions.sum(dim=0, keepdim=True)
    divisor = total.clamp(min=_FLOOR) if mixing is Mixing.AVERAGE_NORMALISED else 1.0
    mixed = {"pd": (fractions * column("pd")).sum(dim=0, keepdim=True)}
    for row in _RELAXATION:
        floor = _FLOOR * 1e-9 if row == "diffusivity_m2_per_s" else _FLOOR
        value = (fractions * column(row)).sum(dim=0, keepdim=True) / divisor
        mixed[row] = value.clamp(min=floor)
    return mixed
