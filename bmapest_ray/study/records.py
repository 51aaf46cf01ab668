"""What a study knows about its jobs and trials: plain, frozen data that can be written as JSON."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bmapest_ray.study.status import JobStatus, Stage, TrialStatus

SCHEMA_VERSION = 1
"""Version of every file that a study writes, and part of every job id."""

Scores = Mapping[str, Mapping[str, float | None]]
"""Tissue -> score -> value; None where a score is not defined (e.g. the PSNR of a perfect map)."""


@dataclass(frozen=True)
class TrialKey:
    """Names a trial: the protocol it ran, its stage and its number within both."""

    protocol: str
    stage: Stage
    number: int

    def __str__(self) -> str:
        """Give e.g. ``t1inv,t2prep/search/0007``."""
        return f"{self.protocol}/{self.stage}/{self.number:04d}"


@dataclass(frozen=True)
class TrialRecord:
    """One configuration of one protocol, scored over subjects x slices x noise draws."""

    key: TrialKey
    settings: Mapping[str, Any]
    """The searched settings by their path in the study, e.g. ``inversion.settings.damping``."""
    job_ids: tuple[str, ...]
    status: TrialStatus = TrialStatus.RUNNING
    value: float | None = None
    """The objective, in the direction that the study states; None unless complete."""
    message: str = ""
    scan_time_s: float | None = None
    """What its contrasts take on the scanner; None in studies of earlier versions."""

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data that `from_dict` reads."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TrialRecord":
        """Read what `to_dict` wrote."""
        key = data["key"]
        return cls(
            key=TrialKey(key["protocol"], Stage(key["stage"]), int(key["number"])),
            settings=dict(data["settings"]),
            job_ids=tuple(data["job_ids"]),
            status=TrialStatus(data["status"]),
            value=data["value"],
            message=data["message"],
            scan_time_s=data.get("scan_time_s"),
        )


@dataclass(frozen=True)
class JobRecord:
    """A finished job as it is committed to disk."""

    id: str
    status: JobStatus
    protocol: str
    subject: str
    slice: str
    draw: int
    trial: str = ""
    """``str(key)`` of the trial that asked for it first; others may share it."""
    scores: Scores = field(default_factory=dict)
    message: str = ""
    solver_status: str = ""
    iterations: int = 0
    seconds: float = 0.0
    """The inversion itself."""
    setup_seconds: float = 0.0
    total_seconds: float = 0.0
    scan_time_s: float = 0.0
    digests: Mapping[str, str] = field(default_factory=dict)
    """Digests of ``anatomy``, ``protocol``, ``configuration``, ..."""
    configuration: Mapping[str, Any] = field(default_factory=dict)
    """How the maps were solved for: solver and its settings, start, prior, mixing, signal."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """How the data were generated."""
    history: tuple[Mapping[str, float], ...] = ()
    """Thinned convergence curve, one mapping per kept iteration."""
    files: Mapping[str, str] = field(default_factory=dict)
    """``GM``, ``WM``, ``CSF`` and ``truth_GM``, ...: NIfTI files relative to the study's folder."""
    traceback: str = ""
    worker: str = ""
    attempts: int = 1
    schema: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready data that `from_dict` reads."""
        return dataclasses.asdict(self)

    def without_details(self) -> "JobRecord":
        """Return what scoring a trial needs; the rest is on disk, and a trial may be large."""
        nothing: dict[str, Any] = {"digests": {}, "configuration": {}, "data": {}, "files": {}}
        return dataclasses.replace(self, **nothing, history=(), traceback="")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "JobRecord":
        """Read what `to_dict` wrote; fields that a later version added keep their defaults."""
        known = {f.name for f in dataclasses.fields(cls)}
        values = {name: value for name, value in data.items() if name in known}
        values["status"] = JobStatus(values["status"])
        values["history"] = tuple(values.get("history", ()))
        return cls(**values)


@dataclass(frozen=True)
class ProtocolInfo:
    """A protocol as a study names it."""

    label: str
    digest: str
    scan_time_s: float
    yaml: str


@dataclass(frozen=True)
class StudyInfo:
    """What a tracker and a report are told about a study before its first job."""

    id: str
    """Made once per study folder; the same after a resume."""
    name: str
    question: str
    directory: Path
    config: Mapping[str, Any]
    """The resolved study."""
    protocols: tuple[ProtocolInfo, ...]
    digests: Mapping[str, str] = field(default_factory=dict)
    """``anatomy/<subject>``, ``tissue_table``, ...: digests of the inputs."""
    runner: Mapping[str, Any] = field(default_factory=dict)
    resumed: bool = False
