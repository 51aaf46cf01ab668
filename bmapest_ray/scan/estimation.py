"""Find the nuisances of a scan: Gauss-Newton on the evidence of its intensities.

The gradient of the log evidence is the mean score over the posterior of the fractions (Fisher's
identity); its curvature is what voxels tell once their own fractions are uncertain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from bmapest_ray.scan.components import Components
from bmapest_ray.scan.nuisances import SignalModel
from bmapest_ray.scan.posterior import Moments, Observed, posterior
from bmapest_ray.scan.voxels import NoiseLevel, Voxels

_BLOCK = 8192
_LONGEST = 0.3
_STUCK = 1e3
_USUAL = 0.02
_LEAST = 0.02
_PULL = 0.002
_SHARES_PULL = 0.1
_RELATIVE_RANGE = (0.003, 0.2)


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over voxels that one step needs."""

    log_evidence: float
    score: Tensor
    information: Tensor
    squares: Tensor
    brightness: Tensor
    shares: Tensor
    weight: float

    def __add__(self, other: Sums) -> Sums:
        """Return the sums over both sets of voxels."""
        return Sums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, eq=False)
class Task:
    """What is maximised: log evidence of voxels plus log prior of the nuisances.

    Parameters
    ----------
    voxels, model, parts
        The data, how intensities come about, the mixtures that are possible.
    centre, spread
        Mean and standard deviation of the nuisances' prior; a spread of 0 keeps an entry fixed.
    weight
        How much a voxel counts: less than 1 where neighbours share what the model leaves out.
    """

    voxels: Voxels
    model: SignalModel
    parts: Components
    centre: Tensor
    spread: Tensor
    weight: float = 1.0

    @property
    def free(self) -> Tensor:
        """Which entries are fitted, bool."""
        return self.spread > 0

    @property
    def precision(self) -> Tensor:
        """Of the prior; 0 for fixed entries."""
        return torch.where(self.free, 1 / self.spread.clamp_min(1e-9).square(), 0.0)

    def gather(self, vector: Tensor, level: NoiseLevel) -> Sums:
        """Return the sums of a step over all voxels, block by block."""
        blocks = (self._of_block(block, vector, level) for block in self.voxels.blocks(_BLOCK))
        total = next(blocks)
        for part in blocks:
            total = total + part
        return total

    def objective(self, sums: Sums, vector: Tensor) -> float:
        """Return what is maximised."""
        penalty = float((self.precision * (vector - self.centre).square()).sum())
        return self.weight * sums.log_evidence - 0.5 * penalty

    def curvature(self, sums: Sums) -> Tensor:
        """Return the information of the free entries, data and prior."""
        total = self.weight * sums.information + torch.diag(self.precision)
        return total[self.free][:, self.free]

    def step(self, sums: Sums, vector: Tensor, damping: float) -> Tensor:
        """Return a damped Gauss-Newton step, at most `_LONGEST` in any entry."""
        gradient = self.weight * sums.score - self.precision * (vector - self.centre)
        hessian = self.curvature(sums)
        hessian = hessian + damping * torch.diag(hessian.diagonal())
        change = torch.zeros_like(vector)
        change[self.free] = torch.linalg.solve(hessian, gradient[self.free])
        shorter = min(1.0, _LONGEST / float(change.abs().max().clamp_min(1e-12)))
        change *= shorter
        return change

    def _of_block(self, block: Voxels, vector: Tensor, level: NoiseLevel) -> Sums:
        signals = self.model.signals(vector, block.where, block.b1)
        variance = level.variance(block.intensity)
        seen = Observed(
            block.intensity, variance, block.log_prior, block.log_other, self.model.signed
        )
        found = posterior(seen, signals.value, self.parts)
        keep = 1 - found.other
        squares, rows = [], []
        score = torch.zeros(self.model.layout.total, dtype=torch.float64)
        for c in range(block.intensity.shape[1]):
            slope = signals.derivative(c)
            signal, y = signals.value[:, c], block.intensity[:, c]
            spent = (found.second @ signal[:, :, None])[:, :, 0]
            pull = (found.signed[:, c] * y[:, None] - spent) * (keep / variance[:, c])[:, None]
            score += (slope * pull[:, None]).sum((0, 2)).double()
            rows.append((slope * found.mean[:, None]).sum(2))
            mixed = y**2 - 2 * y * (found.signed[:, c] * signal).sum(1) + (signal * spent).sum(1)
            squares.append((mixed * keep).sum().double())
        information = _information(torch.stack(rows, 1), signals.value, variance, found, keep)
        brightness = (block.intensity.square() * keep[:, None]).sum(0).double()
        return Sums(
            float(found.log_evidence.double().sum()),
            score,
            information,
            torch.stack(squares),
            brightness,
            (found.shares * keep[:, None]).sum(0),
            float(keep.sum()),
        )


def _information(
    rows: Tensor, signal: Tensor, variance: Tensor, found: Moments, keep: Tensor
) -> Tensor:
    """Sum ``J^T (S^-1 - S^-1 M V M^T S^-1) J`` over voxels: what is left once p is not known.

    Where a voxel may be one of several mixtures the bracket can turn negative: then it tells
    nothing.
    """
    root = variance.sqrt()[:, :, None]
    scaled, white = rows / root, signal / root
    hidden, axes = torch.linalg.eigh(white @ found.covariance @ white.transpose(1, 2))
    left = (1 - hidden).clamp_min(_LEAST).sqrt() * keep.sqrt()[:, None]
    told = left[:, :, None] * (axes.transpose(1, 2) @ scaled)
    flat = told.flatten(0, 1)
    total: Tensor = (flat.T @ flat).double()
    return total


@dataclass(frozen=True, eq=False)
class NuisanceFit:
    """Fitted nuisances.

    Parameters
    ----------
    vector, covariance
        The estimate and how sure it is; fixed entries have no variance.
    centre, prior_spread
        What was known before the scan.
    level
        Noise.
    shares
        How common the scan shows every component to be, `(component,)`.
    history
        What was maximised, per voxel, after every step.
    """

    vector: Tensor
    covariance: Tensor
    centre: Tensor
    prior_spread: Tensor
    level: NoiseLevel
    shares: Tensor
    history: tuple[float, ...]

    @property
    def spread(self) -> Tensor:
        """Standard deviation of every nuisance."""
        return self.covariance.diagonal().clamp_min(0).sqrt()


def fit_nuisances(
    task: Task,
    level: NoiseLevel,
    *,
    rounds: int = 8,
    steps: int = 8,
    tolerance: float = 1e-4,
    told: Callable[[int, float], None] | None = None,
) -> NuisanceFit:
    """Fit the nuisances, then the noise level, in turn.

    Parameters
    ----------
    rounds, steps, tolerance
        Rounds of both, Gauss-Newton steps in each, and the gain per voxel below which a round ends.
    told
        Called with the number of every step and the objective per voxel.
    """
    vector, damping, history = task.centre.clone(), 1e-3, list[float]()
    sums, start_shares = task.gather(vector, level), task.parts.shares
    for _ in range(rounds):
        value = task.objective(sums, vector)
        for _ in range(steps):
            trial = vector + task.step(sums, vector, damping)
            trial_sums = task.gather(trial, level)
            gain = task.objective(trial_sums, trial) - value
            if gain > 0:
                vector, sums, value, damping = trial, trial_sums, value + gain, damping / 5
            else:
                damping = max(damping, 1e-3) * 10
            history.append(value / len(task.voxels))
            if told is not None:
                told(len(history), history[-1])
            if 0 < gain < tolerance * task.weight * len(task.voxels) or damping > _STUCK:
                break
        damping = min(damping, 1e-1)
        level = _new_level(level, sums)
        task = replace(task, parts=_new_shares(task.parts, start_shares, sums))
        sums = task.gather(vector, level)
    covariance = torch.zeros_like(sums.information)
    index = torch.nonzero(task.free)[:, 0]
    covariance[index[:, None], index] = torch.linalg.inv(task.curvature(sums))
    shares = task.parts.shares
    return NuisanceFit(vector, covariance, task.centre, task.spread, level, shares, tuple(history))


def _new_level(level: NoiseLevel, sums: Sums) -> NoiseLevel:
    """Update the relative part from the residuals, with a weak pull to `_USUAL`."""
    pull = _PULL * sums.weight
    excess = (sums.squares / sums.weight - level.noise.double().square()).clamp_min(0)
    relative = excess / sums.brightness * sums.weight**2 + pull * _USUAL**2
    found = (relative / (sums.weight + pull)).sqrt().clamp(*_RELATIVE_RANGE)
    return replace(level, relative=found.to(level.relative))


def _new_shares(parts: Components, usual: Tensor, sums: Sums) -> Components:
    """Update how common full voxels are, with a weak pull to what is usual.

    Components that are partly empty keep their shares: freed, they would trade signal for scale.
    """
    full = parts.points.sum(1) > 1 - 1e-3
    found = torch.where(full, sums.shares / sums.weight, 0.0) + _SHARES_PULL * usual
    found = torch.where(full, found, 0.0)
    shares = torch.where(full, found / found.sum() * usual[full].sum(), usual)
    return replace(parts, shares=shares)
