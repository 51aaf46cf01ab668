"""The data of a job: a subject's images as its protocol would measure them, with noise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.base.seeding import generator
from bmapest_ray.sequence.protocol import Protocol
from bmapest_ray.simulate.noise import add_noise, scaled_sigma, sigma_from_snr
from bmapest_ray.study.cache import JobCache
from bmapest_ray.study.spec import JobSpec

if TYPE_CHECKING:
    from bmapest_ray.simulate.factory import BuiltOperator
    from bmapest_ray.simulate.operator import Operator


@dataclass(frozen=True, eq=False)
class SimulatedData:
    """What was simulated for a job."""

    truth: TissueMaps
    operator: "Operator"
    """The model that made the images."""
    images: Tensor
    """Noisy complex images, shape `(channel, y, x)`."""
    sigma: Tensor | None
    """Standard deviation of the real and of the imaginary part, shape `(channel,)`."""
    description: Mapping[str, Any]
    """How the data were generated, for people and for the results table."""


def simulate_data(spec: JobSpec, cache: JobCache) -> SimulatedData:
    """Simulate the data of a job.

    Raises
    ------
    InvalidInput
        If maps, fields or the protocol break a rule.
    SimulationError
        If the simulation leaves its tolerance.
    """
    noise = spec.noise
    built, images = _noise_free(spec, cache, spec.protocol)
    sigma = _sigma(spec, cache, built, images)
    if sigma is not None:
        keys = (noise.seed, spec.anatomy.subject, spec.anatomy.slice, noise.draw)
        images = add_noise(images, sigma, generator("noise", *keys))
    truth = cache.truth(spec.anatomy)
    return SimulatedData(truth, built.operator, images, sigma, describe(spec, built.engine, sigma))


def _noise_free(
    spec: JobSpec, cache: JobCache, protocol: Protocol
) -> "tuple[BuiltOperator, Tensor]":
    """Return the operator that makes the data, on voxels as fine as asked, and its images."""
    maps = cache.truth(spec.anatomy, spec.data.matrix)
    built = cache.operator(protocol, spec.data, maps, spec.anatomy.matrix, spec.anatomy.fov_m)
    with torch.no_grad():
        return built, built.operator.forward(maps.fraction.to(built.operator.device))


def _sigma(spec: JobSpec, cache: JobCache, built: "BuiltOperator", images: Tensor) -> Tensor | None:
    """Return the noise level per channel: one level at the reference, scaled by dwell times.

    The reference is simulated on the same slice of the same subject, so that a job needs no other.
    """
    if spec.noise.snr is None:
        return None
    reference = built
    if spec.noise.reference is not None:
        reference, images = _noise_free(spec, cache, spec.noise.reference)
    level = sigma_from_snr(images, spec.noise.snr)
    dwell_s = float(reference.dwell_s.max())
    return scaled_sigma(level, dwell_s, built.dwell_s).to(torch.float32)


def describe(spec: JobSpec, engine: str, sigma: Tensor | None) -> dict[str, Any]:
    """Say how data are generated, and whether fitting them with the same model flatters the fit."""
    same = spec.data.is_same_model(spec.model)
    changes = "the model that is fitted" if same else "another model than is fitted"
    noise = "noise-free" if sigma is None else f"SNR {spec.noise.snr:g}"
    reference = spec.noise.reference.name if spec.noise.reference else None
    return {
        "summary": f"simulated with {changes}, {noise}",
        "same_model": same,
        "engine": engine,
        "mixing": spec.data.mixing,
        "matrix": spec.data.matrix,
        "tissue_table": spec.data.tissue_table.source,
        "b0": spec.data.b0.choice,
        "b1": spec.data.b1.choice,
        "coils": spec.data.coils.choice,
        "signal": spec.signal,
        "snr": spec.noise.snr,
        "snr_reference": reference,
        "sigma": None if sigma is None else float(sigma.min()),
        "seed": spec.noise.seed,
        "draw": spec.noise.draw,
    }
