"""Work that fills a cache on disk, shared with copies of this process.

Setting up small chains is Python that threads take turns at. A copy of the process (``fork``) has
all it needs at once, while a new one would import for longer than it works.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


def may_fork() -> bool:
    """Whether a copy of this process can work: a single thread holds no lock that stays locked."""
    alone = threading.active_count() == 1 and torch.get_num_threads() == 1
    return sys.platform == "linux" and alone and not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


def share_work(work: Callable[[T], object], items: Sequence[T], processes: int) -> None:
    """Call ``work`` with every item, once each, in this process and in copies of it.

    What a copy finds is lost, unless the work keeps it on disk; so are its exceptions. Whoever
    calls does again what is not there, and meets them then.

    Parameters
    ----------
    work
        What to do with an item.
    items
        Taken in their order.
    processes
        At most, this one included.
    """
    context = multiprocessing.get_context("fork")
    next_number = context.Value("i", 0)

    def run() -> None:
        while True:
            with next_number.get_lock():
                number = next_number.value
                next_number.value += 1
            if number >= len(items):
                return
            work(items[number])

    def run_quietly() -> None:
        with contextlib.suppress(Exception, KeyboardInterrupt):
            run()

    count = min(processes, len(items)) - 1
    copies = [context.Process(target=run_quietly, daemon=True) for _ in range(count)]
    for copy in copies:
        copy.start()
    try:
        run()
        for copy in copies:
            copy.join()
    finally:
        for copy in copies:
            copy.terminate()
            copy.join()
