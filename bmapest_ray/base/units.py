"""The only place where units are converted; inside the package everything is SI.

Divisions by exact powers of ten (never products with inexact ones) keep a whole number of
millimetres such as 216 mm equal to the literal 0.216 m.
"""

import math
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import torch

    Number = TypeVar("Number", float, np.ndarray, torch.Tensor)
else:
    Number = TypeVar("Number")

GYROMAGNETIC_RATIO_HZ_PER_T: Final = 42.576e6
"""Proton gyromagnetic ratio over 2 pi, the value that pypulseq and Pulseq use."""


def mm_to_m(length_mm: Number) -> Number:
    """Convert millimetres to metres."""
    return length_mm / 1000.0


def m_to_mm(length_m: Number) -> Number:
    """Convert metres to millimetres."""
    return length_m * 1000.0


def ms_to_s(time_ms: Number) -> Number:
    """Convert milliseconds to seconds."""
    return time_ms / 1000.0


def s_to_ms(time_s: Number) -> Number:
    """Convert seconds to milliseconds."""
    return time_s * 1000.0


def us_to_s(time_us: Number) -> Number:
    """Convert microseconds to seconds."""
    return time_us / 1e6


def s_to_us(time_s: Number) -> Number:
    """Convert seconds to microseconds."""
    return time_s * 1e6


def deg_to_rad(angle_deg: Number) -> Number:
    """Convert degrees to radians."""
    return angle_deg * (math.pi / 180.0)


def rad_to_deg(angle_rad: Number) -> Number:
    """Convert radians to degrees."""
    return angle_rad * (180.0 / math.pi)


def mm2_per_s_to_m2_per_s(diffusivity_mm2_per_s: Number) -> Number:
    """Convert a diffusivity from mm2/s to m2/s."""
    return diffusivity_mm2_per_s / 1e6


def m2_per_s_to_mm2_per_s(diffusivity_m2_per_s: Number) -> Number:
    """Convert a diffusivity from m2/s to mm2/s."""
    return diffusivity_m2_per_s * 1e6


def mt_per_m_to_t_per_m(gradient_mt_per_m: Number) -> Number:
    """Convert a gradient from mT/m to T/m."""
    return gradient_mt_per_m / 1000.0


def t_per_m_to_mt_per_m(gradient_t_per_m: Number) -> Number:
    """Convert a gradient from T/m to mT/m."""
    return gradient_t_per_m * 1000.0
