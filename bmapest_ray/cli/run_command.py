"""``bmapest run``: puts study, runner, tracker, progress and report together."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bmapest_ray.base.errors import BmapestError, InvalidInput
from bmapest_ray.cli.output import own_name, print_json, stdout_to_stderr
from bmapest_ray.cli.progress import shown_progress
from bmapest_ray.cli.run_output import (
    Told,
    answer_lines,
    dry_run_told,
    plan_lines,
    told_of,
)

if TYPE_CHECKING:
    from bmapest_ray.study.config import StudyConfig
    from bmapest_ray.study.plan import Plan
    from bmapest_ray.study.ports import Progress, Runner
    from bmapest_ray.tracking.mlflow_tracker import MlflowTracker

LAST_WAIT_S = 15.0
"""How long an interrupted study waits for MLflow."""


class Interrupted(BmapestError):  # noqa: N818 - not an error
    """The user stopped a study; its folder is in order."""

    exit_code = 130


@dataclass(frozen=True)
class RunOptions:
    """The options of ``bmapest run`` by their names."""

    study: str
    overrides: tuple[str, ...]
    resume: bool
    retry_failed: bool
    dry_run: bool
    runner: str | None
    address: str | None
    out: Path | None
    json: bool

    @property
    def all_overrides(self) -> tuple[str, ...]:
        """Overrides with those that have an option of their own."""
        own = {"compute.runner": self.runner, "compute.address": self.address}
        return (*self.overrides, *(f"{key}={v}" for key, v in own.items() if v is not None))

    def resume_command(self, out: Path) -> str:
        """Return the command that goes on with this study in its folder."""
        overrides = [word for text in self.all_overrides for word in ("-o", text)]
        return shlex.join(
            [own_name(), "run", self.study, *overrides, "--out", str(out), "--resume"]
        )


def run_study_command(options: RunOptions) -> int:
    """Run a study, show the answer, and say where everything is."""
    with stdout_to_stderr():
        from bmapest_ray.study.loading import load_study
        from bmapest_ray.study.plan import make_plan

        if options.retry_failed and not options.resume:
            raise InvalidInput(
                "--retry-failed runs jobs of an earlier run again, got no --resume; add it"
            )
        config = load_study(options.study, options.all_overrides)
        out = options.out or Path("runs") / config.name
        plan = make_plan(config)
        if not options.dry_run:
            told = _run(config, out, options)
    if options.dry_run:
        return _show_plan(plan, out, options.json)
    if options.json:
        print_json(told_of(told))
        return 0
    for line in answer_lines(told, config.search.objective.score):
        typer.echo(line)
    if told.problem:
        typer.echo(f"bmapest: {told.problem}", err=True)
    return 0


def _show_plan(plan: "Plan", out: Path, as_json: bool) -> int:
    told = dry_run_told(plan, out)
    if as_json:
        print_json(told)
        return 0
    for line in plan_lines(told):
        typer.echo(line)
    return 0


def _run(config: "StudyConfig", out: Path, options: RunOptions) -> Told:
    """Run a study and write its report."""
    from bmapest_ray.study.run import run_study

    with shown_progress() as progress, _tracker(config, progress) as tracker:
        with _runner(config, out, progress) as runner:
            try:
                result = run_study(
                    config,
                    out,
                    runner=runner,
                    resume=options.resume,
                    retry_failed=options.retry_failed,
                    tracker=tracker,
                    progress=progress,
                )
            except KeyboardInterrupt:
                raise Interrupted(
                    f"interrupted, what was finished is in {out}; go on with: "
                    f"{options.resume_command(out)}"
                ) from None
        answer, files = _report(out, config, tracker)
        _wait_for(tracker, progress)
        return Told(result, answer, files, "" if tracker is None else tracker.problem)


@contextmanager
def _runner(config: "StudyConfig", out: Path, progress: "Progress") -> "Iterator[Runner]":
    from bmapest_ray.compute.factory import make_runner
    from bmapest_ray.study.job import WORK

    if config.compute.runner == "ray":
        progress.message(
            "starting Ray ..." if config.compute.address is None else "joining Ray ..."
        )
    state: dict[str, Any] = {"device": "cuda" if config.compute.num_gpus else "cpu"}
    if config.compute.cache is not None:
        state["cache_dir"] = config.compute.cache
    state["checkpoint_dir"] = str((out / "checkpoints").absolute())
    runner = make_runner(config.compute, WORK, state, study=config.name)
    try:
        yield runner
    finally:
        runner.shutdown()


@contextmanager
def _tracker(config: "StudyConfig", progress: "Progress") -> "Iterator[MlflowTracker | None]":
    from bmapest_ray.tracking.factory import make_tracker

    tracker = make_tracker(config.tracking)
    try:
        yield tracker
    except BaseException:
        if tracker is not None and tracker.state.waiting:
            progress.message("writing what is left to MLflow ...")
        raise
    finally:
        if tracker is not None:
            tracker.close(LAST_WAIT_S)


def _report(
    out: Path, config: "StudyConfig", tracker: "MlflowTracker | None"
) -> tuple[str, dict[str, str]]:
    """Write the report and keep it in MLflow; returns its sentence, and what is where."""
    from bmapest_ray.cli.study_extras import show_study
    from bmapest_ray.report.html import HTML_NAME, MARKDOWN_NAME, sentence
    from bmapest_ray.report.load import load_evidence

    show, deviations = config.output.shown_subjects, config.output.deviations
    evidence = load_evidence(out, show, deviations=deviations)
    show_study(evidence, tracker)
    files = {
        "folder": str(out),
        "results": str(out / "results"),
        "maps": str(out / "maps"),
        "report": str(out / HTML_NAME),
        "summary": str(out / MARKDOWN_NAME),
    }
    if tracker is not None:
        files["mlflow"] = tracker.uri or shlex.join([own_name(), "ui", str(out)])
    return sentence(evidence), files


def _wait_for(tracker: "MlflowTracker | None", progress: "Progress") -> None:
    if tracker is not None:
        tracker.drain(
            on_wait=lambda state: progress.message(f"writing to MLflow: {state.waiting} left")
        )
