"""What inversions with noise achieve, to be held against what a design predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bmapest_ray.design.setting import DesignSetting
    from bmapest_ray.sequence.protocol import Protocol

SLICE = "below-top:75"
MATRIX = 64


@dataclass(frozen=True)
class Trial:
    """Noisy inversions of one subject with one protocol.

    Parameters
    ----------
    anatomy, subject
        Whose slice.
    signal
        complex or magnitude.
    constraints
        none (what the bound is about) or simplex (what is used).
    draws
        Noise draws.
    """

    anatomy: str
    subject: str
    signal: str = "complex"
    constraints: str = "none"
    draws: int = 1


def achieved(trial: Trial, protocol: Protocol, sigma: float, dwell_s: float) -> dict[str, Any]:
    """Simulate, add noise of one physical level, invert, and return errors over the head.

    Parameters
    ----------
    sigma, dwell_s
        Noise standard deviation at a dwell time.

    Returns
    -------
    dict
        ``variance`` per tissue: mean square error over head pixels and draws; ``status``.
    """
    import torch

    from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
    from bmapest_ray.anatomy.slices import SliceSpec
    from bmapest_ray.base.seeding import generator
    from bmapest_ray.inversion.solve import BatchMeasurement, invert_batch
    from bmapest_ray.simulate.cache import FactorCache, default_directory
    from bmapest_ray.simulate.factory import Scene, build_operator
    from bmapest_ray.simulate.grid import VoxelGrid
    from bmapest_ray.simulate.noise import add_noise, scaled_sigma
    from bmapest_ray.tissue.fields import make_fields
    from bmapest_ray.tissue.table import PAPER_3T

    maps = load_slice(
        open_anatomy(trial.anatomy), trial.subject, SliceSpec.parse(SLICE), matrix=MATRIX
    )
    fields = make_fields("analytic", "analytic", maps)
    grid = VoxelGrid(MATRIX, maps.fov_mm * 1e-3)
    cache = FactorCache(default_directory())
    built = build_operator(Scene(protocol, grid, fields, PAPER_3T), cache=cache)
    levels = scaled_sigma(sigma, dwell_s, built.dwell_s).to(torch.float32)
    with torch.no_grad():
        images = built.operator.forward(maps.fraction)
    noisy = torch.stack(
        [
            add_noise(images, levels, generator("design-table", trial.subject, draw))
            for draw in range(trial.draws)
        ]
    )
    seen = noisy.abs() if trial.signal == "magnitude" else noisy
    solved = invert_batch(
        BatchMeasurement(seen, trial.signal, levels),
        built.operator,
        solver=_settings(),
        start=_start(trial),
        constraints=trial.constraints,
    )
    errors = torch.stack([one.maps for one in solved]) - maps.fraction
    inside = torch.as_tensor(maps.head)
    return {
        "variance": errors[..., inside].square().mean((0, 2)).tolist(),
        "status": sorted({str(one.status) for one in solved}),
        "head_pixels": int(inside.sum()),
    }


def _settings() -> Any:  # noqa: ANN401 - SolverSettings, imported where it is used
    from bmapest_ray.inversion.settings import SolverSettings

    return SolverSettings(max_iterations=200, noise_tolerance=1e-3, inner_iterations=100)


def _start(trial: Trial) -> Any:  # noqa: ANN401 - a tensor, imported where it is used
    """Return the mean map of the other subjects."""
    from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
    from bmapest_ray.anatomy.cohort import cohort_mean
    from bmapest_ray.anatomy.slices import SliceSpec

    anatomy, where = open_anatomy(trial.anatomy), SliceSpec.parse(SLICE)
    others = [name for name in anatomy.subjects if name != trial.subject]
    maps = [load_slice(anatomy, name, where, matrix=MATRIX) for name in others]
    return cohort_mean(maps, trial.subject)


def design_setting_of(anatomy: str, subject: str, snr: float, reference: str) -> DesignSetting:
    """Return the setting that fixes the noise level on one subject."""
    from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
    from bmapest_ray.anatomy.slices import SliceSpec
    from bmapest_ray.design.context import make_setting
    from bmapest_ray.sequence.parse import parse_protocol
    from bmapest_ray.simulate.cache import FactorCache, default_directory
    from bmapest_ray.tissue.fields import make_fields
    from bmapest_ray.tissue.table import PAPER_3T

    where = SliceSpec.parse(SLICE)
    maps = load_slice(open_anatomy(anatomy), subject, where, matrix=MATRIX)
    return make_setting(
        maps,
        make_fields("analytic", "analytic", maps),
        PAPER_3T,
        snr=snr,
        reference=parse_protocol(reference),
        voxels=8,
        cache=FactorCache(default_directory()),
    )
