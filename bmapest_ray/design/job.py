"""One optimisation of one design, as work that any runner can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from bmapest_ray.base.digests import digest
from bmapest_ray.design.context import make_setting
from bmapest_ray.design.objective import Criterion, DesignProblem
from bmapest_ray.design.optimise import Effort, Limits, Optimised, optimise, starting_points
from bmapest_ray.design.robust import Ranges, random_scenarios, robust
from bmapest_ray.design.score import ProtocolScore
from bmapest_ray.design.setting import DesignSetting
from bmapest_ray.design.variables import Variable
from bmapest_ray.sequence.protocol import Protocol
from bmapest_ray.sequence.protocol_file import to_yaml
from bmapest_ray.simulate.measurement import Signal

WORK = f"{__name__}:work"
"""Name of the work function that a runner calls."""

DEFAULT_EFFORT = Effort()


@dataclass(frozen=True)
class Circumstances:
    """Where designs are judged: plain data from which a worker makes a `DesignSetting`.

    Parameters
    ----------
    anatomy, subject, slice, matrix, fov_mm
        The head, `content` its digest.
    b0, b1
        Fields: none, analytic or a file.
    snr, reference
        Noise level.
    signal
        complex or magnitude.
    nuisances
        Prior standard deviation of each unknown.
    voxels
        How many stand for the head.
    """

    reference: Protocol
    anatomy: str = "mni152"
    subject: str = "mni152"
    content: str = ""
    slice: str = "below-top:75"
    matrix: int = 64
    fov_mm: float = 216.0
    b0: str = "analytic"
    b1: str = "analytic"
    snr: float = 100.0
    signal: str = "complex"
    nuisances: tuple[tuple[str, float], ...] = ()
    voxels: int = 6

    def setting(self) -> DesignSetting:
        """Load the maps, make the fields and fix the noise level."""
        from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
        from bmapest_ray.anatomy.slices import SliceSpec
        from bmapest_ray.tissue.fields import make_fields
        from bmapest_ray.tissue.table import PAPER_3T

        maps = load_slice(
            open_anatomy(self.anatomy),
            self.subject,
            SliceSpec.parse(self.slice),
            matrix=self.matrix,
            fov_mm=self.fov_mm,
        )
        setting = make_setting(
            maps,
            make_fields(self.b0, self.b1, maps),
            PAPER_3T,
            snr=self.snr,
            reference=self.reference,
            voxels=self.voxels,
        )
        return replace(setting, signal=Signal(self.signal), nuisances=dict(self.nuisances))


@dataclass(frozen=True)
class DesignJob:
    """All that decides one optimisation.

    Parameters
    ----------
    label
        For people.
    circumstances
        Where it is judged.
    protocol, variables
        What is played, and what of it may change.
    limits, effort, criterion
        Of the optimisation.
    ranges, scenarios
        What may differ from what is assumed, and how many draws of it count; None is nominal.
    start
        0 begins with the protocol's own values, others with random ones.
    """

    label: str = field(metadata={"digest": False})
    circumstances: Circumstances
    protocol: Protocol
    variables: tuple[Variable, ...]
    limits: Limits
    effort: Effort = DEFAULT_EFFORT
    criterion: str = "A"
    ranges: Ranges | None = None
    scenarios: int = 6
    start: int = 0

    @cached_property
    def id(self) -> str:
        """Digest of everything but the label."""
        return digest(self)

    def problem(self, setting: DesignSetting) -> DesignProblem:
        """Return the problem under a setting."""
        if self.ranges is not None:
            tissues = len(setting.table.names)
            setting = robust(setting, random_scenarios(self.ranges, tissues, self.scenarios, 1))
        return DesignProblem(self.protocol, self.variables, setting, Criterion(self.criterion))


def work(job: DesignJob, state: dict[str, Any]) -> dict[str, Any]:
    """Optimise in a worker; `state` keeps the settings between jobs."""
    from bmapest_ray.base.threads import limit_threads

    limit_threads(1)
    settings = state.setdefault("settings", {})
    key = digest(job.circumstances)
    if key not in settings:
        settings[key] = job.circumstances.setting()
    return outcome_of(job, run_design(job, settings[key]))


def run_design(job: DesignJob, setting: DesignSetting) -> Optimised:
    """Optimise one design.

    Raises
    ------
    InvalidInput
        If its limits cannot be kept.
    """
    problem = job.problem(setting)
    start = starting_points(problem, job.limits, job.start + 1, seed=0)[job.start]
    return optimise(problem, start, job.limits, job.effort)


def outcome_of(job: DesignJob, found: Optimised) -> dict[str, Any]:
    """Return the result as JSON-ready data."""
    return {
        "id": job.id,
        "label": job.label,
        "start": job.start,
        "budget_s": job.limits.scan_time_s,
        "values": {v.name: x for v, x in zip(job.variables, found.values, strict=True)},
        "objective": found.objective,
        "history": list(found.history),
        "seconds": found.seconds,
        "protocol": to_yaml(found.protocol),
        **told(found.score),
    }


def told(score: ProtocolScore) -> Mapping[str, Any]:
    """Return a score as JSON-ready data."""
    return {
        "scan_time_s": score.scan_time_s,
        "rf_energy_t2_s": score.rf_energy_t2_s,
        "images": score.images,
        "std": list(score.std),
        "worst_std": list(score.worst_std),
        "mean_variance": score.mean_variance,
    }
