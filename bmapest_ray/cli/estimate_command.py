"""``bmapest estimate``: measured images in, tissue maps out."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bmapest_ray.base.errors import InvalidInput, require_choice

if TYPE_CHECKING:
    from bmapest_ray.scan.estimate import Payload, RunBlocks, Told
    from bmapest_ray.scan.request import Request
    from bmapest_ray.scan.settings import ScanSettings
    from bmapest_ray.scan.sweep import BlockMaps

WORK_FOLDER = ".bmapest-work"


@dataclass(frozen=True)
class EstimateOptions:
    """The options of the command line by their names."""

    arguments: tuple[str, ...]
    image: tuple[str, ...]
    phase: tuple[str, ...]
    out: Path | None
    cohort: str | None
    without: str | None
    mask: Path | None
    b1: Path | None
    tissue_table: str
    subject: str
    fix: tuple[str, ...]
    spread: tuple[str, ...]
    setting: tuple[str, ...]
    participant_label: tuple[str, ...]
    protocol: Path | None
    register: str | None
    runner: str
    keep_work: bool
    json: bool


def estimate_command(options: EstimateOptions) -> None:
    """Estimate the maps of one scan, or of every participant asked for."""
    require_choice("runner", options.runner, ("local", "ray"))
    results = [_one(options, request, out, subject) for request, out, subject in _requests(options)]
    if options.json:
        from bmapest_ray.cli.output import print_json

        print_json(results[0] if len(results) == 1 else {"participants": results})


def _requests(options: EstimateOptions) -> "list[tuple[Request, Path, str]]":
    from bmapest_ray.scan.image_spec import ImageSpec, with_phases

    if options.arguments:
        from bmapest_ray.cli.estimate_bids import participants

        found, out = participants(options.arguments, options.participant_label, options.protocol)
        return [(_request(options, specs), out, label) for label, specs in found.items()]
    if options.out is None:
        raise InvalidInput("an estimate needs a folder for its results, got none; give --out DIR")
    specs = with_phases(
        [ImageSpec.parse(text) for text in options.image],
        [ImageSpec.parse(text) for text in options.phase],
    )
    return [(_request(options, specs), options.out, options.subject)]


def _request(options: EstimateOptions, specs: Any) -> "Request":  # noqa: ANN401 - image specs
    from bmapest_ray.scan.request import Request

    return Request(
        specs,
        options.cohort or "",
        options.without or "",
        (),
        options.mask,
        options.b1,
        options.tissue_table,
        _settings(options),
        options.register or "",
    )


def _settings(options: EstimateOptions) -> "ScanSettings":
    from bmapest_ray.scan.settings import ScanSettings

    known = {f.name: f.type for f in fields(ScanSettings) if f.name not in ("fixed", "spreads")}
    values: dict[str, Any] = {}
    for name, number in _numbers("--setting", options.setting).items():
        require_choice("setting of an estimate", name, tuple(known))
        values[name] = number if known[name] == "float" else int(number)
    spreads = _numbers("--spread", options.spread)
    return ScanSettings(fixed=options.fix, spreads=spreads, **values)


def _numbers(option: str, texts: Iterable[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            raise InvalidInput(f"{option} must read name=number, got '{text}'") from None
    return found


def _one(options: EstimateOptions, request: "Request", out: Path, subject: str) -> dict[str, Any]:
    from bmapest_ray.cli.estimate_report import write_quality_report
    from bmapest_ray.scan.derivatives import check_subject, summary, write_fit
    from bmapest_ray.scan.request import estimate

    label = check_subject(subject)
    work = out / WORK_FOLDER / label
    with shown_progress() as told, _blocks(options.runner) as run_blocks:
        fit, place = estimate(request, work, told, run_blocks)
    write_fit(fit, out, label, request.provenance())
    report = write_quality_report(fit, out / f"sub-{label}.html", label)
    if not options.keep_work:
        place.clear()
        _drop_empty(out / WORK_FOLDER)
    found = summary(fit)
    if not options.json:
        _say(found, out, report)
    return {"subject": label, "out": str(out), "report": str(report), **found}


def _drop_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _say(found: dict[str, Any], out: Path, report: Path) -> None:
    for tissue, volume in found["volumes_ml"].items():
        spread = found["volume_standard_deviations_ml"][tissue]
        typer.echo(f"{tissue:>4}  {volume:8.1f} ml  +- {spread:.1f}")
    for sentence in found["warnings"]:
        typer.echo(f"note: {sentence}")
    typer.echo(f"maps in {out}, report {report}")


@contextmanager
def shown_progress() -> "Iterator[Told]":
    """Show a bar in a terminal, a line per tenth anywhere else."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def told(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=None)
            bar.update(tasks[stage], completed=done, total=total or None)

        yield told


class _Lines:
    """One line per stage and tenth of it on stderr."""

    def __init__(self) -> None:
        self._last: tuple[str, int] = ("", -1)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Write a line where there is something new to say."""
        tenth = 10 * done // total if total else done // 10
        if (stage, tenth) != self._last:
            self._last = (stage, tenth)
            typer.echo(f"{stage} {done}/{total}" if total else f"{stage} {done}", err=True)


@contextmanager
def _blocks(runner: str) -> "Iterator[RunBlocks]":
    """Give the function that runs blocks: in this process, or on Ray actors."""
    from bmapest_ray.scan.estimate import one_after_the_other

    if runner == "local":
        yield one_after_the_other
        return
    from bmapest_ray.compute.factory import make_runner
    from bmapest_ray.study.config import ComputeConfig
    from bmapest_ray.study.ports import Task

    made = make_runner(ComputeConfig(runner="ray"), "bmapest_ray.scan.sweep:work")

    def run(tasks: "Iterable[tuple[int, Payload]]") -> "Iterator[tuple[int, BlockMaps]]":
        waiting = iter(tasks)
        upcoming = next(waiting, None)
        while upcoming is not None or made.pending:
            while upcoming is not None and made.free:
                made.submit(Task(str(upcoming[0]), upcoming[1]))
                upcoming = next(waiting, None)
            outcome = made.next_done()
            if outcome is None:
                continue
            if outcome.failure is not None:
                raise InvalidInput(f"a block of the scan failed: {outcome.failure.message}")
            yield int(outcome.task_id), outcome.value

    try:
        yield run
    finally:
        made.shutdown()
