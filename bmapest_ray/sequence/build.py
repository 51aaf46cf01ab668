"""Build a chain: write its score, render it with pypulseq, say where each sample lies."""

from dataclasses import dataclass
from typing import Any

from bmapest_ray.sequence.events import AdcReadout, PlayedPulse
from bmapest_ray.sequence.protocol import Chain
from bmapest_ray.sequence.render import render
from bmapest_ray.sequence.scanner import Scanner

__all__ = ["AdcReadout", "BuiltChain", "build_chain"]


@dataclass(frozen=True)
class BuiltChain:
    """A chain ready for a simulator or a scanner.

    Parameters
    ----------
    seq
        The `pypulseq.Sequence`; its timing check passed.
    duration_s
        From the first block to the end of the last pause.
    images
        Names, one per image the chain measures (a contrast may measure several).
    readouts
        One per receive window, in the order of acquisition.
    pulses
        Every RF pulse with the time of its centre, dummy cycles included.
    rf_energy_t2_s
        Integral of |B1|^2 over all pulses [T^2 s]; SAR is proportional to it.
    """

    seq: Any
    duration_s: float
    images: tuple[str, ...]
    readouts: tuple[AdcReadout, ...]
    pulses: tuple[PlayedPulse, ...]
    rf_energy_t2_s: float


def build_chain(
    chain: Chain, matrix: int, fov_m: float, scanner: Scanner, *, labels: bool = False
) -> BuiltChain:
    """Build the Pulseq sequence of a chain on an N x N grid, with labels for an export.

    Raises
    ------
    InvalidInput
        If a limit of the scanner or a requested time cannot be kept.
    """
    score = chain.write(matrix, fov_m, scanner)
    return BuiltChain(
        render(score, labels=labels),
        score.time_s,
        tuple(score.images),
        tuple(score.readouts),
        tuple(score.pulses),
        score.rf_energy_t2_s,
    )
