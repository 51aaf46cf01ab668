"""From a scan to its maps: prior, nuisances, sweeps over blocks; what is done stays on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bmapest_ray.base.seeding import generator
from bmapest_ray.scan.cohort_prior import SpatialPrior
from bmapest_ray.scan.components import simplex_components
from bmapest_ray.scan.estimation import NuisanceFit, Task, fit_nuisances
from bmapest_ray.scan.head import Head, neighbour_mean
from bmapest_ray.scan.images import Scan
from bmapest_ray.scan.noise_level import noise_sigma, without_noise_bias
from bmapest_ray.scan.nuisances import Layout, SignalModel
from bmapest_ray.scan.response import Response
from bmapest_ray.scan.settings import ScanSettings
from bmapest_ray.scan.sweep import BlockMaps, Fitted, block_maps
from bmapest_ray.scan.voxels import NoiseLevel, Voxels, moments_of
from bmapest_ray.scan.workplace import Workplace

_ONE_VOXEL = 10.0
"""How much one voxel may say about the sign of an image: outliers decide nothing."""

Payload = tuple[Voxels, Fitted]
RunBlocks = Callable[[Iterable[tuple[int, Payload]]], Iterator[tuple[int, BlockMaps]]]


class Told(Protocol):
    """Is told how far a fit is."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Say that `done` of `total` parts of a stage are done."""


@dataclass(frozen=True, eq=False)
class ScanFit:
    """What was found in a scan.

    Parameters
    ----------
    fraction, deviation
        Maps and their standard deviations, `(tissue, z, y, x)`.
    other
        Probability of something else, `(z, y, x)`.
    residual
        Image minus fit, `(contrast, z, y, x)`.
    nuisances, model
        Fitted nuisances and what they mean.
    volume_ml, volume_sd_ml
        Of every tissue, `(tissue,)`.
    with_cohort
        Whether a cohort said where tissues lie.
    """

    scan: Scan
    mask: NDArray[np.bool_]
    fraction: NDArray[np.float32]
    deviation: NDArray[np.float32]
    other: NDArray[np.float32]
    residual: NDArray[np.float32]
    nuisances: NuisanceFit
    model: SignalModel
    volume_ml: NDArray[np.float64]
    volume_sd_ml: NDArray[np.float64]
    with_cohort: bool = True


def one_after_the_other(tasks: Iterable[tuple[int, Payload]]) -> Iterator[tuple[int, BlockMaps]]:
    """Run blocks in this process."""
    for number, payload in tasks:
        yield number, block_maps(*payload)


def make_head(
    scan: Scan,
    mask: NDArray[np.bool_],
    prior: SpatialPrior,
    b1: NDArray[np.float32] | None = None,
) -> tuple[Head, NoiseLevel]:
    """Measure the noise and collect the voxels of a mask."""
    spacing_mm = float(np.linalg.norm(scan.affine[:3, 0]))
    sigma = [noise_sigma(image, mask, spacing_mm) for image in scan.images]
    clean = [
        (scan.signed[c] if c in scan.signed else without_noise_bias(image, sigma[c]))[mask]
        for c, image in enumerate(scan.images)
    ]
    intensity = torch.from_numpy(np.stack(clean, axis=1))
    field = torch.ones(len(intensity)) if b1 is None else torch.from_numpy(b1[mask])
    level = NoiseLevel(torch.tensor(sigma).float(), torch.full((len(sigma),), 0.04))
    return Head(mask, intensity, field, prior), level


def fit_scan(
    scan: Scan,
    head: Head,
    level: NoiseLevel,
    response: Response,
    settings: ScanSettings,
    workplace: Workplace,
    told: Told,
    run_blocks: RunBlocks = one_after_the_other,
) -> ScanFit:
    """Fit nuisances and maps; what the workplace already holds is not computed again."""
    layout = Layout(len(response.names), 3, frozenset(settings.fixed))
    model = SignalModel(response, layout, tuple(sorted(scan.signed)))
    head = _right_way_up(head, level, model, settings)
    fit = workplace.nuisances(lambda: _fit_nuisances(scan, head, level, model, settings, told))
    parts = replace(simplex_components(), shares=fit.shares)
    fitted = Fitted(model, fit.vector, fit.level, parts)
    maps = _sweeps(head, fitted, settings, workplace, told, run_blocks)
    return _assemble(scan, head, fit, model, maps)


def _fit_nuisances(
    scan: Scan,
    head: Head,
    level: NoiseLevel,
    model: SignalModel,
    settings: ScanSettings,
    told: Told,
) -> NuisanceFit:
    parts, chosen = simplex_components(), _sampled(head, settings)
    count, voxels = len(chosen), head.voxels(chosen, parts)
    independent = len(head) * scan.voxel_ml * 1000 / _shared_mm3(scan, head.mask, settings)
    task = Task(
        voxels, model, parts, _start(head, chosen, model), model.layout.spreads(settings.spreads),
        min(1.0, independent / count),
    )  # fmt: skip
    return fit_nuisances(task, level, told=lambda step, _: told("nuisances", step, 0))


def _sampled(head: Head, settings: ScanSettings) -> torch.Tensor:
    """Return the voxels that nuisances are fitted to."""
    count = min(settings.sample, len(head))
    return torch.randperm(len(head), generator=generator("scan-nuisances"))[:count].sort().values


def _right_way_up(
    head: Head, level: NoiseLevel, model: SignalModel, settings: ScanSettings
) -> Head:
    """Turn signed images so that physics and prior find them more likely than their negatives."""
    if not model.signed:
        return head
    parts, chosen = simplex_components(), _sampled(head, settings)
    vector, voxels = _start(head, chosen, model), head.voxels(chosen, parts)
    blind = 1e3 * voxels.intensity.abs().amax(0)
    turned = head.intensity.clone()
    for contrast in model.signed:
        noise = blind.clone()
        noise[contrast] = level.noise[contrast]
        alone = NoiseLevel(noise, level.relative)
        likely = []
        for sign in (1.0, -1.0):
            flipped = voxels.intensity * torch.where(torch.arange(len(noise)) == contrast, sign, 1)
            tried = replace(voxels, intensity=flipped, log_other=torch.full((len(chosen),), -1e9))
            likely.append(moments_of(tried, model, vector, alone, parts).log_evidence)
        if float((likely[0] - likely[1]).clamp(-_ONE_VOXEL, _ONE_VOXEL).sum()) < 0:
            turned[:, contrast] *= -1
    return replace(head, intensity=turned)


def _shared_mm3(scan: Scan, mask: NDArray[np.bool_], settings: ScanSettings) -> float:
    """Return what a cube of the shared volume has inside a head that may be a thin slab."""
    side = settings.shared_mm3 ** (1 / 3)
    sizes = np.linalg.norm(scan.affine[:3, :3], axis=0)[::-1]
    planes = [
        int(mask.any(axis=tuple(a for a in range(3) if a != axis)).sum()) for axis in range(3)
    ]
    return float(np.prod(np.minimum(side, sizes * planes)))


def _start(head: Head, chosen: torch.Tensor, model: SignalModel) -> torch.Tensor:
    """Return nuisances at their priors, with scales that bring the middle intensity in line."""
    vector = torch.zeros(model.layout.total, dtype=torch.float64)
    signal = model.signals(vector, torch.zeros(1, 3), torch.ones(1)).value[0]
    precision, pull = head.prior.precision[chosen], head.prior.pull[chosen]
    mean = torch.full((len(chosen), 3), 1 / 3)
    if bool(precision.any()):
        mean = torch.linalg.solve(precision, pull)
    brain = mean[:, :2].sum(1) > 0.5
    expected = (mean @ signal.T).abs()[brain].median(0).values
    seen = head.intensity[chosen][brain].abs().median(0).values
    vector[model.layout.places()["scale"]] = (seen / expected).clamp_min(1e-12).log().double()
    return vector


def _sweeps(
    head: Head,
    fitted: Fitted,
    settings: ScanSettings,
    workplace: Workplace,
    told: Told,
    run_blocks: RunBlocks,
) -> list[BlockMaps]:
    starts = range(0, len(head), settings.block)
    blocks = [slice(start, min(start + settings.block, len(head))) for start in starts]
    around = None
    total = (settings.sweeps + 1) * len(blocks)
    for sweep in range(settings.sweeps + 1):
        missing = [i for i in range(len(blocks)) if not workplace.has_block(sweep, i)]
        done = sweep * len(blocks) + len(blocks) - len(missing)
        told("blocks", done, total)

        def tasks(
            missing: list[int] = missing, around: torch.Tensor | None = around
        ) -> Iterator[tuple[int, Payload]]:
            for i in missing:
                near = None if around is None else around[blocks[i]]
                voxels = head.voxels(blocks[i], fitted.parts, near, settings.coupling)
                yield i, (voxels, fitted)

        for number, maps in run_blocks(tasks()):
            workplace.keep_block(sweep, number, maps)
            done += 1
            told("blocks", done, total)
        if sweep < settings.sweeps:
            mean = np.concatenate([workplace.mean_of(sweep, i) for i in range(len(blocks))])
            volume = _volume(mean, head.mask)
            around = torch.from_numpy(neighbour_mean(volume, head.mask))
    return [workplace.block(settings.sweeps, i) for i in range(len(blocks))]


def _volume(values: NDArray[np.float32], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Put `(voxel, n)` back into a volume `(n, z, y, x)`."""
    out = np.zeros((values.shape[1], *mask.shape), dtype=np.float32)
    out[:, mask] = values.T
    return out


def _assemble(
    scan: Scan, head: Head, fit: NuisanceFit, model: SignalModel, maps: list[BlockMaps]
) -> ScanFit:
    def whole(name: str) -> NDArray[np.float32]:
        parts = [getattr(m, name) for m in maps]
        joined = np.concatenate(parts)
        return _volume(joined[:, None] if joined.ndim == 1 else joined, head.mask)

    fraction = whole("mean")
    slope = sum(m.slope for m in maps)
    variance = sum(m.variance for m in maps)
    shared = np.einsum("tk,kl,tl->t", slope, fit.covariance.numpy(), slope)
    volume = fraction.sum((1, 2, 3), dtype=np.float64) * scan.voxel_ml
    spread = np.sqrt(np.maximum(shared, 0) + variance) * scan.voxel_ml
    return ScanFit(
        scan, head.mask, fraction, whole("deviation"), whole("other")[0], whole("residual"),
        fit, model, volume, spread, bool(head.prior.precision.any()),
    )  # fmt: skip


def b1_on_grid(path: Path, scan: Scan, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Read a relative B1 map onto the grid of a scan, 1 where it says nothing."""
    from bmapest_ray.anatomy.nifti import load_volume
    from bmapest_ray.base.errors import InvalidInput
    from bmapest_ray.scan.images import onto_grid

    field, inside = onto_grid(load_volume(path), scan.shape, scan.affine)
    field = np.where(inside & (field > 0), field, 1).astype(np.float32)
    low, high = np.quantile(field[mask], [0.01, 0.99])
    if low < 0.2 or high > 3:
        raise InvalidInput(
            f"{path} must be B1 relative to nominal (1, not 100 %), got {low:.3g} to {high:.3g}; "
            "divide it"
        )
    return field
