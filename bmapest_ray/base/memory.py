"""Running out of memory, of the device or of the machine, as something to live with."""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_WORDS = ("out of memory", "can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out: Python's own, CUDA's, or torch's on a CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in _WORDS)


def free_memory() -> None:
    """Give back what nobody refers to, and the blocks that torch keeps of a GPU."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def in_batches(
    items: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]], batch: int
) -> Iterator[R]:
    """Work on items a batch at a time; where memory runs out, halve the batch and go on.

    Parameters
    ----------
    items
        What is worked on.
    work
        Returns one result per item of a batch.
    batch
        Most items at once.

    Raises
    ------
    MemoryError, RuntimeError
        What `work` raised, where a single item is too much.
    """
    done = 0
    while done < len(items):
        try:
            results = work(items[done : done + batch])
        except (MemoryError, RuntimeError) as error:
            if batch == 1 or not is_out_of_memory(error):
                raise
            batch = (batch + 1) // 2
            failed = True
        else:
            failed = False
        if failed:  # outside of the handler, whose traceback holds what did not fit
            free_memory()
            continue
        done += len(results)
        yield from results
