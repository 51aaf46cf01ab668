"""Work functions that say something about a runner rather than about brains.

The contract of runners is tested with them, and the platform's own cost is measured with them.
"""

import fcntl
import os
import signal
import time
from pathlib import Path
from typing import Any

from bmapest_ray.base.errors import InvalidInput


def echo(payload: Any, state: dict[str, Any]) -> Any:  # noqa: ANN401, ARG001
    """Return the payload: all that is left is the platform's own cost."""
    return payload


def count_calls(payload: Any, state: dict[str, Any]) -> int:  # noqa: ANN401, ARG001
    """Return how many tasks this worker has run."""
    state["calls"] = int(state.get("calls", 0)) + 1
    return int(state["calls"])


def spin(payload: float, state: dict[str, Any]) -> float:  # noqa: ARG001
    """Keep one core busy for `payload` seconds of its own CPU time."""
    end = time.process_time() + payload
    while time.process_time() < end:
        pass
    return payload


def play(payload: dict[str, Any], state: dict[str, Any]) -> Any:  # noqa: ANN401
    """Do what the payload says: ``value``, ``raise``, ``invalid``, ``exit_once``, ``die`` or hang.

    ``exit_once`` names a file: the worker kills itself unless the file exists, and makes it first.
    """
    time.sleep(float(payload.get("sleep", 0.0)))
    if "raise" in payload:
        raise ValueError(payload["raise"])
    if "invalid" in payload:
        raise InvalidInput(payload["invalid"])
    if "exit_once" in payload and not Path(payload["exit_once"]).exists():
        Path(payload["exit_once"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if payload.get("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if payload.get("hang"):
        time.sleep(3600)
    return payload.get("value", state.get("calls"))


def share(payload: dict[str, Any], state: dict[str, Any]) -> int:
    """Take a place of a device that has ``places`` for processes; run out of memory without one.

    A process keeps its place, as one keeps its memory on a GPU, until it ends. With ``patience_s``
    it holds it so long at most, until another process was refused one.
    """
    folder = Path(payload["folder"])
    if not _take_place(folder, int(payload["places"])):
        (folder / "refused").touch()
        raise MemoryError("no place is left")
    state["calls"] = int(state.get("calls", 0)) + 1
    until = time.monotonic() + float(payload.get("patience_s", 0.0))
    while time.monotonic() < until and not (folder / "refused").exists():
        time.sleep(0.02)
    return os.getpid()


def _take_place(folder: Path, places: int) -> bool:
    """Return whether this process has a place; one process asks at a time."""
    mine = folder / str(os.getpid())
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        names = [path for path in folder.iterdir() if path.name.isdigit()]
        held = [path for path in names if Path("/proc", path.name).exists()]
        if mine not in held and len(held) >= places:
            return False
        mine.touch()
    return True


def multiply(payload: float, state: dict[str, Any]) -> float:
    """Multiply matrices for `payload` seconds of this process's CPU time, as an inversion would."""
    import torch

    if "matrix" not in state:
        state["matrix"] = torch.eye(96) * 0.999
    end = time.process_time() + payload
    held = state["matrix"]
    while time.process_time() < end:
        held = held @ state["matrix"]
    return float(held[0, 0])


def pretend(payload: Any, state: dict[str, Any]) -> Any:  # noqa: ANN401, ARG001
    """Return what an inversion returns, at once: what is left is the cost of keeping a study."""
    import numpy as np

    from bmapest_ray.base.tissues import TISSUES
    from bmapest_ray.study.result import JobResult
    from bmapest_ray.study.status import JobStatus

    maps = np.full((len(TISSUES), 8, 8), 0.25, dtype=np.float32)
    return JobResult(
        id=payload.id,
        status=JobStatus.DONE,
        solver_status="CONVERGED",
        message="",
        scores={tissue: {"psnr_db": 30.0, "mae": 0.01} for tissue in TISSUES},
        maps=maps,
        truth=maps,
        affine=np.eye(4),
    )
