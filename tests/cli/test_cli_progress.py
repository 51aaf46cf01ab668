import io

import pytest
from rich.console import Console
from rich.live import Live

from bmapest_ray.cli.progress import PlainProgress, RichProgress, bar, duration, shown_progress
from bmapest_ray.study.ports import Snapshot


def snapshot(done: int, *, failed: int = 0, skipped: int = 0, left: float | None = 30) -> Snapshot:
    return Snapshot(done, 8, failed, skipped, done // 2, 4, {"t1inv": 31.25}, 12.0, left)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (0, "0 s"), (59.4, "59 s"), (61, "1:01"), (3723, "1:02:03")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_plain_lines_say_all_and_come_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    progress = PlainProgress(every_s=60)
    for done in range(9):
        progress.update(snapshot(done, failed=1, skipped=2))
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("0/8 jobs, 0/4 trials, 1 failed, 2 found finished, 12 s, 30 s left")
    assert "t1inv: 31.25" in last
    assert last.startswith("8/8 jobs")


def test_a_terminal_gets_a_display_redrawn_in_place() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    with Live(console=console) as live:
        progress = RichProgress(live)
        progress.message("look [here]")
        progress.update(snapshot(4))
    text = stream.getvalue()
    assert "look [here]" in text
    assert "4/8 jobs" in text
    assert "50 %" in text
    assert "31.25" in text


def test_without_a_terminal_lines_are_plain() -> None:
    with shown_progress() as progress:
        assert isinstance(progress, PlainProgress)


@pytest.mark.parametrize(("done", "full"), [(0.0, 0), (0.5, 20), (1.0, 40)])
def test_the_bar_is_as_full_as_the_study_is_done(done: float, full: int) -> None:
    drawn = bar(done)
    assert (drawn.count("\u2588"), len(drawn)) == (full, 40)
