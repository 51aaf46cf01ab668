"""The study file: every key, its default and its rule.

`bmapest_ray.study.loading` reads it; ``studies/quickstart.yaml`` shows it. A relative path in a
study file starts at the folder of that file; in an override it starts at the current folder.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bmapest_ray.study.space import Dimension, make_space

TissueName = Literal["GM", "WM", "CSF"]


class Section(BaseModel):
    """A part of a study: unknown keys are refused, values cannot change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    ``uniform``, or a folder of NIfTI maps."""
    prior: str = "none"
    """``none``, ``cohort``, ``tv``, ``pca``, ``cohort+tv`` or ``pca+tv``."""
    prior_settings: dict[str, float | int | bool | str | None] = Field(default_factory=dict)
    parametrisation: str = "direct"
    parametrisation_settings: dict[str, float | int | bool | str | None] = Field(
        default_factory=dict
    )
    constraints: Literal["auto", "simplex", "box", "none"] = "auto"
    engine: str = "auto"
    tolerance: float = Field(default=1e-4, gt=0)


class ObjectiveConfig(Section):
    """What a search improves: one score, averaged over tissues, then taken over subjects."""

    score: str = "psnr_db"
    tissues: tuple[TissueName, ...] = Field(default=("GM", "WM", "CSF"), min_length=1)
    statistic: Literal["mean", "median", "worst"] = "mean"
    direction: Literal["maximize", "minimize"] | None = None
    """By default the score's own direction."""


class ContrastsConfig(Section):
    """A search over subsets of contrasts: one boolean per chain of a protocol."""

    max_scan_time_s: float | None = Field(default=None, gt=0)
    """No subset may take longer on the scanner."""


class SearchConfig(Section):
    """How configurations are proposed. Each protocol is searched on its own, `n_trials` each."""

    sampler: Literal["tpe", "random", "gp", "cmaes", "grid", "brute"] = "tpe"
    space: dict[str, Dimension] = Field(default_factory=dict)
    """Path in the study (``inversion.settings.damping``) -> range or choices."""
    n_trials: int | None = Field(default=20, ge=1)
    """Trials per protocol; null runs a whole ``grid`` or ``brute`` space."""
    seed: int = Field(default=0, ge=0)
    tune_subjects: str | tuple[str, ...] | None = None
    """Subjects (a list or a split) that choose the configuration; they must not be among
    `anatomy.subjects`. Null chooses on those same subjects, and the result says so."""
    objective: ObjectiveConfig = ObjectiveConfig()
    pruner: Literal["none", "wilcoxon"] = "none"
    """Stop bad trials early, across subjects."""
    pruner_p: float = Field(default=0.1, gt=0, lt=1)
    """Stop a trial when its subjects are worse than the best trial's at this p: 0.1 needs four of
    them, 0.26 two, which saves more and errs more often."""
    contrasts: ContrastsConfig | None = None
    """Search which contrasts of each protocol are played at all."""
    pareto: bool = False
    """Search accuracy against scan time; such a search cannot prune."""
    patience: int | None = Field(default=None, ge=1)
    """Stop a search whose best has stood for so many trials."""
    warm_start: str | None = None
    """Folder of an earlier study whose best configurations are tried first."""

    @field_validator("space", mode="before")
    @classmethod
    def _space(cls, value: Any) -> Any:  # noqa: ANN401
        return make_space(value) if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _one_kind(self) -> "SearchConfig":
        if self.pareto and self.pruner != "none":
            raise ValueError(
                f"search.pareto has two objectives and cannot prune, got pruner '{self.pruner}'; "
                "drop one of them"
            )
        if self.pareto and self.contrasts is None:
            raise ValueError(
                "search.pareto needs search.contrasts, got none: all trials would take the same "
                "scan time; add it or drop pareto"
            )
        return self

    @model_validator(mode="after")
    def _finite(self) -> "SearchConfig":
        if self.sampler in ("grid", "brute"):
            for path, dimension in self.space.items():
                dimension.require_finite(path, self.sampler)
        elif self.n_trials is None:
            raise ValueError(
                f"n_trials must be a number for sampler '{self.sampler}', got null; "
                "only grid and brute know when they are done"
            )
        return self


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
    images: bool = True


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
