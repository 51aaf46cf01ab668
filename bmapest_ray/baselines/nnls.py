"""Non-negative least squares of the tissues' signals, each voxel on its own.

For magnitudes the model ``|sum_t B_t p_t|`` is linearised at the current fractions, as Gauss-Newton
does: ``Re(conj(u) B) p`` with the phase ``u`` of ``B p``. Where tissues have opposite signs
(inversion recovery) the start decides which sign is found, so several starts are tried and the one
that explains the voxel best is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.baselines.baseline import as_maps, check_inputs
from bmapest_ray.baselines.signals import head_mask, tissue_signals
from bmapest_ray.inversion.ports import ForwardModel, MeasurementLike

_SUM_WEIGHT = 1e3
"""Weight of the equation "tissues and background sum to 1", against 1 for the data."""

_SAME_PHASE = 1e-4
"""Change of a voxel's phase factors below which it is not linearised again."""

_Real = NDArray[np.float64]


@dataclass(frozen=True)
class VoxelNnls:
    """Voxel-wise NNLS with sum <= 1, and optionally a pull towards the cohort mean.

    Raises
    ------
    InvalidInput
        If a setting is out of range.
    """

    name: ClassVar[str] = "nnls"
    title: ClassVar[str] = "Voxel-wise NNLS"

    ridge: float = 0.0
    """Weight of the cohort mean: 1 counts it as much as a voxel full of the brightest tissue."""
    background: float = 0.0
    """Voxels darker than this share of the bright ones are background; see `head_mask`."""
    rounds: int = 4
    """Linearisations of magnitude data."""

    def __post_init__(self) -> None:
        """Check the settings."""
        if not (self.ridge >= 0 and 0 <= self.background < 1 and self.rounds >= 1):
            raise InvalidInput(
                f"NNLS needs ridge >= 0, background in [0, 1) and rounds >= 1, got {self}"
            )

    def estimate(
        self, measurement: MeasurementLike, operator: ForwardModel, cohort: Tensor
    ) -> Tensor:
        """Solve every voxel; see `Baseline.estimate`."""
        check_inputs(measurement, cohort)
        images = measurement.images
        seen = images.detach().cpu().numpy()
        inside = head_mask(np.abs(seen).astype(np.float64), cohort, self.background)
        signals = tissue_signals(operator, cohort.shape[1], images.shape[-1], images.device)
        weights = _channel_weights(measurement.sigma, len(signals))
        mean = cohort.double().mean(0).cpu().numpy()[:, inside].T
        model = (signals * weights[:, None, None, None])[..., inside].transpose(2, 0, 1)
        data = (seen * weights[:, None, None])[:, inside].T
        fraction = np.zeros((cohort.shape[1], *inside.shape))
        fraction[:, inside] = _Voxels(model, data, mean, self.ridge).solve(self.rounds).T
        return as_maps(fraction, images)

    @classmethod
    def grid(cls) -> tuple[Self, ...]:
        """Return six pulls to the cohort mean, with and without a background threshold."""
        ridges, backgrounds = (0.0, 0.01, 0.03, 0.1, 0.2, 0.4), (0.0, 0.1)
        return tuple(cls(r, b) for r, b in product(ridges, backgrounds))


def _channel_weights(sigma: Tensor | None, channels: int) -> _Real:
    if sigma is None:
        return np.ones(channels)
    level = sigma.detach().cpu().numpy().astype(np.float64)
    return np.asarray(level.min() / level)


class _Voxels:
    """The voxels' problems, scaled so that the brightest tissue's signal has the norm 1.

    Parameters
    ----------
    model
        Complex, shape `(voxel, channel, tissue)`.
    data
        Complex or magnitude, shape `(voxel, channel)`.
    mean
        Cohort mean, shape `(voxel, tissue)`.
    """

    def __init__(
        self, model: NDArray[np.complex128], data: NDArray[np.inexact], mean: _Real, ridge: float
    ) -> None:
        power = (np.abs(model) ** 2).sum(axis=1).max(axis=1)
        scale = float(np.sqrt(power.mean())) if power.size else 1.0
        self.model, self.data = model / scale, data / scale
        self.mean, self.ridge = mean, ridge

    def solve(self, rounds: int) -> _Real:
        """Return fractions of shape `(voxel, tissue)`."""
        if np.iscomplexobj(self.data):
            rows = np.concatenate([self.model.real, self.model.imag], axis=1)
            seen = np.concatenate([self.data.real, self.data.imag], axis=1)
            return self._nnls(np.arange(len(rows)), rows, seen)
        everywhere = np.arange(len(self.model))
        best = self._magnitude(everywhere, self.mean, rounds)
        cost = self._cost(everywhere, best)
        ambiguous = np.flatnonzero(_has_two_signs(self.model))
        for pure in np.eye(self.model.shape[-1]):
            start = np.broadcast_to(pure, (len(ambiguous), len(pure)))
            other = self._magnitude(ambiguous, start, rounds)
            improved = self._cost(ambiguous, other) < cost[ambiguous]
            best[ambiguous[improved]] = other[improved]
            cost = self._cost(everywhere, best)
        return best

    def _magnitude(self, voxels: NDArray[np.intp], start: _Real, rounds: int) -> _Real:
        model, seen = self.model[voxels], self.data[voxels].real
        fraction = np.where(start.sum(axis=1, keepdims=True) > 0, start, 1 / start.shape[1])
        used = np.zeros(seen.shape, dtype=np.complex128)
        for _ in range(rounds):
            image = np.einsum("vct,vt->vc", model, fraction)
            phase = np.where(image == 0, 1, image / np.maximum(np.abs(image), 1e-300))
            turned = np.flatnonzero((np.abs(phase - used) > _SAME_PHASE).any(axis=1))
            rows = (phase[turned].conj()[..., None] * model[turned]).real
            fraction[turned] = self._nnls(voxels[turned], rows, seen[turned])
            used[turned] = phase[turned]
        return fraction

    def _nnls(self, voxels: NDArray[np.intp], rows: _Real, seen: _Real) -> _Real:
        """Solve with one more unknown, the background, that fills the sum up to 1."""
        from scipy.optimize import nnls

        count, channels, tissues = rows.shape
        matrix = np.zeros((count, channels + tissues + 1, tissues + 1))
        matrix[:, :channels, :tissues] = rows
        matrix[:, channels:-1, :tissues] = self.ridge * np.eye(tissues)
        matrix[:, -1] = _SUM_WEIGHT
        pull = self.ridge * self.mean[voxels]
        right = np.concatenate([seen, pull, np.full((count, 1), _SUM_WEIGHT)], axis=1)
        solved = [nnls(m, r, maxiter=100)[0] for m, r in zip(matrix, right, strict=True)]
        return np.array(solved).reshape(count, tissues + 1)[:, :tissues]

    def _cost(self, voxels: NDArray[np.intp], fraction: _Real) -> _Real:
        image = np.abs(np.einsum("vct,vt->vc", self.model[voxels], fraction))
        misfit = ((image - self.data[voxels].real) ** 2).sum(axis=1)
        pull = ((fraction - self.mean[voxels]) ** 2).sum(axis=1)
        return np.asarray(misfit + self.ridge**2 * pull)


def _has_two_signs(model: NDArray[np.complex128]) -> NDArray[np.bool_]:
    """Return for every voxel whether tissues have opposite phases in any channel."""
    gram = (model[..., :, None] * model[..., None, :].conj()).real
    return np.asarray((gram < 0).any(axis=(1, 2, 3)))
