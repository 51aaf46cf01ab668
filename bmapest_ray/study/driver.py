"""The loop of a study: propose trials, run their jobs, keep the results, tell everyone else.

Order matters. A finished job is committed to disk first, then the search hears of its trial, then
the tracker; so a driver that dies at any moment loses only what was in flight, and a resumed one
finds out from the disk what the others have missed.

Each protocol first searches its settings, `n_trials` each, on the tune subjects; then its best
configuration is run once on the report subjects with fresh noise, and the answer is made of those
jobs alone.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from bmapest_ray.study.answer import make_result, summarise, write_result
from bmapest_ray.study.crew import Alone, Crew
from bmapest_ray.study.desk import SKIPPED, Desk
from bmapest_ray.study.notify import Notifier
from bmapest_ray.study.plan import Plan
from bmapest_ray.study.ports import Progress, Runner, Snapshot
from bmapest_ray.study.records import JobRecord, StudyInfo, TrialKey, TrialRecord
from bmapest_ray.study.rungs import RungTrial, rungs_of
from bmapest_ray.study.searches import Searches
from bmapest_ray.study.space import Value
from bmapest_ray.study.status import JobStatus, Stage, TrialStatus
from bmapest_ray.study.store import StudyStore
from bmapest_ray.study.summary import ProtocolSummary, StudyResult, StudyStatus
from bmapest_ray.study.trials import ActiveTrial

_POLL_S = 5.0
_OTHERS_S = 0.5
"""Pause before looking again whether other drivers have ended their trials."""


class Driver:
    """Runs one planned study in one open store.

    Parameters
    ----------
    plan, store, study
        What is asked, where it is kept, how it is announced.
    runner, notifier, progress
        Who runs jobs, who is told, who is shown.
    crew
        The other drivers of the study; None is nobody.
    """

    def __init__(
        self,
        plan: Plan,
        store: StudyStore,
        study: StudyInfo,
        runner: Runner,
        notifier: Notifier,
        progress: Progress,
        crew: Crew | None = None,
    ) -> None:
        self._plan, self._store, self._study = plan, store, study
        self._notifier, self._progress = notifier, progress
        self._crew = crew or Alone()
        self._desk = Desk(store, runner, maps=plan.config.output.maps, crew=self._crew)
        self._searches = Searches(plan, store, self._crew, study.id)
        self._active: list[ActiveTrial] = []
        self._best: dict[str, float] = {}
        self._reports: dict[str, tuple[TrialRecord, list[JobRecord]]] = {}
        self._told: set[str] = set()
        self._started = time.monotonic()
        self._looked = 0.0

    def run(self) -> StudyResult:
        """Run to the end; whatever stops it, the disk and the tracker are left in order."""
        self._notifier.study_started(self._study)
        try:
            self._catch_up()
            if self._searches:
                self._drive(self._next_search)
            self._drive(self._report_queue())
        except KeyboardInterrupt:
            self._close(StudyStatus.INTERRUPTED)
            raise
        except Exception:
            self._close(StudyStatus.FAILED)
            raise
        return self._close(StudyStatus.FINISHED)

    # -- the loop ------------------------------------------------------------------------------

    def _drive(self, next_trial: Callable[[], ActiveTrial | None]) -> None:
        """Run trials until there are no more."""
        while True:
            self._hand_out(next_trial)
            self._stop_if_cancelled()
            if not self._active:
                if not self._searches.others_at_work:
                    return
                time.sleep(_OTHERS_S)
                continue
            record, trials = self._desk.collect(_POLL_S)
            for trial in trials:
                if record is not None:
                    self._take(trial, record)
            self._show()

    def _stop_if_cancelled(self) -> None:
        now = time.monotonic()
        if now - self._looked > 1.0:
            self._looked = now
            if self._store.is_cancelled:
                self._progress.message("cancelled by request")
                raise KeyboardInterrupt

    def _hand_out(self, next_trial: Callable[[], ActiveTrial | None]) -> None:
        """Give the runner jobs, from running trials first, until it is full."""
        while self._desk.is_free:
            waiting = next((t for t in self._active if t.has_waiting), None) or next_trial()
            if waiting is None:
                return
            if waiting not in self._active:
                self._begin(waiting)
            job = waiting.next_job()
            if job is None:
                continue
            known = self._desk.finished(job)
            if known is None:
                self._desk.submit(waiting, job)
            else:
                self._take(waiting, known)

    def _begin(self, trial: ActiveTrial) -> None:
        self._active.append(trial)
        self._store.write_trial(trial.record)
        self._notifier.trial_started(trial.record)

    def _take(self, trial: ActiveTrial, record: JobRecord) -> None:
        trial.add(record)
        self._notifier.job_done(trial.record, record)
        if trial.record.key.stage is Stage.SEARCH and not trial.pruned:
            seen = trial.finished_subject(record, self._plan.objective)
            if seen is not None:
                stops = self._searches.report(trial.record.key, *seen)
                (trial.stop if stops else trial.go_on)()
        if trial.is_over:
            self._end(trial)

    def _end(self, trial: ActiveTrial) -> None:
        ended = trial.ended(self._plan.objective)
        self._active.remove(trial)
        self._store.write_trial(ended)
        if ended.key.stage is Stage.SEARCH:
            self._searches.tell(ended)
        else:
            self._reports[ended.key.protocol] = (ended, trial.records)
        self._notifier.trial_done(ended)
        self._note(ended)

    # -- where trials come from ----------------------------------------------------------------

    def _next_search(self) -> ActiveTrial | None:
        proposed = self._searches.next()
        return None if proposed is None else self._trial(proposed[0], proposed[1].settings)

    def _report_queue(self) -> Callable[[], ActiveTrial | None]:
        labels = iter(self._plan.protocols)

        def next_report() -> ActiveTrial | None:
            label = next(labels, None)
            if label is None:
                return None
            best = self._searches.best(label)
            number, settings = (best.number, best.settings) if best else (0, {})
            self._store.drop_reports(label, but=number)
            return self._trial(TrialKey(label, Stage.REPORT, number), settings)

        return next_report

    def _trial(self, key: TrialKey, settings: Mapping[str, Value]) -> ActiveTrial:
        search = self._plan.config.search
        climbs = key.stage is Stage.SEARCH and search.pruner == "hyperband"
        rungs = rungs_of(self._plan, key.protocol, settings) if climbs else []
        jobs = self._plan.jobs(key.protocol, settings, key.stage)
        asked = [job for _, some in rungs for job in some] or jobs
        record = TrialRecord(
            key,
            dict(settings),
            tuple(job.id for job in asked),
            scan_time_s=self._plan.scan_time_s(key.protocol, settings),
        )
        if climbs:
            return RungTrial(record, rungs)
        shuffle = key.stage is Stage.SEARCH and search.pruner != "none"
        return ActiveTrial(record, jobs, shuffle=shuffle)

    # -- before and after ----------------------------------------------------------------------

    def _catch_up(self) -> None:
        """Tell the search and the tracker what the disk knows and they may have missed."""
        known = self._store.trials()
        for trial in known:
            self._tell(trial, ended=trial.key.stage is Stage.SEARCH)
        self._searches.resume(known)

    def _tell(self, trial: TrialRecord, *, ended: bool) -> None:
        """Tell the tracker about a trial on disk, and its end if there is one to tell."""
        self._notifier.trial_started(trial)
        for job in map(self._store.job, trial.job_ids):
            if job is not None:
                self._notifier.job_done(trial, job)
        if ended and trial.status is not TrialStatus.RUNNING:
            self._notifier.trial_done(trial)
            self._note(trial)

    def _tell_what_others_did(self) -> None:
        for trial in () if self._crew.is_alone else self._store.trials():
            if str(trial.key) not in self._told:
                self._tell(trial, ended=True)

    def _close(self, status: StudyStatus) -> StudyResult:
        self._tell_what_others_did()
        self._store.compact()
        rows = [self._row(label) for label in self._plan.protocols if label in self._reports]
        result = make_result(self._plan, self._study, status, rows, self._desk.counts)
        result = replace(
            result,
            seconds=time.monotonic() - self._started,
            tracking_errors=self._notifier.errors,
            tracking_message=self._notifier.last_error,
        )
        write_result(self._store.root, result, {k: v[0] for k, v in self._reports.items()})
        self._notifier.study_done(result)
        return result

    def _row(self, label: str) -> ProtocolSummary:
        trial, jobs = self._reports[label]
        complete = self._searches.counts(label).get("COMPLETE", 0)
        return summarise(self._plan, label, trial, jobs, complete)

    # -- how far it is -------------------------------------------------------------------------

    def _note(self, trial: TrialRecord) -> None:
        """Remember how far the study is and the best value of each protocol."""
        self._told.add(str(trial.key))
        label, value = trial.key.protocol, trial.value
        if value is None:
            return
        if label not in self._best or self._plan.objective.better(value, self._best[label]):
            self._best[label] = value

    def _show(self) -> None:
        counts, seconds = self._desk.counts, time.monotonic() - self._started
        ran = sum(n for status, n in counts.items() if status != SKIPPED)
        searched = self._searches.budget
        trials = searched + len(self._plan.protocols)
        done = ran + counts[SKIPPED]
        total = max(done, self._plan.n_jobs(searched))
        left = seconds / ran * (total - done) if ran else None
        self._progress.update(
            Snapshot(
                jobs_done=done,
                jobs_total=total,
                jobs_failed=counts[JobStatus.FAILED] + counts[JobStatus.DIVERGED],
                jobs_skipped=counts[SKIPPED],
                trials_done=len(self._told),
                trials_total=trials,
                best=dict(self._best),
                seconds=seconds,
                seconds_left=left,
            )
        )
