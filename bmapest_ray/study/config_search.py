"""The study file's ``search`` section: how configurations are proposed and compared."""

from itertools import pairwise
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from bmapest_ray.study.space import Dimension, make_space

TissueName = Literal["GM", "WM", "CSF"]


class Section(BaseModel):
    """A part of a study: unknown keys are refused, values cannot change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
    pruner: Literal["none", "wilcoxon", "hyperband"] = "none"
    """Stop bad trials early: ``wilcoxon`` across subjects, ``hyperband`` across iterations."""
    rungs: tuple[int, ...] = ()
    """With ``hyperband``: iterations at which trials are compared before they get the solver's
    `max_iterations`; each is the same multiple of the one before, e.g. 20, 60, 180. A rung is
    solved from the start, so those that are not stopped cost about half as much again."""
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
    def _ladder(self) -> "SearchConfig":
        if (self.pruner == "hyperband") != bool(self.rungs):
            raise ValueError(
                f"search.rungs and pruner 'hyperband' belong together, got {list(self.rungs)} and "
                f"'{self.pruner}'; set both, for example rungs [20, 60, 180]"
            )
        steps = [b / a for a, b in pairwise(self.rungs) if a > 0] or [3.0]
        if min(self.rungs, default=1) < 1 or set(steps) != {round(steps[0])} or steps[0] < 2:
            raise ValueError(
                "search.rungs must each be the same whole multiple, at least 2, of the one before, "
                f"got {list(self.rungs)}; try [20, 60, 180]"
            )
        return self

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
