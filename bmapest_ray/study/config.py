"""The study file: every key, its default and its rule.

`bmapest_ray.study.loading` reads it; ``studies/quickstart.yaml`` shows it. A relative path in a
study file starts at the folder of that file; in an override it starts at the current folder.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from bmapest_ray.study.config_search import SearchConfig as SearchConfig
from bmapest_ray.study.config_search import Section


class AnatomyConfig(Section):
    """Whose brain, and which slices of it."""

    source: str = "mni152"
    """``mni152`` (a group average, offline) or ``bids:DIR``."""
    subjects: Literal["all"] | str | tuple[str, ...] = "all"
    """``all``, a list, or the name of a split in `splits`: who the table reports."""
    splits: str | None = None
    """YAML file ``split name: [subjects]``."""
    cohort: Literal["all"] | str | tuple[str, ...] = "all"
    """Who may serve as cohort; the subject under test is always left out."""
    slices: tuple[str, ...] = Field(default=("below-top:75",), min_length=1)
    """``below-top:MM``, ``z:MM`` or ``index:N``."""
    matrix: int = Field(default=64, ge=8)
    fov_mm: float = Field(default=216.0, gt=0)

    @field_validator("subjects", "cohort", mode="before")
    @classmethod
    def _subjects_as_text(cls, value: Any) -> Any:  # noqa: ANN401 - YAML reads 04 as a number
        for item in value if isinstance(value, list | tuple) else (value,):
            if not isinstance(item, str):
                raise ValueError(f"subjects must be quoted text, got {item!r}; write '{item}'")
        return value


class FieldsConfig(Section):
    """Field maps: ``none``, ``analytic``, ``paper`` or a NIfTI file (B0 in Hz, B1 relative)."""

    b0: str = "analytic"
    b1: str = "analytic"
    coils: str | int = 1
    """Receive coils: how many analytic loops (1 is one uniform coil), or a complex NIfTI file."""


class GraphConfig(Section):
    """How finely states are followed, in place of what each protocol says; see `StateAccuracy`."""

    min_state_mag: float = 5e-5
    min_latent_signal: float = 5e-5
    min_emitted_signal: float = 5e-4
    probes: Literal["tissues", "mean", "mean-of-maps"] = "tissues"


class AcquisitionConfig(Section):
    """What data and fit share beside the protocol; each default is the physical choice."""

    sequence_fov_mm: float | None = Field(default=None, gt=0)
    """Field of view that the sequence encodes; null is that of the anatomy."""
    voxel_fov_mm: float | None = Field(default=None, gt=0)
    """Width that the voxels are said to fill; null is that of the anatomy."""
    diffusivity_times: float = Field(default=1.0, gt=0)
    """Factor on every diffusion coefficient."""
    graph: GraphConfig | None = None


class NoiseConfig(Section):
    """Complex Gaussian noise; with `snr` null the data are noise-free."""

    snr: float | None = Field(default=None, gt=0)
    reference: str | None = None
    """Contrast whose largest noise-free magnitude, divided by `snr`, is the noise's standard
    deviation for every protocol. Without it each protocol has its own noise level."""
    draws: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)


class DataConfig(Section):
    """How the data are made, where that differs from the model that is fitted."""

    engine: str = "auto"
    mixing: str | None = None
    matrix: int | None = Field(default=None, ge=8)
    tissue: str | None = None
    """Changes of the tissue table, e.g. ``T1=+5%,T2=-5%``."""
    tissue_table: str | None = None
    b0: str | None = None
    b1: str | None = None


class InversionConfig(Section):
    """How maps are solved for. ``settings`` are the fields of `SolverSettings` but its name."""

    solver: str = "gauss-newton"
    settings: dict[str, float | int | bool | str | None] = Field(default_factory=dict)
    start: str = "auto"
    """``auto`` (cohort where at least two other subjects exist, else uniform), ``cohort``,
    ``cohort:19`` (mirror images added until there are 19 brains), ``uniform``, ``ellipse``,
    ``constant:0.2``, ``truth``, or a folder of NIfTI maps."""
    prior: str = "none"
    """``none``, ``cohort``, ``tv``, ``pca``, ``neighbours``, ``cohort+tv`` or ``pca+tv``."""
    prior_settings: dict[str, float | int | bool | str | None] = Field(default_factory=dict)
    parametrisation: str = "direct"
    parametrisation_settings: dict[str, float | int | bool | str | None] = Field(
        default_factory=dict
    )
    constraints: Literal["auto", "simplex", "box", "none"] = "auto"
    engine: str = "auto"
    tolerance: float = Field(default=1e-4, gt=0)


class ComputeConfig(Section):
    """Where jobs run; none of it decides a result."""

    runner: Literal["local", "ray"] = "ray"
    actors: int | None = Field(default=None, ge=1)
    """Ray actors; null is one per free CPU (or per share of a GPU)."""
    num_cpus: float = Field(default=1.0, ge=0)
    num_gpus: float = Field(default=0.0, ge=0)
    address: str | None = None
    """Ray cluster to join; null starts a local one."""
    time_limit_s: float | None = Field(default=None, gt=0)
    retries: int = Field(default=2, ge=0)
    """How often a job is run again after its worker died or it passed its time limit."""
    storage: str | None = None
    """``postgresql://user@host:5432/name`` lets several drivers work on the study at once; null
    keeps the search in the study's folder. The password comes from PGPASSWORD or ~/.pgpass."""
    lease_s: float = Field(default=30.0, gt=0)
    """With `storage`: a driver that is silent for so long is dead, and others take over."""
    cache: str | None = None
    """Folder for operators; null is ``cache`` in the study's folder."""


class TrackingConfig(Section):
    """What MLflow is told; the results on disk do not depend on it."""

    mlflow: bool | str = True
    """False, true (a database in the study's folder) or the URI of a server."""
    artifacts: str | None = None
    """``s3://BUCKET/PREFIX`` keeps MLflow's files in a store that speaks S3, at the endpoint in
    MLFLOW_S3_ENDPOINT_URL and with the keys of the AWS tools; null leaves them in the study's
    folder or to the server."""
    images: bool = True

    @field_validator("artifacts")
    @classmethod
    def _is_store(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"s3://[^/]+(/.*)?", value):
            raise ValueError(f"tracking.artifacts must be s3://BUCKET/PREFIX, got '{value}'")
        return value


class OutputConfig(Section):
    """What is written besides the results table."""

    maps: bool = True
    """NIfTI maps of every job."""
    shown_subjects: int = Field(default=1, ge=0)
    """Typical subjects whose reported fits are solved once more at the end, to show maps over
    iterations; 0 shows none."""
    deviations: bool = False
    """Also show standard deviations of those subjects' maps, which takes much longer."""


class StudyConfig(Section):
    """A study: one question, the protocols that compete, and how they are compared."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    question: str = Field(min_length=1)
    preset: str | None = None
    """Settings under those of the study: a file of ``studies/presets`` by its name."""
    anatomy: AnatomyConfig = AnatomyConfig()
    protocols: tuple[str, ...] = Field(min_length=1)
    """Specifications (``t1inv,t2prep[1]``), preset names or YAML files."""
    acquisition: AcquisitionConfig = AcquisitionConfig()
    fields: FieldsConfig = FieldsConfig()
    tissue_table: str = "paper-3t"
    mixing: str = "compartments"
    signal: Literal["magnitude", "complex"] = "magnitude"
    noise: NoiseConfig = NoiseConfig()
    data: DataConfig = DataConfig()
    inversion: InversionConfig = InversionConfig()
    search: SearchConfig = SearchConfig()
    compute: ComputeConfig = ComputeConfig()
    tracking: TrackingConfig = TrackingConfig()
    output: OutputConfig = OutputConfig()

    @model_validator(mode="after")
    def _one_noise_level(self) -> "StudyConfig":
        if self.noise.snr is not None and self.noise.reference is None and len(self.protocols) > 1:
            raise ValueError(
                "noise.reference must name a contrast when protocols are compared, got none; "
                "set it, for example to 't1inv[3]', so that all share one noise level"
            )
        return self

    @model_validator(mode="after")
    def _searched_paths(self) -> "StudyConfig":
        for path in self.search.space:
            if not path.startswith("inversion."):
                raise ValueError(
                    f"search.space must name settings under 'inversion.', got '{path}'; "
                    "data and protocols are what is compared, not what is tuned"
                )
        return self
