"""Whether stated standard deviations are the errors that occur: many noise draws of one slice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.seeding import generator
from bmapest_ray.inversion.information import information_at
from bmapest_ray.inversion.parametrisation import Direct
from bmapest_ray.inversion.posterior import Posterior, coverage
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.solve import BatchMeasurement, invert_batch
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.simulate.factory import EngineOptions, build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.noise import add_noise, sigma_from_snr
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.tissue.fields import make_fields
from bmapest_ray.tissue.table import PAPER_3T

if TYPE_CHECKING:
    from bmapest_ray.inversion.result import Inversion
    from bmapest_ray.simulate.operator import LinearOperator

NOMINAL = (0.5, 0.6827, 0.8, 0.9, 0.95, 0.99)
"""Shares that intervals should cover; 0.6827 is one standard deviation."""
_FILLED = 0.3
_BATCH = 10


@dataclass(frozen=True)
class CalibrationCase:
    """What is drawn and fitted.

    Parameters
    ----------
    name
        Key of the row.
    protocol, snr, signal
        What is measured.
    constraints
        ``none`` or ``simplex``.
    filled
        Whether tissue (0.3 of each) fills the whole slice, so that no magnitude is weak.
    """

    name: str
    protocol: str
    snr: float
    signal: str
    constraints: str = "none"
    filled: bool = False


@dataclass(frozen=True)
class Calibration:
    """Errors beside stated standard deviations, over all head pixels and draws.

    Parameters
    ----------
    ratio
        Mean of squared error over Cramer-Rao bound, pixel by pixel.
    covered
        Share of fractions inside the interval of each of `NOMINAL`.
    width
        Mean stated standard deviation.
    error
        Root mean square error.
    weakest
        Smallest noise-free magnitude over sigma among the samples of the head.
    unfinished
        Draws whose solve did not converge.
    """

    ratio: float
    covered: tuple[float, ...]
    width: float
    error: float
    weakest: float
    draws: int
    unfinished: int

    def as_dict(self) -> dict[str, object]:
        """Return plain data."""
        return asdict(self)


def calibrate(
    case: CalibrationCase,
    *,
    anatomy: str,
    subject: str,
    matrix: int = 64,
    draws: int = 50,
) -> Calibration:
    """Fit many noise draws of one slice and compare the errors with the Cramer-Rao bound.

    Fits start at the truth: what is asked is whether errors are what is stated, not whether the
    solution is found. Pixels outside the head are known to be empty.
    """
    operator, truth, head = _scene(case, anatomy, subject, matrix)
    with torch.no_grad():
        clean = operator.forward(truth)
    level = sigma_from_snr(clean, case.snr)
    sigma = torch.full((len(operator.channels),), level)
    information = information_at(operator, truth, sigma, magnitude=case.signal == "magnitude")
    std = Posterior(information, None, head).spread("dense").std
    solved: list[Inversion] = []
    for drawn in _draws(clean, sigma, draws, subject):
        solved += _fitted(case, operator, drawn, sigma, truth, head)
    estimate = torch.stack([one.maps for one in solved])
    error = (estimate - truth)[..., head].double()
    return Calibration(
        ratio=float((error / std[:, head].double()).square().mean()),
        covered=tuple(coverage(estimate, std, truth, head, z) for z in _deviations()),
        width=float(std[:, head].mean()),
        error=float(error.square().mean().sqrt()),
        weakest=float(clean[:, head].abs().min() / level),
        draws=len(estimate),
        unfinished=sum(not one.converged for one in solved),
    )


def _scene(
    case: CalibrationCase, anatomy: str, subject: str, matrix: int
) -> tuple[LinearOperator, Tensor, Tensor]:
    """Return the operator, the true fractions and where there is tissue."""
    where = SliceSpec.parse("below-top:75")
    maps = load_slice(open_anatomy(anatomy), subject, where, matrix, 216.0)
    truth, head = maps.fraction, maps.head
    if case.filled:
        truth = torch.where(head, truth, torch.full_like(truth, _FILLED))
        head = torch.ones_like(head)
    fields = make_fields("analytic", "analytic", maps)
    scene = Scene(parse_protocol(case.protocol), VoxelGrid(matrix, 0.216), fields, PAPER_3T)
    operator: LinearOperator = build_operator(scene, EngineOptions()).operator  # type: ignore[assignment]
    return operator, truth, head


def _fitted(
    case: CalibrationCase,
    operator: LinearOperator,
    drawn: Tensor,
    sigma: Tensor,
    truth: Tensor,
    head: Tensor,
) -> tuple[Inversion, ...]:
    """Fit a batch of noisy images, starting at the truth."""
    seen = drawn.abs() if case.signal == "magnitude" else drawn
    return invert_batch(
        BatchMeasurement(seen, case.signal, sigma),
        operator,
        solver=SolverSettings(signs="none", support="all"),
        start=truth,
        constraints=case.constraints,
        parametrisation=Direct(support=head.expand(len(seen), *head.shape)),
    )


def _deviations() -> Sequence[float]:
    shares = torch.tensor(NOMINAL, dtype=torch.float64)
    deviations: list[float] = (2**0.5 * torch.erfinv(shares)).tolist()
    return deviations


def _draws(clean: Tensor, sigma: Tensor, draws: int, subject: str) -> Iterator[Tensor]:
    """Yield batches of noisy images ``(batch, channel, y, x)``."""
    for start in range(0, draws, _BATCH):
        numbers = range(start, min(start + _BATCH, draws))
        yield torch.stack(
            [add_noise(clean, sigma, generator("calibration", subject, n)) for n in numbers]
        )
