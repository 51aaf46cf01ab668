"""What a job found, as a worker sends it back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.study.records import Scores
from bmapest_ray.study.status import JobStatus


@dataclass(frozen=True, eq=False)
class JobResult:
    """What a job found; an expected failure is a status, not an exception."""

    id: str
    status: JobStatus
    solver_status: str
    message: str
    scores: Scores
    maps: NDArray[np.float32]
    """Shape `(tissue, y, x)`."""
    truth: NDArray[np.float32]
    """Shape `(tissue, y, x)`."""
    affine: NDArray[np.float64]
    """Shape `(4, 4)`: pixel index `(x, y, 0)` to RAS world millimetres."""
    history: tuple[Mapping[str, float], ...] = ()
    iterations: int = 0
    seconds: float = 0.0
    setup_seconds: float = 0.0
    total_seconds: float = 0.0
    scan_time_s: float = 0.0
    data: Mapping[str, Any] = field(default_factory=dict)
