"""Does the model explain the data? ``OK`` or ``MISFIT`` from the whitened residual.

Three statistics of the residual, each a sum of squares that grows with a misfit:

- ``size``: of all samples, for a wrong noise level or gross errors;
- ``space``: of its means over 4 x 4 pixels, for what varies slowly in space (wrong fields);
- ``tissue``: of its projections on each tissue's part of each image, for wrong tissue values.

A fit takes up part of the noise, so neither degrees of freedom nor moments are those of pure noise.
Both come from refits: noise as the model predicts it (complex Gaussian, or Rician around the fitted
magnitudes) is added to the fitted images and fitted again, linearised, with the prior but without
constraints. The residual itself goes through the same refit. So it does not matter where the fit
stopped, nor that constraints bias it: both are small beside the noise of a voxel, but statistics
sum over thousands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import torch
from scipy.stats import chi2
from torch import Tensor

from bmapest_ray.inversion.coarse import stand_in
from bmapest_ray.inversion.conjugate_gradients import solve_spd
from bmapest_ray.inversion.information import Information
from bmapest_ray.inversion.loss_rician import rician_moments
from bmapest_ray.inversion.prior_choice import SampledPrior
from bmapest_ray.inversion.prior_gaussian import invert_blocks

REFITS = 24
FALSE_ALARM = 0.004
"""Probability of each statistic to alarm without reason."""
BLOCK = 4
RIDGE = 1e-3
"""Of the refits, relative to the mean information: voxels without any are left as they are."""
NOISE_FREE_RESIDUAL = 1e-3
"""Residual over data (root mean square) that noise-free data may leave."""


class Fit(StrEnum):
    """Whether the residual looks like noise."""

    OK = "OK"
    MISFIT = "MISFIT"


@dataclass(frozen=True)
class Verdict:
    """What the residual says.

    Parameters
    ----------
    fit
        ``OK`` or ``MISFIT``.
    message
        The reason in one sentence.
    ratios
        Each statistic over its expectation.
    probabilities
        Chance of so large a statistic if the model were right.
    """

    fit: Fit
    message: str
    ratios: dict[str, float]
    probabilities: dict[str, float]


def judge_fit(
    images: Tensor,
    information: Information,
    prior: SampledPrior | None,
    *,
    free: Tensor | None = None,
    seed: int = 0,
) -> Verdict:
    """Compare the residual of a fit with that of refits to simulated noise.

    Parameters
    ----------
    images
        The data, complex or magnitudes as `information` says, ``(channel, y, x)``.
    information
        Model and noise level at the fitted maps.
    prior
        The prior of the fit.
    free
        Voxels that could hold tissue, bool ``(y, x)``; None is all.
    """
    free = torch.ones_like(information.maps[0], dtype=torch.bool) if free is None else free
    generator = torch.Generator().manual_seed(seed)
    statistics = _statistics(information)
    cheap = stand_in(information.model)  # residual and noise go through the same refit
    quick = information if cheap is None else replace(information, model=cheap)
    refit = _refitting(quick, prior, free)
    slope = 0.0 if prior is None else prior.gradient(information.maps[None])
    seen = statistics(refit(_residual(images[None], information), slope))
    drawn = statistics(refit(_noise(information, generator), _pulls(information, prior, generator)))
    ratios, chances = {}, {}
    for name, value in seen.items():
        mean, variance = drawn[name].mean(), drawn[name].var()
        degrees = float(2 * mean.square() / variance)
        ratios[name] = float(value / mean)
        chances[name] = float(chi2.sf(degrees * ratios[name], degrees))
    return _verdict(ratios, chances)


def judge_noise_free(images: Tensor, predicted: Tensor) -> Verdict:
    """Ask whether noise-free data are reproduced; both complex or both magnitudes."""
    left, size = (part.abs().square().mean().sqrt() for part in (images - predicted, images))
    ratio = float(left / size)
    fit = Fit.OK if ratio <= NOISE_FREE_RESIDUAL else Fit.MISFIT
    text = f"the residual is {ratio:.1e} of the noise-free data (limit {NOISE_FREE_RESIDUAL:g})"
    return Verdict(fit, text, {"relative": ratio}, {})


def _verdict(ratios: dict[str, float], chances: dict[str, float]) -> Verdict:
    alarms = [name for name, chance in chances.items() if not chance >= FALSE_ALARM]
    shown = ", ".join(f"{name} {ratio:.3g}" for name, ratio in ratios.items())
    if not alarms:
        text = f"the residual looks like the stated noise (over expectation: {shown})"
        return Verdict(Fit.OK, text, ratios, chances)
    text = (
        f"the residual is not the stated noise (over expectation: {shown}); "
        f"what stands out: {', '.join(alarms)}"
    )
    return Verdict(Fit.MISFIT, text, ratios, chances)


def _residual(images: Tensor, information: Information) -> Tensor:
    """Whitened residual ``(batch, channel, y, x)`` with unit variance under the model."""
    sigma = information.sigma[:, None, None]
    if not information.magnitude:
        return (images - information.images) / sigma
    mean, deviation = rician_moments(information.snr)
    return (images / sigma - mean) / deviation


def _noise(information: Information, generator: torch.Generator) -> Tensor:
    """Residuals of noise around the fitted images, ``(refit, channel, y, x)``."""
    shape = (REFITS, *information.images.shape, 2)
    noise = torch.view_as_complex(torch.randn(shape, generator=generator)).to(information.images)
    images = information.images + noise * information.sigma[:, None, None]
    return _residual(images.abs() if information.magnitude else images, information)


def _pulls(
    information: Information, prior: SampledPrior | None, generator: torch.Generator
) -> Tensor | float:
    """Return slopes that the prior has at maps drawn from it, ``(refit, tissue, y, x)``."""
    if prior is None:
        return 0.0
    return prior.perturbation(information.maps.expand(REFITS, -1, -1, -1), generator)


def _refitting(
    information: Information, prior: SampledPrior | None, free: Tensor
) -> Callable[[Tensor, Tensor | float], Tensor]:
    """Return what takes from residuals all that free voxels can explain."""
    blocks = information.blocks(free)
    bend: Callable[[Tensor], Tensor] = torch.zeros_like
    if prior is not None:
        blocks = blocks + prior.blocks(information.maps[None])[0]
        bend = prior.curvature(information.maps[None])
    size = blocks.diagonal(dim1=0, dim2=1).mean()
    ridge = RIDGE * size * torch.eye(len(blocks)).to(blocks)[:, :, None, None]
    inverse = invert_blocks((blocks + ridge).double()).to(blocks.dtype)

    def product(change: Tensor) -> Tensor:
        change = change * free
        return (information.product(change) + bend(change) + RIDGE * size * change) * free

    def precondition(change: Tensor) -> Tensor:
        return (inverse * change.unsqueeze(1)).sum(2) * free

    def refit(residual: Tensor, slope: Tensor | float) -> Tensor:
        right = (information.adjoint(residual) - slope) * free
        return residual - information.whitened(solve_spd(product, right, precondition, 3e-3))

    return refit


def _statistics(information: Information) -> Callable[[Tensor], dict[str, Tensor]]:
    """Return the function from residuals ``(batch, channel, y, x)`` to statistics ``(batch,)``."""
    maps = information.maps
    parts = information.whitened(maps * torch.eye(len(maps)).to(maps)[:, :, None, None])
    parts = parts / parts.abs().square().sum((-2, -1), keepdim=True).sqrt().clamp_min(1e-12)

    def statistics(residual: Tensor) -> dict[str, Tensor]:
        real = _real(residual)
        means = torch.nn.functional.avg_pool2d(real, BLOCK) * BLOCK
        projected = torch.einsum("bcyx,tcyx->btc", residual, parts.conj())
        return {
            "size": real.double().square().flatten(1).sum(1),
            "space": means.double().square().flatten(1).sum(1),
            "tissue": projected.abs().double().square().flatten(1).sum(1),
        }

    return statistics


def _real(residual: Tensor) -> Tensor:
    """Real and imaginary parts as channels."""
    return torch.cat([residual.real, residual.imag], 1) if residual.is_complex() else residual
