"""From a study to its jobs: everything is looked up and checked here, before the first job runs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from bmapest_ray.anatomy.catalog import Anatomy, open_anatomy
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.protocol import Chain, Protocol
from bmapest_ray.sequence.protocol_file import to_yaml
from bmapest_ray.sequence.scanner import Scanner
from bmapest_ray.study.config import StudyConfig
from bmapest_ray.study.loading import with_settings
from bmapest_ray.study.objective import Objective, make_objective
from bmapest_ray.study.parts import data_part, model_part, solve_part, subjects_named
from bmapest_ray.study.records import ProtocolInfo
from bmapest_ray.study.space import Choices, Dimension, Value
from bmapest_ray.study.spec import AnatomyPart, JobSpec, ModelPart, NoisePart
from bmapest_ray.study.status import Stage
from bmapest_ray.study.subset import chosen_chains, contrast_space, inner_settings, subset


@dataclass(frozen=True)
class PlannedProtocol:
    """A protocol that competes."""

    protocol: Protocol
    info: ProtocolInfo


@dataclass(frozen=True)
class Plan:
    """A checked study, ready to make jobs."""

    config: StudyConfig
    anatomy: Anatomy
    subjects: tuple[str, ...]
    """Who the table reports."""
    tune_subjects: tuple[str, ...]
    """Who chooses the configuration; the report subjects where the study names no others."""
    cohort: tuple[str, ...]
    slices: tuple[str, ...]
    protocols: Mapping[str, PlannedProtocol]
    """By label, in the order of the study."""
    model: ModelPart
    data: ModelPart
    reference: Protocol | None
    objective: Objective

    @property
    def searches(self) -> bool:
        """Whether there is anything to search."""
        return bool(self.config.search.space) or self.config.search.contrasts is not None

    @property
    def digests(self) -> dict[str, str]:
        """Digests of the inputs, for the record."""
        subjects = dict.fromkeys((*self.tune_subjects, *self.subjects))
        return {
            **{f"anatomy/{name}": self.anatomy.digest(name) for name in subjects},
            **{f"protocol/{label}": p.info.digest for label, p in self.protocols.items()},
            "tissue_table": self.model.tissue,
            "data_tissue_table": self.data.tissue,
        }

    def n_jobs(self, search_trials: int) -> int:
        """Return the number of jobs of so many search trials and one report per protocol."""
        draws = self.config.noise.draws if self.config.noise.snr is not None else 1
        per_subject = len(self.slices) * draws
        rungs = 1 + len(self.config.search.rungs)
        tune = rungs * len(self.tune_subjects)
        report = len(self.subjects) * len(self.protocols)
        return per_subject * (search_trials * tune + report)

    def jobs(
        self, label: str, settings: Mapping[str, Value], stage: Stage = Stage.REPORT
    ) -> tuple[JobSpec, ...]:
        """Return the jobs of one configuration of one protocol, subject by subject.

        A search scores the tune subjects with the first noise draws. A report scores the report
        subjects with draws that no search has seen.
        """
        search = stage is Stage.SEARCH
        inversion = with_settings(self.config, inner_settings(settings)).inversion
        count = self.config.noise.draws
        first = 0 if search or not self.searches else count
        draws = range(first, first + count) if self.config.noise.snr is not None else (0,)
        planned = subset(self.protocols[label].protocol, settings)
        made = []
        for subject in self.tune_subjects if search else self.subjects:
            solve = solve_part(inversion, self.anatomy, subject, self.cohort)
            made += [
                JobSpec(
                    anatomy=self._anatomy(subject, where),
                    protocol=planned,
                    model=replace(
                        self.model, engine=inversion.engine, tolerance=inversion.tolerance
                    ),
                    data=self.data,
                    noise=self._noise(draw),
                    solve=solve,
                    signal=self.config.signal,
                )
                for where in self.slices
                for draw in draws
            ]
        return tuple(made)

    def space(self, label: str) -> dict[str, Dimension]:
        """Return what is searched for a protocol: its contrasts first, then settings."""
        contrasts = self.config.search.contrasts is not None
        booleans = contrast_space(self.protocols[label].protocol) if contrasts else {}
        return {**booleans, **self.config.search.space}

    def scan_time_s(self, label: str, settings: Mapping[str, Any]) -> float:
        """Return the time on the scanner; infinite where no contrast is left."""
        matrix, fov_m = self.config.anatomy.matrix, _sequence_fov_m(self.config)
        chains = chosen_chains(self.protocols[label].protocol, settings)
        scanner = self.protocols[label].protocol.scanner
        times = [_chain_time_s(chain, matrix, fov_m, scanner) for chain in chains]
        return sum(times) if times else math.inf

    def _anatomy(self, subject: str, where: str) -> AnatomyPart:
        return AnatomyPart(
            source=self.anatomy.spec,
            subject=subject,
            content=self.anatomy.digest(subject),
            slice=where,
            matrix=self.config.anatomy.matrix,
            fov_mm=self.config.anatomy.fov_mm,
        )

    def _noise(self, draw: int) -> NoisePart:
        noise = self.config.noise
        if noise.snr is None:
            return NoisePart()
        return NoisePart(noise.snr, self.reference, noise.seed, draw)


@lru_cache(maxsize=1024)
def _chain_time_s(chain: Chain, matrix: int, fov_m: float, scanner: Scanner) -> float:
    return chain.write(matrix, fov_m, scanner).time_s


def make_plan(config: StudyConfig) -> Plan:
    """Look up and check everything that a study names.

    Raises
    ------
    InvalidInput, MissingInput
        On the first thing that cannot be: a subject, a protocol, a setting, a file.
    """
    anatomy = open_anatomy(config.anatomy.source)
    splits, tune = config.anatomy.splits, config.search.tune_subjects
    subjects = subjects_named(config.anatomy.subjects, anatomy, splits, "anatomy.subjects")
    model = model_part(config)
    reference = config.noise.reference
    plan = Plan(
        config=config,
        anatomy=anatomy,
        subjects=subjects,
        tune_subjects=subjects
        if tune is None
        else subjects_named(tune, anatomy, splits, "search.tune_subjects"),
        cohort=subjects_named(config.anatomy.cohort, anatomy, splits, "anatomy.cohort"),
        slices=tuple(dict.fromkeys(str(SliceSpec.parse(t)) for t in config.anatomy.slices)),
        protocols=_protocols(config),
        model=model,
        data=data_part(config.data, model),
        reference=_planned(reference, config)[1].protocol if reference else None,
        objective=make_objective(config.search.objective),
    )
    _check(plan)
    return plan


def one_job(config: StudyConfig) -> JobSpec:
    """Return the job of a study that holds exactly one: what ``bmapest invert`` runs.

    Raises
    ------
    InvalidInput
        If the study is no such study.
    """
    plan = make_plan(config)
    jobs = [job for label in plan.protocols for job in plan.jobs(label, {})]
    if len(jobs) != 1:
        raise InvalidInput(
            f"one inversion needs one subject, slice, draw and protocol, got {len(jobs)} "
            "combinations; name one of each, or run a study"
        )
    return jobs[0]


def _protocols(config: StudyConfig) -> dict[str, PlannedProtocol]:
    planned: dict[str, PlannedProtocol] = {}
    for text in config.protocols:
        label, protocol = _planned(text, config)
        if label in planned:
            raise InvalidInput(
                f"protocols must have different names, got '{label}' twice; rename or drop one"
            )
        planned[label] = protocol
    return planned


def _planned(text: str, config: StudyConfig) -> tuple[str, PlannedProtocol]:
    protocol = parse_protocol(text)
    acquisition = config.acquisition
    if acquisition.graph is not None:
        accuracy = replace(protocol.accuracy, **acquisition.graph.model_dump())
        protocol = replace(protocol, accuracy=accuracy)
    seconds = protocol.scan_time_s(config.anatomy.matrix, _sequence_fov_m(config))
    info = ProtocolInfo(protocol.name, protocol.digest, seconds, to_yaml(protocol))
    return protocol.name, PlannedProtocol(protocol, info)


def _sequence_fov_m(config: StudyConfig) -> float:
    return (config.acquisition.sequence_fov_mm or config.anatomy.fov_mm) * 1e-3


def _check(plan: Plan) -> None:
    """Make jobs at the edges of the search space, where settings would fail first."""
    both = sorted(set(plan.tune_subjects) & set(plan.subjects))
    if plan.config.search.tune_subjects is not None and both:
        raise InvalidInput(
            f"search.tune_subjects must not be reported, got {', '.join(both)} in both; leave "
            "them out of anatomy.subjects"
        )
    label = next(iter(plan.protocols))
    plan.jobs(label, {})
    for path, dimension in plan.config.search.space.items():
        for value in _edges(dimension):
            plan.jobs(label, {**dict(dimension.when), path: value}, Stage.SEARCH)
    limit = plan.config.search.contrasts and plan.config.search.contrasts.max_scan_time_s
    for label, planned in plan.protocols.items() if limit else ():
        shortest = min(
            plan.scan_time_s(label, {path: path == on for path in contrast_space(planned.protocol)})
            for on in contrast_space(planned.protocol)
        )
        if limit and shortest > limit:
            raise InvalidInput(
                f"search.contrasts.max_scan_time_s must leave room for one contrast of '{label}', "
                f"the shortest takes {shortest:.1f} s, got {limit:g}; raise it"
            )


def _edges(dimension: Dimension) -> tuple[Any, ...]:
    if isinstance(dimension, Choices):
        return dimension.choices
    return (dimension.low, dimension.high)
