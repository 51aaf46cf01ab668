"""After a job: whether its model explains its data, and how sure its maps are."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch

from bmapest_ray.base.errors import BmapestError
from bmapest_ray.study.cache import JobCache
from bmapest_ray.study.data import SimulatedData, simulate_data
from bmapest_ray.study.result import JobResult
from bmapest_ray.study.spec import JobSpec

if TYPE_CHECKING:
    from bmapest_ray.inversion.information import Information
    from bmapest_ray.inversion.ports import ForwardModel
    from bmapest_ray.inversion.posterior import Spread
    from bmapest_ray.inversion.prior_choice import SampledPrior
    from bmapest_ray.inversion.refit_check import Verdict


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a finished job's residual and curvature say."""

    verdict: "Verdict"
    spread: "Spread | None" = None
    """Covariance of every voxel, where it was asked for and can be known."""
    note: str = ""
    """Why there is no spread though it was asked for."""


def judge(
    spec: JobSpec, result: JobResult, cache: JobCache, *, posterior: bool = False
) -> Judgement:
    """Judge the maps of a job against the data that they were fitted to.

    Parameters
    ----------
    posterior
        Also compute the standard deviations of the maps.

    Raises
    ------
    InvalidInput
        If the posterior is asked for without a noise level.
    """
    from bmapest_ray.inversion.information import information_at
    from bmapest_ray.inversion.refit_check import judge_fit, judge_noise_free

    data = simulate_data(spec, cache)
    part, magnitude = spec.anatomy, spec.signal == "magnitude"
    truth = cache.truth(part, spec.model.matrix)  # only for the fields on its pixels
    operator = cache.operator(spec.protocol, spec.model, truth, part.matrix, part.fov_m).operator
    maps = torch.as_tensor(result.maps).to(operator.device)
    images = data.images.abs() if magnitude else data.images
    if data.sigma is None and not posterior:
        predicted = operator.forward(maps)
        return Judgement(judge_noise_free(images, predicted.abs() if magnitude else predicted))
    information = information_at(operator, maps, data.sigma, magnitude=magnitude)
    free = _free(spec, data)
    prior = _prior_at(maps, images, operator, spec, cache, data)
    verdict = judge_fit(images, information, prior, free=free)
    if not posterior:
        return Judgement(verdict)
    try:
        return Judgement(verdict, _spread(information, prior, free))
    except BmapestError as error:
        return Judgement(verdict, note=f"no standard deviations: {error}")


def _prior_at(
    maps: torch.Tensor,
    images: torch.Tensor,
    operator: "ForwardModel",
    spec: JobSpec,
    cache: JobCache,
    data: SimulatedData,
) -> "SampledPrior | None":
    """Return the Gaussian that stood for the prior where a fit ended."""
    from bmapest_ray.inversion.fidelities import make_fidelity
    from bmapest_ray.inversion.prior_neighbours import AdaptivePrior, adapted
    from bmapest_ray.inversion.problem import Problem
    from bmapest_ray.inversion.solve import BatchMeasurement

    prior = cache.prior(spec.anatomy, spec.solve, maps.device)
    if not isinstance(prior, AdaptivePrior):
        return prior
    seen = BatchMeasurement(images[None], spec.signal, data.sigma)
    fidelity = make_fidelity(seen, operator.channels, spec.solve.solver)
    found = adapted(Problem(fidelity, operator), prior, maps[None]).prior
    return cast("SampledPrior", found)


def _spread(information: "Information", prior: Any, free: torch.Tensor) -> "Spread":  # noqa: ANN401
    from bmapest_ray.inversion.posterior import Posterior

    return Posterior(information, prior, free).spread()


def _free(spec: JobSpec, data: SimulatedData) -> torch.Tensor:
    """Return the voxels that could hold tissue in the fit, bool ``(y, x)``."""
    from bmapest_ray.inversion.support import support_of

    solver = spec.solve.solver
    fits = solver.support == "auto" and not solver.first_order and spec.solve.constraints != "none"
    if not fits or data.sigma is None:
        return torch.ones(data.images.shape[-2:], dtype=torch.bool, device=data.images.device)
    return support_of(data.images[None], data.sigma)[0]
