"""``bmapest bench``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from bmapest_ray.cli.options import JsonOption
from bmapest_ray.cli.output import print_json, stdout_to_stderr

if TYPE_CHECKING:
    from bmapest_ray.simulate.benchmark import BenchmarkFigures
    from bmapest_ray.simulate.benchmark_process import BenchmarkRequest

bench_app = typer.Typer(help="Measure speed, memory and accuracy on this machine.")

CohortOption = Annotated[str, typer.Option(help="bids:DIR of the BrainWeb maps.")]
SplitsOption = Annotated[Path, typer.Option(help="Named subjects.")]
ResultsOption = Annotated[Path, typer.Option(help="Folder of the table; resumed.")]
SPLITS, RESULTS = Path("studies/splits.yaml"), Path("studies/results")

ALL_SIX = "t1inv,t2prep,t2star,dir,flair,dwi"
_ENGINES = ("reference", "exact", "lowrank")
_ROWS = (
    ("seconds", "forward and backward [s]"),
    ("setup_seconds", "set-up [s]"),
    ("peak_gb", "peak memory [GB]"),
    ("time_ratio", "times faster than the reference"),
    ("signal_error", "signal error"),
    ("gradient_error", "gradient error"),
    ("rank", "mean rank"),
    ("bare_fft_ratio", "times its bare FFTs"),
)


@bench_app.command("engine")
def engine(
    protocol: str = typer.Option(ALL_SIX, help="Contrasts that are simulated."),
    matrix: int = typer.Option(64, help="Pixels along each side; even."),
    anatomy: str = typer.Option("mni152", help="mni152, or bids:DIR of probability maps."),
    subject: str = typer.Option("mni152", help="Subject of the anatomy."),
    mixing: str = typer.Option("compartments", help="compartments|average."),
    threads: int = typer.Option(1, help="Torch threads, the same for every engine."),
    pairs: int = typer.Option(3, help="Times that reference and engine alternate."),
    memory_gb: float = typer.Option(20.0, help="The reference is skipped above this."),
    engines: str = typer.Option("reference,exact,lowrank", help="What is timed, by comma."),
    memory_budget_gb: float = typer.Option(1.0, help="Bound on temporary arrays of ours."),
    json: JsonOption = False,
) -> None:
    """Time MR-zero's own execution, the exact and the low-rank engine side by side."""
    with stdout_to_stderr():
        from bmapest_ray.base.errors import require_choice
        from bmapest_ray.simulate.benchmark import run_benchmark
        from bmapest_ray.simulate.benchmark_process import BenchmarkRequest
        from bmapest_ray.simulate.factory import Engine
        from bmapest_ray.tissue.mixing import Mixing

        request = BenchmarkRequest(
            protocol=protocol,
            anatomy=anatomy,
            subject=subject,
            matrix=matrix,
            mixing=Mixing(mixing),
            threads=threads,
            pairs=pairs,
            memory_gb=memory_gb,
            engines=tuple(
                Engine(require_choice("engine", name.strip(), _ENGINES))
                for name in engines.split(",")
            ),
            memory_budget_gb=memory_budget_gb,
        )
        figures = run_benchmark(request, lambda text: typer.echo(text, err=True))
    if json:
        print_json(dict(figures))
        return
    _print(request, figures)


@bench_app.command("cost")
def cost(
    out: ResultsOption = RESULTS,
    threads: Annotated[int, typer.Option(help="Torch threads.")] = 1,
) -> None:
    """Measure how the low-rank engine's cost grows, and write engine.md and engine.png."""
    from bmapest_ray.cli.cost_table import write_cost_table

    write_cost_table(out, threads)
    typer.echo(f"table: {out / 'engine.md'}")


@bench_app.command("calibration")
def calibration(
    anatomy: CohortOption,
    splits: SplitsOption = SPLITS,
    out: ResultsOption = RESULTS,
    draws: Annotated[int, typer.Option(help="Noise draws of each case.", min=2)] = 50,
) -> None:
    """Compare stated standard deviations with the errors that occur; write calibration.md."""
    from bmapest_ray.cli.calibration_table import write_calibration_table

    _write(lambda: write_calibration_table(anatomy, splits, out, draws), out / "calibration.md")


@bench_app.command("mismatch")
def mismatch(
    anatomy: CohortOption,
    splits: SplitsOption = SPLITS,
    out: ResultsOption = RESULTS,
    draws: Annotated[int, typer.Option(help="Noise draws of matched data.", min=1)] = 5,
) -> None:
    """Fit data that another model made; write mismatch.md."""
    from bmapest_ray.cli.mismatch_table import write_mismatch_table

    _write(lambda: write_mismatch_table(anatomy, splits, out, draws), out / "mismatch.md")


@bench_app.command("inversion")
def inversion(
    anatomy: CohortOption,
    splits: SplitsOption = SPLITS,
    out: ResultsOption = RESULTS,
    subjects: Annotated[int | None, typer.Option(help="At most so many subjects.")] = None,
    averaged: Annotated[bool, typer.Option(help="Voxels as in the paper; averaged.md.")] = False,
    jobs: Annotated[
        Path | None, typer.Option(help="Study or reproduction whose finished jobs are taken.")
    ] = None,
) -> None:
    """Invert the report subjects with every protocol of the table, and write inversion.md."""
    from bmapest_ray.cli.inversion_table import write_inversion_table

    _write(
        lambda: write_inversion_table(anatomy, splits, out, subjects, averaged=averaged, jobs=jobs),
        out / ("averaged.md" if averaged else "inversion.md"),
    )


@bench_app.command("sequences")
def sequences(
    anatomy: CohortOption,
    splits: SplitsOption = SPLITS,
    out: ResultsOption = RESULTS,
    subjects: Annotated[int | None, typer.Option(help="At most so many subjects.")] = None,
) -> None:
    """Invert the report subjects with five kinds of sequences, and write sequences.md."""
    from bmapest_ray.cli.sequence_table import write_sequence_table

    _write(lambda: write_sequence_table(anatomy, splits, out, subjects), out / "sequences.md")


@bench_app.command("real")
def real(
    cohort: Annotated[str, typer.Option(help="Prior: bids:DIR of BrainWeb maps.")],
    part: Annotated[str, typer.Option(help="tune|template|independent|volume|all.")] = "all",
    subjects: Annotated[int, typer.Option(help="Report subjects of the parts that have any.")] = 4,
    protocol: Annotated[str, typer.Option(help="Taken to have made the image.")] = "mprage",
    splits: SplitsOption = SPLITS,
    out: ResultsOption = RESULTS,
    work: Annotated[Path, typer.Option(help="Folder of parts; resumed.")] = Path("runs/real"),
) -> None:
    """Fit scans, real and with a known truth, compare with what knows less, and write real.md."""
    from bmapest_ray.base.threads import limit_threads
    from bmapest_ray.cli.bench_real import RealBench

    limit_threads(1)
    bench = RealBench(cohort, protocol, splits, out, work)
    typer.echo(f"table: {bench.run(part, subjects)}")


@bench_app.command("platform")
def platform(
    pairs: Annotated[int, typer.Option(help="Times that Ray and plain processes alternate.")] = 5,
    driver_jobs: Annotated[
        int | None, typer.Option(help="Also drive studies of up to so many pretended jobs.")
    ] = None,
    scale: Annotated[
        bool, typer.Option("--scale", help="Also nodes, trials, and pretended clusters.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder of platform.md; resumed.")] = None,
    json: JsonOption = False,
) -> None:
    """Measure what Ray actors cost against plain processes, per job and in the driver."""
    with stdout_to_stderr(), TemporaryDirectory() as folder:
        from bmapest_ray.cli.platform_command import run_platform

        figures = run_platform(
            pairs, driver_jobs, out or Path(folder), scale=scale, page=out is not None
        )
    if json:
        print_json(figures)
        return
    for name, value in figures.items():
        typer.echo(f"{name}: {value if value is None else format(value, '.4g')}")


@bench_app.command("jobs")
def jobs(out: ResultsOption = RESULTS) -> None:
    """Measure CPU time and memory of single jobs into jobs.json, for `bmapest run --dry-run`."""
    from bmapest_ray.study.cost_measured import measure_jobs

    with stdout_to_stderr():
        measure_jobs(out / "jobs.json", lambda text: typer.echo(text, err=True))
    typer.echo(f"table: {out / 'jobs.json'}")


@bench_app.command("search")
def search(
    anatomy: CohortOption,
    study: Annotated[str, typer.Option(help="The study whose space is tried.")] = "search",
    out: ResultsOption = RESULTS,
) -> None:
    """Try a whole search space once, replay samplers on it, and write search.md."""
    from bmapest_ray.cli.search_table import write_search_table

    _write(lambda: write_search_table(study, anatomy, out), out / "search.md")


@bench_app.command("tracking")
def tracking(
    jobs: Annotated[int, typer.Option(help="How many jobs are logged at a time.")] = 20,
    seconds: Annotated[float, typer.Option(help="How long each keeps a core busy.")] = 2.0,
    server: Annotated[
        str | None, typer.Option(help="URI of an MLflow server; a SQLite file without.")
    ] = None,
    actors: Annotated[int, typer.Option(help="Ray actors; 0 runs the jobs here.")] = 1,
    pairs: Annotated[int, typer.Option(help="Times that both alternate.", min=1)] = 3,
    store: Annotated[str | None, typer.Option(help="The server's name in the table.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of tracking.md; resumed.")] = None,
    json: JsonOption = False,
) -> None:
    """Measure what MLflow costs a study's wall time, and how far it lags behind."""
    with stdout_to_stderr():
        from bmapest_ray.cli.tracking_table import TrackingCase, write_tracking_page

        name = store or server or "SQLite file"
        case = TrackingCase(jobs, seconds, actors, pairs, server, name)
        cost = case.measure() if out is None else write_tracking_page(case, out)
    if json:
        print_json(cost)
        return
    typer.echo(
        f"{case.key}: {median(cost['bare_s']):.1f} s without MLflow, "
        f"{median(cost['tracked_s']):.1f} s with it (median ratio {cost['ratio']:.3f} of "
        f"{len(cost['bare_s'])}); MLflow was done {cost['lag_s']:.1f} s later at most, "
        f"{cost['written']} entries"
    )
    if cost["problem"]:
        typer.echo(cost["problem"], err=True)


def _write(write: Callable[[], object], table: Path) -> None:
    """Write a table with one torch thread, and say where it is."""
    from bmapest_ray.base.threads import limit_threads

    limit_threads(1)
    with stdout_to_stderr():
        write()
    typer.echo(f"table: {table}")


def _print(request: BenchmarkRequest, figures: BenchmarkFigures) -> None:
    from rich.console import Console
    from rich.table import Table

    columns = [name for name in _ENGINES if name in figures]
    title = f"{figures['contrasts']} contrasts at {request.matrix}x{request.matrix}"
    table = Table("", *columns, title=f"{title}, {request.mixing}, {request.threads} thread(s)")
    sections = {"reference": figures.get("reference"), "exact": figures.get("exact")}
    sections["lowrank"] = figures.get("lowrank")
    for key, label in _ROWS:
        values = [(sections[name] or {}).get(key) for name in columns]
        if any(value is not None for value in values):
            table.add_row(label, *("" if v is None else f"{v:.3g}" for v in values))
    Console().print(table)
    skipped = (sections["reference"] or {}).get("skipped")
    if skipped:
        typer.echo(f"reference skipped: {skipped}")
