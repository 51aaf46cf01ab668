"""In which order lines are read, and with which phase pulses spoil."""

from bmapest_ray.base.errors import require_choice

ORDERS = ("centric", "linear", "reversed")


def ky_order(matrix: int, order: str = "centric") -> tuple[int, ...]:
    """Return line indices in acquisition order; line N/2 is ky = 0.

    centric: ky 0, -1, +1, -2, ... ; linear: from -N/2 up; reversed: from N/2 - 1 down.
    """
    require_choice("order", order, ORDERS)
    if order == "linear":
        return tuple(range(matrix))
    if order == "reversed":
        return tuple(range(matrix - 1, -1, -1))
    half = matrix // 2
    return tuple(half - (i + 1) // 2 if i % 2 else half + i // 2 for i in range(matrix))


def spoiling_phases_deg(count: int, increment_deg: float) -> tuple[float, ...]:
    """Return the phases of RF spoiling: 0, d, 3 d, 6 d, ... modulo 360 degrees."""
    return tuple((increment_deg * i * (i + 1) / 2) % 360.0 for i in range(count))
