"""Checks before a solve: what is a wrong call, what is hopeless data, what is undetermined."""

from __future__ import annotations

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.inversion.ports import ForwardModel, MeasurementLike
from bmapest_ray.inversion.problem import Problem


def check_shapes(measurement: MeasurementLike, operator: ForwardModel, start: Tensor) -> None:
    """Check that images, operator and start belong together.

    Raises
    ------
    InvalidInput
        If shapes differ, sigma is not positive, or the start is not finite.
    """
    images = measurement.images
    if images.ndim != 4 or images.shape[-3] != len(operator.channels):
        msg = (
            f"images must have {len(operator.channels)} channels as the operator has, got shape "
            f"{tuple(images.shape)}; use the protocol that was measured"
        )
        raise InvalidInput(msg)
    if images.shape[-2:] != start.shape[-2:]:
        msg = (
            f"start and images must have one matrix, got {tuple(start.shape[-2:])} and "
            f"{tuple(images.shape[-2:])}; resample the start"
        )
        raise InvalidInput(msg)
    if not bool(torch.isfinite(start).all()):
        msg = "start must be finite everywhere, got NaN or infinity; fill the holes first"
        raise InvalidInput(msg)
    _check_sigma(measurement.sigma, images.shape[-3])


def _check_sigma(sigma: Tensor | None, channels: int) -> None:
    if sigma is None:
        return
    if tuple(sigma.shape) != (channels,) or not bool((sigma > 0).all() & sigma.isfinite().all()):
        msg = (
            f"sigma must hold one positive number per channel ({channels}), got {sigma.tolist()}; "
            "leave it out for noise-free data"
        )
        raise InvalidInput(msg)


def hopeless(measurement: MeasurementLike) -> list[str | None]:
    """Say for each batch item why no solver can use it, or None."""
    reasons: list[str | None] = []
    for images in measurement.images:
        if not bool(torch.isfinite(images.abs()).all()):
            bad = int((~torch.isfinite(images.abs())).sum())
            reasons.append(f"{bad} measured samples are NaN or infinite; mask or measure again.")
        elif not bool((images.abs() > 0).any()):
            reasons.append("All measured images are zero: there is nothing to fit.")
        else:
            reasons.append(None)
    return reasons


def underdetermined(problem: Problem) -> bool:
    """Whether voxel-wise unknowns outnumber the contrasts and no prior fills the gap.

    Coils see the same contrast and the phase of a voxel is known from the fields, so every image
    counts as one equation per voxel.
    """
    if problem.prior is not None:
        return False
    unknowns = problem.parametrisation.per_voxel(int(getattr(problem.model, "tissues", 3)))
    return len({channel.image for channel in problem.model.channels}) < unknowns
