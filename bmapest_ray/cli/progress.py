"""How far a study is: a live display in a terminal, plain lines anywhere else."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from bmapest_ray.study.ports import Progress, Snapshot

LINE_EVERY_S = 5.0


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Give the display that suits where stderr goes."""
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield PlainProgress()
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield RichProgress(live)


def duration(seconds: float | None) -> str:
    """Write a duration as ``1:02:03``, ``2:03`` or ``4 s``."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def counts(snapshot: Snapshot) -> str:
    """Write jobs and trials done, and what went wrong or was there already."""
    words = (
        f"{snapshot.jobs_done}/{snapshot.jobs_total} jobs, "
        f"{snapshot.trials_done}/{snapshot.trials_total} trials"
    )
    if snapshot.jobs_failed:
        words += f", {snapshot.jobs_failed} failed"
    if snapshot.jobs_skipped:
        words += f", {snapshot.jobs_skipped} found finished"
    return words


def best_so_far(best: Mapping[str, float]) -> str:
    """Write the best value of each protocol."""
    return ", ".join(f"{label}: {value:.2f}" for label, value in best.items())


class PlainProgress:
    """One line now and then on stderr."""

    def __init__(self, every_s: float = LINE_EVERY_S) -> None:
        self._every_s = every_s
        self._told = float("-inf")

    def update(self, snapshot: Snapshot) -> None:
        """Write a line if the last one is old, or if all is done."""
        now = time.monotonic()
        if now - self._told < self._every_s and snapshot.jobs_done < snapshot.jobs_total:
            return
        self._told = now
        left = "" if snapshot.seconds_left is None else f", {duration(snapshot.seconds_left)} left"
        best = f" | best {best_so_far(snapshot.best)}" if snapshot.best else ""
        typer.echo(f"{counts(snapshot)}, {duration(snapshot.seconds)}{left}{best}", err=True)

    def message(self, text: str) -> None:
        """Write a line."""
        typer.echo(text, err=True)


class RichProgress:
    """A bar, the best value of each protocol so far and the time left, redrawn in place."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def update(self, snapshot: Snapshot) -> None:
        """Redraw."""
        self._live.update(draw(snapshot))

    def message(self, text: str) -> None:
        """Write a line above the display."""
        self._live.console.print(Text(text))


def draw(snapshot: Snapshot) -> Group:
    """Draw a snapshot in lines that fit a terminal of 80 columns."""
    done = min(1.0, snapshot.jobs_done / max(1, snapshot.jobs_total))
    times = f"{duration(snapshot.seconds)} gone, {duration(snapshot.seconds_left)} left"
    lines = [Text.assemble((bar(done), "cyan"), f" {100 * done:3.0f} %  {times}")]
    lines.append(Text(counts(snapshot)))
    width = max((len(label) for label in snapshot.best), default=0)
    for label, value in snapshot.best.items():
        lines.append(Text.assemble(f"  {label:{width}}  best ", (f"{value:.2f}", "bold")))
    return Group(*lines)


def bar(done: float, width: int = 40) -> str:
    """Draw a share in [0, 1] as a bar."""
    full = round(done * width)
    return "\u2588" * full + "\u2591" * (width - full)
