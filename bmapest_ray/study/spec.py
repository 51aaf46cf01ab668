"""A job as data: everything that decides its result, and nothing else.

Two jobs with equal ids give equal results, so an id is enough to know that a job is done. Where
things lie (folders, files) does not decide a result, what they contain does: places carry
``digest: False`` and stand beside the digest of their content.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bmapest_ray.base.digests import digest
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.sequence.protocol import Protocol
from bmapest_ray.study.records import SCHEMA_VERSION
from bmapest_ray.tissue.table import TissueTable

_PLACE: dict[str, Any] = {"digest": False}

Settings = tuple[tuple[str, float | int | bool | str | None], ...]


@dataclass(frozen=True)
class AnatomyPart:
    """One slice of one subject."""

    source: str = field(metadata=_PLACE)
    subject: str
    content: str
    """Digest of the subject's volume."""
    slice: str
    matrix: int
    fov_mm: float

    @property
    def fov_m(self) -> float:
        """Width of the field of view in metres."""
        return self.fov_mm * 1e-3


@dataclass(frozen=True)
class FieldPart:
    """One field: ``none``, ``analytic``, or a file and the digest of its content."""

    choice: str = field(metadata=_PLACE)
    content: str


ONE_COIL = FieldPart("1", "1")
"""One uniform receive coil."""


@dataclass(frozen=True)
class ModelPart:
    """A model of the scanner and of tissue; data and fit each have one."""

    tissue_table: TissueTable = field(metadata=_PLACE)
    tissue: str
    """Digest of the table's numbers."""
    mixing: str
    b0: FieldPart
    b1: FieldPart
    matrix: int
    engine: str = "auto"
    tolerance: float = 1e-4
    sequence_fov_m: float | None = None
    """Field of view that the sequence encodes; None is that of the anatomy."""
    voxel_fov_m: float | None = None
    """Width that the voxels fill; None is that of the anatomy."""
    coils: FieldPart = field(default=ONE_COIL, metadata={"digest": "unless default"})
    """Receive coils: a number of analytic ones, or a file."""

    def is_same_model(self, other: "ModelPart") -> bool:
        """Whether both describe one physics, whatever engine computes it."""
        names = (
            "tissue", "mixing", "b0", "b1", "coils", "matrix", "sequence_fov_m", "voxel_fov_m",
        )  # fmt: skip
        return all(getattr(self, n) == getattr(other, n) for n in names)


@dataclass(frozen=True)
class NoisePart:
    """Noise of the data; `snr` None is noise-free, and then nothing else counts."""

    snr: float | None = None
    reference: Protocol | None = None
    """Its largest noise-free magnitude divided by `snr` is the standard deviation; None takes the
    job's own protocol."""
    seed: int = 0
    draw: int = 0


@dataclass(frozen=True)
class SolvePart:
    """How maps are solved for."""

    solver: SolverSettings
    start: str
    """``cohort``, ``uniform``, or a folder of maps."""
    start_content: str = ""
    prior: str = "none"
    prior_settings: Settings = ()
    parametrisation: str = "direct"
    parametrisation_settings: Settings = ()
    constraints: str | None = None
    cohort: tuple[tuple[str, str], ...] = ()
    """``(subject, content digest)`` of the other subjects, where start or prior use them."""


@dataclass(frozen=True)
class JobSpec:
    """One inversion: subject x slice x noise draw x protocol x configuration."""

    anatomy: AnatomyPart
    protocol: Protocol
    model: ModelPart
    data: ModelPart
    noise: NoisePart
    solve: SolvePart
    signal: str = "magnitude"
    schema: int = SCHEMA_VERSION

    @cached_property
    def id(self) -> str:
        """Sha256 of the canonical JSON of all fields but places and display names."""
        return digest(self)

    @cached_property
    def configuration_digest(self) -> str:
        """Digest of how the maps are solved for, without whose maps they are."""
        solve = {**self.solve.__dict__, "cohort": bool(self.solve.cohort)}
        return digest([solve, self.model, self.signal])

    @property
    def sequence_fov_m(self) -> float:
        """Width in metres of the field of view that the sequence encodes."""
        return self.model.sequence_fov_m or self.anatomy.fov_m

    @property
    def affinity(self) -> str:
        """Jobs of one affinity share their operators."""
        return self.protocol.digest
