"""An Archimedean spiral as fast as gradient and slew rate allow."""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bmapest_ray.sequence.scanner import Scanner

SAFETY = 0.95
"""Share of both limits used, so that a march in finite steps stays within them."""
_STEPS_PER_RASTER = 10


@lru_cache(maxsize=32)
def spiral_gradient(
    radius_per_m: float, turns: float, scanner: Scanner, speed_limit_hz_per_m: float = math.inf
) -> npt.NDArray[np.complex128]:
    """Return the gradient of one interleave from the centre of k-space out.

    The path is ``k = radius t exp(2 pi i turns t)``; ``t`` runs from 0 to (just beyond) 1 with the
    fastest speed that keeps the slew rate (its second derivative, a quadratic in dt/ds) and the
    gradient limit, marched in time.

    Parameters
    ----------
    radius_per_m
        Outermost k.
    turns
        Turns to reach it.
    speed_limit_hz_per_m
        Gradient beyond which samples would lie further apart than 1/FOV.

    Returns
    -------
    ndarray
        Shape ``(step,)``, gx + i gy in Hz/m; the mean over each raster step.
    """
    step_s = scanner.gradient_raster_s / _STEPS_PER_RASTER
    slew = SAFETY * scanner.max_slew_hz_per_m_s / radius_per_m
    fastest = min(SAFETY * scanner.max_gradient_hz_per_m, speed_limit_hz_per_m)
    limit = fastest / radius_per_m
    omega = 2 * math.pi * turns
    t, speed, path = 0.0, 0.0, [0.0]
    while t < 1.0 or (len(path) - 1) % _STEPS_PER_RASTER:
        speed = min(
            speed + _acceleration(omega, t, speed, slew) * step_s,
            limit / math.hypot(1.0, omega * t),
        )
        t += speed * step_s
        path.append(t)
    coarse = np.asarray(path)[::_STEPS_PER_RASTER]
    k = radius_per_m * coarse * np.exp(1j * omega * coarse)
    return np.asarray(np.diff(k) / scanner.gradient_raster_s, dtype=np.complex128)


def _acceleration(omega: float, t: float, speed: float, slew: float) -> float:
    """Return the largest d2t/ds2 for which |k''| is the slew rate (over the radius)."""
    a = 1 + (omega * t) ** 2
    b = 2 * omega**2 * t * speed**2
    c = speed**4 * omega**2 * ((omega * t) ** 2 + 4) - slew**2
    return (-b + math.sqrt(max(b**2 - 4 * a * c, 0.0))) / (2 * a)
