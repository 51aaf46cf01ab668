"""Work shared with copies of a process: each once, nothing lost, nothing left behind."""

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.simulate import factory
from bmapest_ray.simulate.cache import FactorCache
from bmapest_ray.simulate.factory import EngineOptions, build_operator
from bmapest_ray.simulate.fork import may_fork, share_work
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.tissue.fields import analytic_fields
from bmapest_ray.tissue.table import PAPER_3T


def test_every_number_is_worked_on_once_by_one_of_the_processes(tmp_path: Path) -> None:
    def work(number: int) -> None:
        with (tmp_path / f"{number}").open("x") as file:  # a second time would be an error
            file.write(str(os.getpid()))
        while len(list(tmp_path.iterdir())) < 2:  # until the other has begun as well
            time.sleep(0.01)

    share_work(work, range(7), 2)
    workers = {(tmp_path / f"{number}").read_text() for number in range(7)}
    assert len(workers) == 2
    assert str(os.getpid()) in workers
    assert not multiprocessing.active_children()


def test_an_error_here_is_raised_and_one_in_a_copy_is_left_to_the_caller(
    capfd: pytest.CaptureFixture[str],
) -> None:
    here = os.getpid()

    def fail(where: bool) -> None:
        if (os.getpid() == here) == where:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        share_work(lambda _: fail(True), range(5), 2)
    share_work(lambda _: fail(False), range(5), 2)
    assert not multiprocessing.active_children()
    assert capfd.readouterr().err == ""


def test_a_process_with_threads_is_not_copied() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    assert not may_fork()
    stop.set()
    thread.join()


def test_factors_are_those_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "may_fork", lambda: True)
    shared: list[int] = []

    def counted(work: Callable[[int], object], items: Sequence[int], processes: int) -> None:
        shared.append(len(items))
        share_work(work, items, processes)

    monkeypatch.setattr(factory, "share_work", counted)
    protocol = parse_protocol("t2prep[0],t2star[0],dwi[0]")
    scene = Scene(protocol, VoxelGrid(8, 0.2), analytic_fields(8), PAPER_3T)
    maps = torch.rand((3, 8, 8), generator=torch.Generator().manual_seed(1))
    alone = build_operator(scene, EngineOptions(workers=1), FactorCache(tmp_path / "one"))
    both = build_operator(scene, EngineOptions(workers=2), FactorCache(tmp_path / "two"))
    assert torch.equal(alone.operator.forward(maps), both.operator.forward(maps))
    names = [sorted(p.name for p in (tmp_path / one).iterdir()) for one in ("one", "two")]
    assert names[0] == names[1]
    assert len(names[0]) == 3
    build_operator(scene, EngineOptions(workers=2), FactorCache(tmp_path / "two"))
    assert shared == [3]  # the last finds all
