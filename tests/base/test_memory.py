import pytest
import torch

from bmapest_ray.base.memory import in_batches, is_out_of_memory
from bmapest_ray.compute.execution import Worker
from bmapest_ray.study.ports import Task


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_all_kinds_of_running_out_are_known(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("out of memory")])
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_batches_are_halved_until_they_fit_and_every_item_is_done_once() -> None:
    sizes = []

    def work(items: list[int]) -> list[int]:
        sizes.append(len(items))
        if len(items) > 2:
            raise MemoryError
        return [2 * item for item in items]

    assert list(in_batches(list(range(7)), work, 6)) == [0, 2, 4, 6, 8, 10, 12]
    assert sizes == [6, 3, 2, 2, 2, 1]


def test_one_item_that_does_not_fit_and_other_errors_are_raised() -> None:
    def no_room(_: list[int]) -> list[int]:
        raise MemoryError

    def wrong(_: list[int]) -> list[int]:
        raise RuntimeError("shapes differ")

    with pytest.raises(MemoryError):
        list(in_batches([1, 2, 3], no_room, 2))
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(in_batches([1, 2, 3], wrong, 2))


def needs_room(payload: int, state: dict[str, object]) -> int:
    """Fit only where nothing is left of earlier tasks."""
    if "left" in state:
        raise MemoryError
    state["left"] = payload
    return payload


def test_a_worker_drops_what_earlier_tasks_left_and_tries_again() -> None:
    worker = Worker(f"{__name__}:needs_room", {"kept": 1})
    outcomes = worker.run_all([Task("a", 1), Task("b", 2)])
    assert [outcome.value for outcome in outcomes] == [1, 2]
    assert worker._state == {"kept": 1, "left": 2}
