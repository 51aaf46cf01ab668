"""The loop of a design study: jobs to the runner, outcomes to disk first, then to the tracker.

A folder holds ``jobs/<id>.json``; a job found there is not run again, so a study that was stopped
goes on. With ``trials`` Optuna picks candidates, dwell times and starts for every budget; without,
all combinations are run.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import SolveError
from bmapest_ray.design.job import DesignJob
from bmapest_ray.study.config import SearchConfig
from bmapest_ray.study.design_config import DesignStudy
from bmapest_ray.study.files import replace_text
from bmapest_ray.study.ports import Outcome, Runner, Task, Tracker
from bmapest_ray.study.proposal import Proposal
from bmapest_ray.study.records import StudyInfo, TrialKey, TrialRecord
from bmapest_ray.study.search import Search
from bmapest_ray.study.search_storage import open_storage
from bmapest_ray.study.space import Choices, Dimension
from bmapest_ray.study.status import Stage, TrialStatus
from bmapest_ray.study.summary import StudyResult, StudyStatus

Say = Callable[[str], None]
_POLL_S = 5.0


@dataclass
class _Budget:
    """One scan time: what is still to be tried, and what came out."""

    seconds: float
    waiting: "Iterator[tuple[Proposal | None, DesignJob]]"
    search: Search | None
    number: int = 0
    running: dict[str, tuple[Proposal | None, TrialRecord, DesignJob]] = field(default_factory=dict)


def run_design_study(
    study: DesignStudy, folder: Path, runner: Runner, tracker: Tracker | None, say: Say
) -> list[dict[str, Any]]:
    """Run every optimisation of a study and return the best outcome of each budget.

    Raises
    ------
    SolveError
        If a budget has no outcome.
    """
    (folder / "jobs").mkdir(parents=True, exist_ok=True)
    loop = _Loop(study, folder, runner, tracker, say)
    return loop.run()


class _Loop:
    """Runs one study."""

    def __init__(
        self, study: DesignStudy, folder: Path, runner: Runner, tracker: Tracker | None, say: Say
    ) -> None:
        self._study, self._folder, self._runner = study, folder, runner
        self._tracker, self._say = tracker, say
        self._outcomes: dict[float, list[dict[str, Any]]] = {s: [] for s in study.scan_time_s}
        self._failures: list[str] = []

    def run(self) -> list[dict[str, Any]]:
        started = time.monotonic()
        info = self._info()
        if self._tracker is not None:
            self._tracker.study_started(info)
        for seconds in self._study.scan_time_s:
            self._budget(seconds)
        if self._tracker is not None:
            told = StudyResult(
                info, StudyStatus.FINISHED, (), "log variance (minimize)", 0,
                seconds=time.monotonic() - started,
            )  # fmt: skip
            self._tracker.study_done(told)
        return [self._best(seconds) for seconds in self._study.scan_time_s]

    def _info(self) -> StudyInfo:
        config = self._study.model_dump(mode="json")
        return StudyInfo(
            id=digest([config, str(self._folder.resolve())])[:16],
            name=self._study.name,
            question=self._study.question,
            directory=self._folder,
            config=config,
            protocols=(),
            runner=dict(self._runner.describe()),
        )

    def _budget(self, seconds: float) -> None:
        search = self._search(seconds) if self._study.trials is not None else None
        waiting = self._proposed(search, seconds) if search else self._all(seconds)
        budget = _Budget(seconds, waiting, search)
        exhausted = False
        while not exhausted or budget.running:
            while not exhausted and self._runner.free:
                step = next(budget.waiting, None)
                exhausted = step is None
                if step is not None:
                    self._begin(budget, *step)
            outcome = self._runner.next_done(_POLL_S) if budget.running else None
            if outcome is not None:
                self._take(budget, outcome)

    def _all(self, seconds: float) -> "Iterator[tuple[Proposal | None, DesignJob]]":
        study = self._study
        for start, candidate, dwell_s in product(
            range(study.starts), study.candidates, study.dwell_s or (None,)
        ):
            yield None, study.job(candidate, dwell_s, seconds, start)

    def _search(self, seconds: float) -> Search:
        study = self._study
        space: dict[str, Dimension] = {
            "candidate": Choices(study.candidates),
            "start": Choices(tuple(range(study.starts))),
            "dwell_s": Choices(study.dwell_s or (None,)),
        }
        config = SearchConfig(space=space, n_trials=study.trials)
        storage = open_storage(self._folder / "optuna.journal")
        return Search(f"{study.name}/{seconds:g}s", config, maximize=False, storage=storage)

    def _proposed(
        self, search: Search, seconds: float
    ) -> "Iterator[tuple[Proposal | None, DesignJob]]":
        search.resume(())
        while (proposal := search.ask()) is not None:
            settings = proposal.settings
            dwell_s = settings["dwell_s"]
            yield (
                proposal,
                self._study.job(
                    str(settings["candidate"]),
                    None if dwell_s is None else float(dwell_s),
                    seconds,
                    int(settings["start"] or 0),
                ),
            )

    def _begin(self, budget: _Budget, proposal: Proposal | None, job: DesignJob) -> None:
        key = TrialKey(job.label, Stage.SEARCH, budget.number)
        budget.number += 1
        record = TrialRecord(key, {"start": job.start, "budget_s": budget.seconds}, (job.id,))
        if self._tracker is not None:
            self._tracker.trial_started(record)
        budget.running[job.id] = (proposal, record, job)
        held = self._folder / "jobs" / f"{job.id}.json"
        if held.is_file():
            self._take(budget, Outcome(job.id, value=json.loads(held.read_text("utf-8"))))
        else:
            self._runner.submit(Task(job.id, job))

    def _take(self, budget: _Budget, outcome: Outcome) -> None:
        proposal, record, job = budget.running.pop(outcome.task_id)
        if outcome.failure is None:
            value = dict(outcome.value)
            text = json.dumps(value, indent=1, sort_keys=True) + "\n"
            replace_text(self._folder / "jobs" / f"{job.id}.json", text)
            self._outcomes[budget.seconds].append(value)
            status, message = TrialStatus.COMPLETE, ""
            self._say(
                f"{job.label} start {job.start}: {value['mean_variance'] ** 0.5:.4f} in "
                f"{value['scan_time_s']:.2f} s ({value['seconds']:.0f} s of computing)"
            )
        else:
            status, message = TrialStatus.FAILED, outcome.failure.message
            self._failures.append(message)
            self._say(f"{job.label} start {job.start} failed: {message}")
        score = None if outcome.failure else float(outcome.value["objective"])
        if budget.search is not None and proposal is not None:
            budget.search.tell(proposal.number, status, score)
        if self._tracker is not None:
            self._tracker.trial_done(_closed(record, status, score, message, outcome))

    def _best(self, seconds: float) -> dict[str, Any]:
        found = self._outcomes[seconds]
        if not found:
            last = self._failures[-1] if self._failures else "nothing was tried"
            raise SolveError(f"a design of {seconds:g} s must have an outcome, got none: {last}")
        return min(found, key=lambda one: one["objective"])


def _closed(
    record: TrialRecord,
    status: TrialStatus,
    value: float | None,
    message: str,
    outcome: Outcome,
) -> TrialRecord:
    settings: Mapping[str, Any] = outcome.value["values"] if outcome.failure is None else {}
    return TrialRecord(
        record.key, {**record.settings, **settings}, record.job_ids, status, value, message
    )
