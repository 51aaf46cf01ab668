"""Thread limits: small tensors on more threads than free cores are many times slower."""

import os
import sys

from bmapest_ray.base.errors import InvalidInput

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_threads(n: int = 1) -> None:
    """Limit this process and its children to `n` threads per numerical library.

    Works before torch is imported (by the environment) and after (by torch's own setting).

    Raises
    ------
    InvalidInput
        If `n` is less than one.
    """
    if n < 1:
        raise InvalidInput(f"the number of threads must be at least 1, got {n}")
    for name in _VARIABLES:
        os.environ[name] = str(n)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(n)
