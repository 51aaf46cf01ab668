"""Which lines are read, in which order, and with which phase pulses spoil."""

import re
from dataclasses import dataclass
from typing import Annotated, Final

from bmapest_ray.base.errors import InvalidInput, require_choice
from bmapest_ray.sequence.parameters import Choice, Count, Dwell, Limit, PositiveCount

ORDERS: Final = ("linear", "centric", "reversed")


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


def echo_trains(
    lines: tuple[int, ...], matrix: int, echoes: int, centre_echo: int
) -> tuple[tuple[int, ...], ...]:
    """Deal lines to shots of a turbo spin echo so that one echo reads the centre of k-space.

    Neighbouring lines make a segment per echo; the segment of ky = 0 goes to `centre_echo` (0..),
    the next segments to the echoes next to it.

    Returns
    -------
    tuple
        Per shot the lines in echo order.
    """
    if len(lines) % echoes:
        raise InvalidInput(
            f"echo_train_length must divide the {len(lines)} lines, got {echoes}; change it"
        )
    shots, ordered = len(lines) // echoes, sorted(lines)
    middle = ordered.index(matrix // 2) // shots
    segments = sorted(range(echoes), key=lambda segment: abs(segment - middle))
    times = sorted(range(echoes), key=lambda echo: abs(echo - centre_echo))
    segment_of = dict(zip(times, segments, strict=True))
    return tuple(
        tuple(ordered[segment_of[echo] * shots + shot] for echo in range(echoes))
        for shot in range(shots)
    )


def spoiling_phases_deg(count: int, increment_deg: float) -> tuple[float, ...]:
    """Return the phases of RF spoiling: 0, d, 3 d, 6 d, ... modulo 360 degrees."""
    return tuple((increment_deg * i * (i + 1) / 2) % 360.0 for i in range(count))


@dataclass(frozen=True)
class Cartesian:
    """How a Cartesian image is sampled; every sequence of the package's own takes these.

    Parameters
    ----------
    dwell_s
        Time per sample; the receiver bandwidth is 1/dwell.
    order
        linear, centric or reversed (`ky_order`).
    partial_fourier
        Fraction of lines kept; the most negative ky are left out.
    acceleration
        Every so-manieth line is kept (ky = 0 among them) ...
    calibration_lines
        ... and so many about ky = 0.
    mask
        Lines kept, as ``first-last/step`` items with commas; indices 0..N-1, N/2 is ky = 0.
        Empty: all. Cuts what the other options leave.
    """

    dwell_s: Dwell = 20e-6
    order: Annotated[str, Choice(ORDERS)] = "linear"
    partial_fourier: Annotated[float, Limit("", 0.5, 1.0)] = 1.0
    acceleration: PositiveCount = 1
    calibration_lines: Count = 0
    mask: str = ""

    def lines(self, matrix: int) -> tuple[int, ...]:
        """Return the lines read, in acquisition order.

        Raises
        ------
        InvalidInput
            If ky = 0 is left out, or the mask cannot be read.
        """
        first = matrix - round(self.partial_fourier * matrix)
        wanted = _mask(self.mask, matrix) if self.mask else range(matrix)
        half, calibration = matrix // 2, self.calibration_lines // 2
        kept = {
            line
            for line in wanted
            if line >= first
            and (
                (line - half) % self.acceleration == 0 or -calibration <= line - half < calibration
            )
        }
        if half not in kept:
            raise InvalidInput(
                f"the line ky = 0 (index {half}) must be read, got mask '{self.mask}' with partial "
                f"Fourier {self.partial_fourier:g}; keep it"
            )
        return tuple(line for line in ky_order(matrix, self.order) if line in kept)


CARTESIAN: Final = Cartesian()


def _mask(text: str, matrix: int) -> set[int]:
    lines: set[int] = set()
    for item in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+)(?:/([1-9]\d*))?)?\s*", item)
        last = int(match[2] or match[1]) if match else matrix
        if match is None or last >= matrix:
            raise InvalidInput(
                f"a mask must read like 0-{matrix - 1}/2,{matrix // 2 - 4}-{matrix // 2 + 3} with "
                f"lines below {matrix}, got '{text}'; correct it"
            )
        lines.update(range(int(match[1]), last + 1, int(match[3] or 1)))
    return lines
