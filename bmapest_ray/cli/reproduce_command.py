"""``bmapest reproduce paper``: the experiments of BMapEst, this package and baselines beside it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.cli.output import print_json, stdout_to_stderr
from bmapest_ray.cli.progress import shown_progress
from bmapest_ray.cli.run_command import Interrupted

if TYPE_CHECKING:
    from bmapest_ray.study.ports import Runner
    from bmapest_ray.study.programme import Case
    from bmapest_ray.study.store import StudyStore

QUICK_SUBJECTS = 2
QUICK_EXPERIMENTS = ("t1inv-single", "sequences-1", "sequences-2")


@dataclass(frozen=True)
class ReproduceOptions:
    """The options of ``bmapest reproduce`` by their names."""

    anatomy: str
    subjects: str
    experiments: str
    methods: str
    quick: bool
    runner: str
    address: str | None
    table: Path | None
    earlier: Path | None
    out: Path
    json: bool


def reproduce_command(options: ReproduceOptions) -> None:
    """Run what is missing, then write the tables of all that is there."""
    with stdout_to_stderr():
        told = _tables(options.table, options.out) if options.table else _reproduce(options)
    if options.json:
        print_json(told)
        return
    for name, path in told["files"].items():
        typer.echo(f"{name + ':':10}{path}")


def _reproduce(options: ReproduceOptions) -> dict[str, Any]:
    from bmapest_ray.report.paper_results import read_results, write_results
    from bmapest_ray.study.experiments import EXPERIMENTS, METHODS, make_cases
    from bmapest_ray.study.programme import begun_cases, collect
    from bmapest_ray.study.store import StudyStore

    started = time.monotonic()
    earlier = read_results(options.earlier) if options.earlier else None
    overrides = _overrides(options)
    methods = _names(options.methods)
    cases = make_cases(_experiments(options), methods, overrides)
    store = StudyStore(options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    _run(cases, store, options)
    begun = begun_cases(store)
    names = [name for name in EXPERIMENTS if any(experiment == name for experiment, _ in begun)]
    every = make_cases(names, METHODS, overrides)
    known = [case for case in every if (case.experiment, case.method) in begun]
    parquet = options.out / "paper.parquet"
    write_results(collect(known, store), parquet, earlier)
    return {**_tables(parquet, options.out), "seconds": time.monotonic() - started}


def _run(cases: "Sequence[Case]", store: "StudyStore", options: ReproduceOptions) -> None:
    from bmapest_ray.study.programme import run_programme

    runner = _runner(options)
    try:
        with shown_progress() as progress:
            run_programme(cases, store, runner, progress)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted, what was finished is in {options.out}; the same command goes on"
        ) from None
    finally:
        runner.shutdown()


def _runner(options: ReproduceOptions) -> "Runner":
    from bmapest_ray.compute.factory import make_runner
    from bmapest_ray.study.baseline_job import WORK
    from bmapest_ray.study.config import ComputeConfig

    if options.runner not in ("local", "ray"):
        raise InvalidInput(f"--runner must be local or ray, got '{options.runner}'")
    runner: Any = options.runner
    config = ComputeConfig(runner=runner, address=options.address)
    return make_runner(config, WORK, {"checkpoint_dir": str(options.out / "checkpoints")})


def _tables(parquet: Path, out: Path) -> dict[str, Any]:
    """Write the tables of results that are there."""
    from bmapest_ray.report.paper_results import read_results
    from bmapest_ray.report.paper_tables import write_tables

    out.mkdir(parents=True, exist_ok=True)
    files = write_tables(read_results(parquet), out)
    return {"files": {"results": str(parquet), **{k: str(v) for k, v in files.items()}}}


def _overrides(options: ReproduceOptions) -> list[str]:
    found = [f"anatomy.source={options.anatomy}"]
    if options.subjects:
        quoted = ", ".join(f'"{name}"' for name in _names(options.subjects))
        found.append(f"anatomy.subjects=[{quoted}]")
    elif options.quick:
        found.append(f"anatomy.subjects={_quick_subjects(options.anatomy)}")
    return found


def _quick_subjects(anatomy: str) -> str:
    """Return the first subjects that may be reported, as a YAML list."""
    from bmapest_ray.study.loading import load_study
    from bmapest_ray.study.plan import make_plan

    plan = make_plan(load_study("paper/sequences-2-best", [f"anatomy.source={anatomy}"]))
    return "[" + ", ".join(f'"{name}"' for name in plan.subjects[:QUICK_SUBJECTS]) + "]"


def _experiments(options: ReproduceOptions) -> tuple[str, ...]:
    from bmapest_ray.study.experiments import EXPERIMENTS

    if options.experiments:
        return _names(options.experiments)
    return QUICK_EXPERIMENTS if options.quick else tuple(EXPERIMENTS)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
