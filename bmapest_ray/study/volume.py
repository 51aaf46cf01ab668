"""All axial slices of one subject: simulated, inverted in batches, stacked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.memory import in_batches
from bmapest_ray.base.seeding import generator
from bmapest_ray.inversion.result import Inversion
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.solve import BatchMeasurement, invert_batch
from bmapest_ray.simulate.factory import BuiltOperator
from bmapest_ray.simulate.noise import add_noise, scaled_sigma, sigma_from_snr


@dataclass(frozen=True, eq=False)
class InvertedVolume:
    """Maps of all slices.

    Parameters
    ----------
    maps, truth
        Shape ``(tissue, z, y, x)``.
    affine
        ``(4, 4)``: index ``(x, y, z)`` to RAS world millimetres.
    psnr_db
        Over the whole volume, per tissue.
    unfinished
        Slices whose solve did not converge.
    """

    maps: Tensor
    truth: Tensor
    affine: NDArray[np.float64]
    psnr_db: tuple[float, ...]
    unfinished: int


def invert_volume(
    slices: list[tuple[float, TissueMaps]],
    built: BuiltOperator,
    *,
    snr: float | None,
    seed: int = 0,
    solver: SolverSettings | None = None,
    batch: int = 8,
    told: Callable[[int, int], None] | None = None,
) -> InvertedVolume:
    """Simulate every slice with one noise level, and invert them a batch at a time.

    Parameters
    ----------
    slices
        World z in mm and maps, from the feet up.
    built
        The model that makes the magnitudes and explains them; fields are those of every slice.
    snr
        Largest noise-free magnitude of the volume over sigma; None is noise-free.
    told
        Called with slices done and in all.
    batch
        Slices at once; halved where memory does not do.

    Raises
    ------
    InvalidInput
        If slices are not equally far apart, so that no affine describes them.
    """
    operator = built.operator
    affine = _affine(slices)
    truth = torch.stack([maps.fraction for _, maps in slices])
    with torch.no_grad():
        clean = torch.cat([operator.forward(part) for part in torch.split(truth, batch)])
    sigma = None
    if snr is not None:
        level = sigma_from_snr(clean, snr)
        sigma = scaled_sigma(level, float(built.dwell_s.max()), built.dwell_s).float()
        drawn = [add_noise(s, sigma, generator("volume", seed, n)) for n, s in enumerate(clean)]
        clean = torch.stack(drawn)
    start = torch.full_like(truth[0], 1 / (1 + len(truth[0])))
    settings = solver or SolverSettings()

    def invert_some(images: Sequence[Tensor]) -> tuple[Inversion, ...]:
        measured = BatchMeasurement(torch.stack(list(images)), "magnitude", sigma)
        return invert_batch(measured, operator, solver=settings, start=start)

    solved, unfinished = [], 0
    for result in in_batches(list(clean.abs()), invert_some, batch):
        unfinished += not result.converged
        solved.append(result.maps)
        if told is not None:
            told(len(solved), len(truth))
    maps = torch.stack(solved, dim=1)
    stacked = truth.transpose(0, 1)
    scores: list[float] = (-10 * torch.log10((maps - stacked).square().mean((1, 2, 3)))).tolist()
    return InvertedVolume(maps, stacked, affine, tuple(scores), unfinished)


def _affine(slices: list[tuple[float, TissueMaps]]) -> NDArray[np.float64]:
    heights = np.array([z for z, _ in slices])
    steps = np.diff(heights)
    if len(steps) and not np.allclose(steps, steps[0], atol=1e-3):
        raise InvalidInput(
            f"slices must be equally far apart, got steps of {steps.min():g} to {steps.max():g} "
            "mm; an anatomy without empty planes inside the head is needed"
        )
    affine = np.array(slices[0][1].affine, dtype=np.float64)
    affine[:, 2] = [0, 0, steps[0] if len(steps) else 1.0, 0]
    return affine
