"""Running a study from Python: `run_study` is what ``bmapest run`` calls."""

from pathlib import Path

from bmapest_ray.study.config import StudyConfig
from bmapest_ray.study.crew import Alone, Crew
from bmapest_ray.study.driver import Driver
from bmapest_ray.study.inputs import write_inputs
from bmapest_ray.study.lease import SharedCrew
from bmapest_ray.study.loading import to_dict
from bmapest_ray.study.notify import Notifier, Silent
from bmapest_ray.study.plan import make_plan
from bmapest_ray.study.ports import Progress, Runner, Tracker
from bmapest_ray.study.records import StudyInfo
from bmapest_ray.study.store import StudyStore
from bmapest_ray.study.summary import StudyResult


def run_study(
    config: StudyConfig,
    out: str | Path,
    *,
    runner: Runner,
    resume: bool = False,
    retry_failed: bool = False,
    tracker: Tracker | None = None,
    progress: Progress | None = None,
) -> StudyResult:
    """Run a study to its end, or go on with one.

    Parameters
    ----------
    config
        The study.
    out
        Its folder; new or empty unless `resume`.
    runner
        Runs `bmapest_ray.study.job.WORK`; the caller shuts it down.
    resume
        Go on from what is in the folder: finished jobs are not run again. Where the study names
        a ``compute.storage``, other drivers may be at work in the folder: this one joins them.
    retry_failed
        On resuming, run jobs again that failed before.
    tracker
        Is told everything after it is on disk; what it raises is counted, nothing more.
    progress
        Is shown every finished job.

    Raises
    ------
    InvalidInput, MissingInput
        If the study or its folder break a rule, or a job finds that its input does.
    KeyboardInterrupt
        After what was finished is in order on disk.
    """
    plan = make_plan(config)
    store = StudyStore(Path(out))
    study_id = store.open(config, resume=resume)
    crew: Crew = Alone()
    try:
        if config.compute.storage is not None:
            crew = SharedCrew(config.compute.storage, study_id, config.compute.lease_s)
            if not crew.take("tracker"):
                tracker = None  # another driver tells it, in the end also about this one's trials
        if retry_failed:
            store.forget_failed()
        study = StudyInfo(
            id=study_id,
            name=config.name,
            question=config.question,
            directory=store.root,
            config=to_dict(config),
            protocols=tuple(p.info for p in plan.protocols.values()),
            digests=plan.digests,
            runner=dict(runner.describe()),
            resumed=resume,
        )
        write_inputs(study)
        if not crew.is_alone:
            store.let_others_in()
        told, shown = Notifier(tracker), progress or Silent()
        return Driver(plan, store, study, runner, told, shown, crew).run()
    finally:
        crew.leave()
        store.close()
