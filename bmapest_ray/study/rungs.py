"""A trial that is compared with others on the way up: few iterations first, then more.

Solvers that take hundreds of iterations show early which settings are bad. Each rung is a set of
jobs with so many iterations; its value is the study's objective over all of its subjects, so that
settings which change the loss itself remain comparable.
"""

from collections import deque
from collections.abc import Mapping, Sequence

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.study.objective import Objective
from bmapest_ray.study.plan import Plan
from bmapest_ray.study.records import JobRecord, TrialRecord
from bmapest_ray.study.space import Value
from bmapest_ray.study.spec import JobSpec
from bmapest_ray.study.status import Stage
from bmapest_ray.study.trials import ActiveTrial

ITERATIONS = "inversion.settings.max_iterations"

Rung = tuple[int, Sequence[JobSpec]]
"""Iterations, and the jobs that take them; 0 is what the solver itself would take."""


def rungs_of(plan: Plan, label: str, settings: Mapping[str, Value]) -> list[Rung]:
    """Return the rungs of a configuration, the last one with the solver's own iterations.

    Raises
    ------
    InvalidInput
        If the iterations are searched for, or are not more than those of the rungs.
    """
    whole = plan.jobs(label, settings, Stage.SEARCH)
    rungs, most = plan.config.search.rungs, whole[0].solve.solver.iterations_limit
    if ITERATIONS in plan.config.search.space or most <= rungs[-1]:
        raise InvalidInput(
            f"search.rungs must stay below {ITERATIONS}, which is not searched then, got "
            f"{list(rungs)} and {most}; lower the rungs or choose a solver of more iterations"
        )
    low = [(n, plan.jobs(label, {**settings, ITERATIONS: n}, Stage.SEARCH)) for n in rungs]
    return [*low, (0, whole)]


class RungTrial(ActiveTrial):
    """A trial whose next rung begins when it was compared on the one below.

    Parameters
    ----------
    record
        The trial as it stands on disk.
    rungs
        See `rungs_of`.
    """

    def __init__(self, record: TrialRecord, rungs: Sequence[Rung]) -> None:
        self._later = deque(rungs)
        self._begin(record)

    def _begin(self, record: TrialRecord) -> None:
        self._iterations, jobs = self._later.popleft()
        super().__init__(record, jobs)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to wait for on this rung or above."""
        return super().is_over and not self._later

    def finished_subject(self, record: JobRecord, objective: Objective) -> tuple[int, float] | None:  # noqa: ARG002
        """Return iterations and value of the rung if this was its last job and others follow."""
        if not super().is_over or not self._later:
            return None
        scored = all(job.status.is_scored for job in self.records)
        value = objective.of_jobs(self.records) if scored else None
        if value is None:
            self._later.clear()  # it cannot be compared, and has failed
            return None
        return self._iterations, value

    def go_on(self) -> None:
        """Begin the next rung."""
        self._begin(self.record)

    def stop(self) -> None:
        """Leave the rungs above out: the trial is pruned."""
        super().stop()
        self._later.clear()
