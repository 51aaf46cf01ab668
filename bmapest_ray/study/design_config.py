"""The file of a design study: which protocols are optimised, what may change, within what."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError

from bmapest_ray.anatomy.catalog import open_anatomy
from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.design.job import Circumstances, DesignJob
from bmapest_ray.design.optimise import Effort, Limits
from bmapest_ray.design.robust import Ranges
from bmapest_ray.design.variables import EVERY, PAUSE, Variable
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.protocol import Chain, Protocol
from bmapest_ray.study.config import ComputeConfig, FieldsConfig, TrackingConfig
from bmapest_ray.study.config_search import Section


class HeadConfig(Section):
    """The head that designs are judged on; designs are confirmed on others."""

    source: str = "mni152"
    subject: str | None = None
    slice: str = "below-top:75"
    matrix: int = Field(default=64, ge=8)
    fov_mm: float = Field(default=216.0, gt=0)
    voxels: int = Field(default=6, ge=1)


class LevelConfig(Section):
    """One physical noise level."""

    snr: float = Field(default=100.0, gt=0)
    reference: str = "t1inv[3]"


class VariableConfig(Section):
    """A parameter that may change in every contrast that has it, or in one that is named."""

    low: float
    high: float
    contrast: str = ""
    """Empty gives every contrast a variable of its own; ``*`` one for all."""


class RobustConfig(Section):
    """Half widths of what may differ, as shares, and how many draws of it are averaged."""

    t1: float = 0.1
    t2: float = 0.1
    b1: float = 0.2
    scenarios: int = Field(default=6, ge=1)


class DesignStudy(Section):
    """A design study: candidates, what is free in them, scan times, starts."""

    kind: Literal["design"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    question: str = Field(min_length=1)
    head: HeadConfig = HeadConfig()
    fields: FieldsConfig = FieldsConfig()
    noise: LevelConfig = LevelConfig()
    signal: Literal["complex", "magnitude"] = "complex"
    nuisances: dict[str, float] = Field(default_factory=dict)
    candidates: tuple[str, ...] = Field(min_length=1)
    """Protocols whose contrasts are played as one chain, in this order."""
    dwell_s: tuple[float, ...] = ()
    """Dwell times that are tried; empty keeps the candidates' own."""
    dummy_cycles: int = Field(default=0, ge=0, le=100)
    """Cycles played before the one that is received, to be near a steady state."""
    variables: dict[str, VariableConfig] = Field(min_length=1)
    """Parameter name (``pause_s`` too) -> bounds."""
    scan_time_s: tuple[float, ...] = Field(min_length=1)
    """Budgets; each is optimised on its own."""
    rf_energy_t2_s: float | None = Field(default=None, gt=0)
    criterion: Literal["A", "D", "E"] = "A"
    robust: RobustConfig | None = None
    starts: int = Field(default=3, ge=1)
    trials: int | None = Field(default=None, ge=1)
    """Jobs per budget that Optuna picks among candidates, dwell times and starts; null runs all."""
    rounds: int = Field(default=3, ge=1)
    iterations: int = Field(default=20, ge=1)
    compute: ComputeConfig = ComputeConfig()
    tracking: TrackingConfig = TrackingConfig()

    def circumstances(self) -> Circumstances:
        """Return where designs are judged.

        Raises
        ------
        InvalidInput, MissingInput
            If the anatomy does not have it.
        """
        anatomy = open_anatomy(self.head.source)
        subject = self.head.subject or anatomy.subjects[0]
        return Circumstances(
            reference=parse_protocol(self.noise.reference),
            anatomy=self.head.source,
            subject=subject,
            content=anatomy.digest(subject),
            slice=self.head.slice,
            matrix=self.head.matrix,
            fov_mm=self.head.fov_mm,
            b0=self.fields.b0,
            b1=self.fields.b1,
            snr=self.noise.snr,
            signal=self.signal,
            nuisances=tuple(sorted(self.nuisances.items())),
            voxels=self.head.voxels,
        )

    def job(self, candidate: str, dwell_s: float | None, budget_s: float, start: int) -> DesignJob:
        """Return one optimisation."""
        protocol = self.protocol(candidate, dwell_s)
        dwell = "" if dwell_s is None else f" {dwell_s * 1e6:.0f}us"
        return DesignJob(
            label=f"{candidate}{dwell} {budget_s:g}s",
            circumstances=self.circumstances(),
            protocol=protocol,
            variables=free_variables(protocol, self.variables),
            limits=Limits(budget_s, self.rf_energy_t2_s),
            effort=Effort(self.rounds, self.iterations),
            criterion=self.criterion,
            ranges=None
            if self.robust is None
            else Ranges(self.robust.t1, self.robust.t2, self.robust.b1),
            scenarios=self.robust.scenarios if self.robust else 0,
            start=start,
        )

    def protocol(self, candidate: str, dwell_s: float | None) -> Protocol:
        """Return a candidate as one chain."""
        known = parse_protocol(candidate)
        contrasts = known.contrasts
        if dwell_s is not None:
            contrasts = tuple(
                c.with_parameters(dwell_s=dwell_s) if "dwell_s" in dict(c.parameters) else c
                for c in contrasts
            )
        if not self.dummy_cycles:  # nothing follows: the last pause would be waited for in vain
            contrasts = (*contrasts[:-1], replace(contrasts[-1], pause_s=0.0))
        return replace(known, chains=(Chain(contrasts, self.dummy_cycles),), continuous=True)


def free_variables(
    protocol: Protocol, wanted: Mapping[str, VariableConfig]
) -> tuple[Variable, ...]:
    """Return the variables of a protocol; the pause after the last contrast is not one of them.

    Raises
    ------
    InvalidInput
        If no contrast has any of the parameters, or bounds leave what a sequence accepts.
    """
    found: list[Variable] = []
    last = protocol.contrasts[-1]
    for parameter, config in wanted.items():
        if config.contrast:
            found.append(Variable(config.contrast, parameter, config.low, config.high))
            continue
        for contrast in protocol.contrasts:
            variable = Variable(contrast.name, parameter, config.low, config.high)
            ends = parameter == PAUSE and contrast is last and not protocol.chains[0].dummy_cycles
            if variable.owned_by(contrast) and not ends:
                found.append(variable)
    if not found:
        Variable(EVERY, next(iter(wanted)), 0.0, 1.0).check(protocol)
    for variable in found:
        variable.check(protocol)
    return tuple(found)


def load_design(path: str | Path) -> DesignStudy:
    """Read the file of a design study.

    Raises
    ------
    MissingInput
        If it is not there.
    InvalidInput
        If a key or a value is wrong.
    """
    where = Path(path)
    if not where.is_file():
        raise MissingInput(f"a design study must be a file, got {path}; correct the path")
    try:
        content: Any = yaml.safe_load(where.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InvalidInput(
            f"{path} must be valid YAML, got {' '.join(str(error).split())}; correct it"
        ) from error
    try:
        return DesignStudy.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        found = f"{first['msg'].lower()}, got {first.get('input')!r}"
        raise InvalidInput(f"{path}: {key} is wrong: {found}; correct it") from None
