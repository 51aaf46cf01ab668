"""What a search improves, as one number per trial."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from bmapest_ray.study.config_search import ObjectiveConfig
from bmapest_ray.study.records import JobRecord
from bmapest_ray.study.summary import per_subject


@dataclass(frozen=True)
class Objective:
    """One score, averaged over tissues, slices and draws, then taken over subjects."""

    score: str
    tissues: tuple[str, ...]
    statistic: Literal["mean", "median", "worst"]
    maximize: bool

    @property
    def text(self) -> str:
        """The objective in words."""
        direction = "higher" if self.maximize else "lower"
        tissues = ", ".join(self.tissues)
        return f"{self.statistic} {self.score} over {tissues} ({direction} is better)"

    def of_job(self, record: JobRecord) -> float | None:
        """Return the score of a job averaged over tissues; None where one is not defined."""
        values = [record.scores.get(tissue, {}).get(self.score) for tissue in self.tissues]
        known = [v for v in values if v is not None and math.isfinite(v)]
        return statistics.fmean(known) if len(known) == len(values) else None

    def of_jobs(self, records: Iterable[JobRecord]) -> float | None:
        """Return the value of a trial; None if no job has one."""
        return self.over_subjects(list(per_subject(records, self.of_job).values()))

    def over_subjects(self, values: Sequence[float]) -> float | None:
        """Return the statistic of per-subject values; None if there are none."""
        if not values:
            return None
        if self.statistic == "worst":
            return min(values) if self.maximize else max(values)
        return statistics.median(values) if self.statistic == "median" else statistics.fmean(values)

    def better(self, one: float, other: float) -> bool:
        """Whether the first value beats the second."""
        return one > other if self.maximize else one < other


def make_objective(config: ObjectiveConfig) -> Objective:
    """Make the objective of a study, in the score's own direction unless the study states one.

    Raises
    ------
    InvalidInput
        If there is no such score; names the closest.
    """
    from bmapest_ray.metrics.scores import score_named

    score = score_named(config.score)
    maximize = (
        score.higher_is_better if config.direction is None else config.direction == "maximize"
    )
    return Objective(config.score, tuple(config.tissues), config.statistic, maximize)
