"""Whether what a fit says of its nuisances holds where the truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bmapest_ray.scan.estimate import ScanFit
from bmapest_ray.scan.nuisances import BIAS_DEGREE, polynomials

INTERVAL = 1.96


@dataclass(frozen=True)
class Checked:
    """One number against its truth.

    Parameters
    ----------
    name
        E.g. ``t1 GM``.
    error, spread
        Estimate minus truth and the stated standard deviation, relative.
    """

    name: str
    error: float
    spread: float

    @property
    def inside(self) -> bool:
        """Whether the truth lies in the stated 95 % interval."""
        return abs(self.error) <= INTERVAL * self.spread


def tissue_values(fit: ScanFit, logs: Tensor) -> list[Checked]:
    """Compare T1, T2 and PD; `logs` are the true relative changes `(property, tissue)`."""
    split = fit.model.layout.split
    found, spread = split(fit.nuisances.vector), split(fit.nuisances.spread)
    tissues = fit.model.response.table.names
    return [
        Checked(f"{name} {tissue}", float(found[name][t] - logs[row, t]), float(spread[name][t]))
        for row, name in enumerate(("t1", "t2", "pd"))
        for t, tissue in enumerate(tissues)
    ]


def gains(
    fit: ScanFit, scale: NDArray[np.float64], bias: NDArray[np.float32]
) -> tuple[list[Checked], float]:
    """Compare the scale of every contrast, and the share of bias that lies in its intervals.

    The scale is the mean log gain over the head, the bias what is left of the log gain.

    Parameters
    ----------
    scale, bias
        True, `(contrast,)` and `(contrast, z, y, x)`.
    """
    terms = _terms(fit.mask)
    middle = terms.mean(0)
    places = fit.model.layout.places()
    held, inside = [], []
    count = bias.shape[0]
    width = terms.shape[1] - 1
    for c in range(count):
        first = places["bias"].start + c * width
        index = torch.tensor([places["scale"].start + c, *range(first, first + width)])
        vector, covariance = fit.nuisances.vector[index], fit.nuisances.covariance[index][:, index]
        truth = torch.from_numpy(np.log(bias[c][fit.mask].astype(np.float64)))
        off = float(middle @ vector) - float(np.log(scale[c])) - float(truth.mean())
        spread = float((middle @ covariance @ middle).sqrt())
        held.append(Checked(f"scale {fit.model.response.names[c]}", off, spread))
        around = terms - middle
        error = around @ vector - (truth - truth.mean())
        sd = ((around @ covariance) * around).sum(1).clamp_min(0).sqrt()
        inside.append(float((error.abs() <= INTERVAL * sd).double().mean()))
    return held, sum(inside) / count


def _terms(mask: NDArray[np.bool_]) -> Tensor:
    """Return the polynomials of the bias at the voxels of a mask, `(voxel, term)`, float64."""
    z, y, x = np.nonzero(mask)
    place = torch.from_numpy(np.stack([x, y, z], 1)).double()
    low, high = place.amin(0), place.amax(0)
    return polynomials(2 * (place - low) / (high - low).clamp_min(1) - 1, BIAS_DEGREE)
