"""What inversions with noise achieve, to be held against what a design predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from bmapest_ray.anatomy.maps import TissueMaps
    from bmapest_ray.design.setting import DesignSetting
    from bmapest_ray.sequence.protocol import Protocol
    from bmapest_ray.simulate.factory import BuiltOperator

SLICE = "below-top:75"
MATRIX = 64


@dataclass(frozen=True)
class Trial:
    """Noisy inversions with one protocol, all solved together.

    Parameters
    ----------
    anatomy, subjects
        Whose slices.
    signal
        complex or magnitude.
    constraints
        none (what the bound is about) or simplex (what is used).
    draws
        Noise draws per subject.
    """

    anatomy: str
    subjects: tuple[str, ...]
    signal: str = "complex"
    constraints: str = "none"
    draws: int = 1


@dataclass(frozen=True, eq=False)
class Inverted:
    """Maps of noisy inversions, true and found, ``(case, tissue, y, x)``: subjects, their draws.

    ``heads`` has one mask per case; ``status`` names what solves ended with.
    """

    truth: Tensor
    found: Tensor
    heads: Tensor
    status: tuple[str, ...]


def achieved(trial: Trial, protocol: Protocol, sigma: float, dwell_s: float) -> dict[str, Any]:
    """Simulate, add noise of one physical level, invert, and return errors over the head.

    Parameters
    ----------
    sigma, dwell_s
        Noise standard deviation at a dwell time.

    Returns
    -------
    dict
        ``variance`` per subject and tissue: mean square error over head pixels and draws;
        ``status``.
    """
    done = inverted(trial, protocol, sigma, dwell_s)
    squares = (done.found - done.truth).square()
    variance = []
    for place in range(len(trial.subjects)):
        mine = slice(place * trial.draws, (place + 1) * trial.draws)
        head = done.heads[mine.start]
        variance.append(squares[mine][..., head].mean((0, 2)).tolist())
    return {"variance": variance, "status": list(done.status)}


def inverted(trial: Trial, protocol: Protocol, sigma: float, dwell_s: float) -> Inverted:
    """Simulate, add noise of one physical level, and invert."""
    import torch

    from bmapest_ray.inversion.settings import SolverSettings
    from bmapest_ray.inversion.solve import BatchMeasurement, invert_batch
    from bmapest_ray.simulate.noise import scaled_sigma

    maps = [load_truth(trial.anatomy, subject) for subject in trial.subjects]
    truth = torch.stack([one.fraction for one in maps]).repeat_interleave(trial.draws, dim=0)
    built = _built(protocol, maps[0])
    levels = scaled_sigma(sigma, dwell_s, built.dwell_s).to(torch.float32)
    magnitude = trial.signal == "magnitude"
    noisy = _measured(trial, built, truth, levels)
    solved = invert_batch(
        BatchMeasurement(noisy.abs() if magnitude else noisy, trial.signal, levels),
        built.operator,
        solver=SolverSettings(noise_tolerance=1e-2, inner_iterations=60),
        # a bound is local: an unconstrained magnitude fit from elsewhere may end at another sign
        start=truth if magnitude else torch.full_like(truth, 0.25),
        constraints=trial.constraints,
    )
    heads = torch.stack([torch.as_tensor(one.head) for one in maps])
    return Inverted(
        truth=truth,
        found=torch.stack([one.maps for one in solved]),
        heads=heads.repeat_interleave(trial.draws, dim=0),
        status=tuple(sorted({str(one.status) for one in solved})),
    )


def _built(protocol: Protocol, maps: TissueMaps) -> BuiltOperator:
    """Return the operator under the analytic fields, which are the same for every subject."""
    from bmapest_ray.simulate.cache import FactorCache, default_directory
    from bmapest_ray.simulate.factory import build_operator
    from bmapest_ray.simulate.grid import VoxelGrid
    from bmapest_ray.simulate.scene import Scene
    from bmapest_ray.tissue.fields import make_fields
    from bmapest_ray.tissue.table import PAPER_3T

    fields = make_fields("analytic", "analytic", maps)
    grid = VoxelGrid(MATRIX, maps.fov_mm * 1e-3)
    scene = Scene(protocol, grid, fields, PAPER_3T)
    return build_operator(scene, cache=FactorCache(default_directory()))


def _measured(trial: Trial, built: BuiltOperator, truth: Tensor, levels: Tensor) -> Tensor:
    """Return complex noisy images of every subject and draw."""
    import torch

    from bmapest_ray.base.seeding import generator
    from bmapest_ray.simulate.noise import add_noise

    with torch.no_grad():
        images = built.operator.forward(truth)
    keys = [(subject, draw) for subject in trial.subjects for draw in range(trial.draws)]
    return torch.stack(
        [
            add_noise(image, levels, generator("design-table", *key))
            for image, key in zip(images, keys, strict=True)
        ]
    )


def load_truth(anatomy: str, subject: str) -> TissueMaps:
    """Return the slice of a subject."""
    from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
    from bmapest_ray.anatomy.slices import SliceSpec

    return load_slice(open_anatomy(anatomy), subject, SliceSpec.parse(SLICE), matrix=MATRIX)


def design_setting_of(anatomy: str, subject: str, snr: float, reference: str) -> DesignSetting:
    """Return the setting that fixes the noise level on one subject."""
    from bmapest_ray.design.context import make_setting
    from bmapest_ray.sequence.parse import parse_protocol
    from bmapest_ray.simulate.cache import FactorCache, default_directory
    from bmapest_ray.tissue.fields import make_fields
    from bmapest_ray.tissue.table import PAPER_3T

    maps = load_truth(anatomy, subject)
    return make_setting(
        maps,
        make_fields("analytic", "analytic", maps),
        PAPER_3T,
        snr=snr,
        reference=parse_protocol(reference),
        voxels=8,
        cache=FactorCache(default_directory()),
    )
