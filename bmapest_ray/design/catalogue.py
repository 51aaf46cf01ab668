"""A catalogue of contrasts to choose from, each with what it tells and how long it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.design.fisher import image_information, k_weights, prior_precision
from bmapest_ray.design.setting import DesignSetting
from bmapest_ray.design.signals import chain_signals
from bmapest_ray.sequence.protocol import Chain, Contrast, Protocol

_WEAK_STD = 10.0
"""Prior that keeps one or two contrasts invertible while a choice is built up."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Contrasts, each a chain of its own from equilibrium, so that information adds up.

    Parameters
    ----------
    contrasts
        What may be played.
    seconds
        Scan time of each, its pause included, ``(contrast,)``.
    information
        ``(contrast, point, tissue, tissue)``; a point is a frequency at a voxel. A weak prior is
        left out.
    weight
        Share of each point in a mean, ``(point,)``.
    weak
        Precision that is added always, ``(tissue, tissue)``.
    """

    contrasts: tuple[Contrast, ...]
    seconds: Tensor
    information: Tensor
    weight: Tensor
    weak: Tensor

    def __len__(self) -> int:
        """Return the number of contrasts."""
        return len(self.contrasts)

    def names(self, chosen: Sequence[int]) -> tuple[str, ...]:
        """Return the names of chosen contrasts."""
        return tuple(self.contrasts[i].name for i in chosen)

    def variance(self, shares: Tensor) -> Tensor:
        """Return the mean variance of subsets or shares ``(..., contrast)``, shape ``(...)``."""
        total = torch.tensordot(shares.to(self.information.dtype), self.information, dims=1)
        return trace_of_inverse(total + self.weak) @ self.weight / self.weak.shape[-1]

    def slope(self, shares: Tensor) -> tuple[float, Tensor]:
        """Return the mean variance of shares ``(contrast,)`` and its gradient."""
        total = torch.tensordot(shares.to(self.information.dtype), self.information, dims=1)
        inverse = torch.linalg.inv(total + self.weak)
        squares = inverse @ inverse
        tissues = self.weak.shape[-1]
        traces = inverse.diagonal(dim1=-2, dim2=-1).sum(-1).real
        gradient = -torch.einsum("p,puv,cpvu->c", self.weight.to(squares), squares,
                                 self.information).real  # fmt: skip
        return float(traces @ self.weight) / tissues, gradient / tissues

    def protocol(self, chosen: Sequence[int], like: Protocol, *, continuous: bool) -> Protocol:
        """Return the chosen contrasts as a protocol: chains from equilibrium, or one chain.

        One chain is preceded by a cycle that is not received, to be near its steady state.
        """
        picked = tuple(self.contrasts[i] for i in chosen)
        if continuous:
            return replace(like, chains=(Chain(picked, 1),), continuous=True)
        return replace(like, chains=tuple(Chain((c,)) for c in picked), continuous=False)


def trace_of_inverse(matrix: Tensor) -> Tensor:
    """Return the trace of the inverse of Hermitian matrices ``(..., n, n)``; closed form for 3."""
    if matrix.shape[-1] != 3:
        inverse: Tensor = torch.linalg.inv(matrix).diagonal(dim1=-2, dim2=-1).sum(-1).real
        return inverse
    a, b, c = (matrix[..., i, i].real for i in range(3))
    d, e, f = matrix[..., 0, 1], matrix[..., 0, 2], matrix[..., 1, 2]
    dd, ee, ff = (x.real.square() + x.imag.square() for x in (d, e, f))
    determinant = a * b * c + 2 * (d * f * e.conj()).real - a * ff - b * ee - c * dd
    trace: Tensor = (b * c - ff + a * c - ee + a * b - dd) / determinant
    return trace


def make_catalogue(
    protocol: Protocol, setting: DesignSetting, *, lines: int | None = None
) -> Catalogue:
    """Make a catalogue of the contrasts of a protocol.

    Parameters
    ----------
    protocol
        Its contrasts, with their pauses.
    setting
        Circumstances, without nuisances.
    lines
        Take so many lines, evenly spaced from the centre outwards, in place of all.

    Raises
    ------
    InvalidInput
        If the setting has nuisances, or all contrasts together do not identify the tissues.
    """
    if setting.nuisances:
        msg = "a catalogue needs a setting without nuisances, got some; leave them out"
        raise InvalidInput(msg)
    grid = setting.acquisition
    weights, kept = _points(setting, lines)
    found, seconds = [], []
    with torch.no_grad():
        for contrast in protocol.contrasts:
            chain = Chain((contrast,))
            signals = chain_signals(chain, protocol, setting).at()
            information = image_information(signals, setting).sum(0)[kept]
            found.append(information.flatten(0, 1))
            seconds.append(chain.write(grid.matrix, grid.fov_m, protocol.scanner).time_s)
    tissues, voxels = len(setting.table.names), len(setting.voxels)
    weak = prior_precision(setting) + torch.eye(tissues) / _WEAK_STD**2
    catalogue = Catalogue(
        contrasts=protocol.contrasts,
        seconds=torch.tensor(seconds, dtype=torch.float64),
        information=torch.stack(found),
        weight=weights.repeat_interleave(voxels) / voxels,
        weak=weak,
    )
    check_catalogue(catalogue)
    return catalogue


def _points(setting: DesignSetting, lines: int | None) -> tuple[Tensor, Tensor]:
    """Return the weights of the frequencies that are kept, and which they are."""
    weights = k_weights(setting)
    matrix, columns = setting.acquisition.matrix, setting.columns
    if lines is None or lines >= matrix // 2:
        return weights, torch.arange(len(weights))
    places = np.round((np.arange(lines) + 0.5) * (matrix // 2 - 1) / lines).astype(int)
    rows = torch.from_numpy(matrix // 2 + places)
    # k and -k tell the same: half of the columns will do
    half = torch.arange(columns // 2, columns)
    kept = (rows[:, None] * columns + half).flatten()
    chosen = weights[kept]
    return chosen / chosen.sum(), kept


def check_catalogue(catalogue: Catalogue) -> None:
    """Refuse a catalogue that does not identify the tissues even if all of it is played.

    Raises
    ------
    InvalidInput
        Says with how many contrasts, and how badly.
    """
    everything = torch.ones(len(catalogue), dtype=torch.float64)
    std = float(catalogue.variance(everything)) ** 0.5
    if std > 1.0:
        msg = (
            f"a catalogue must identify {catalogue.weak.shape[-1]} tissues, got {len(catalogue)} "
            f"contrast(s) that together leave a standard deviation of {std:.3g} of a fraction; "
            "add contrasts that differ in T1 or T2"
        )
        raise InvalidInput(msg)
