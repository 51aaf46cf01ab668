"""What a protocol plays, in numbers: the times of every image, scan time and RF energy."""

from dataclasses import dataclass

from bmapest_ray.sequence.protocol import Contrast, Protocol
from bmapest_ray.sequence.score import Score
from bmapest_ray.sequence.timings import ImageTiming, image_timings


@dataclass(frozen=True)
class ContrastOverview:
    """One contrast and the images it measures."""

    contrast: Contrast
    images: tuple[ImageTiming, ...]


@dataclass(frozen=True)
class Overview:
    """A protocol on a grid.

    Parameters
    ----------
    contrasts
        In the order they are played.
    scan_time_s
        Pauses and dummy cycles included.
    rf_energy_t2_s
        Integral of |B1|^2 [T^2 s], to which SAR is proportional.
    b1_rms_t
        Root mean square of B1 over the scan [T].
    """

    contrasts: tuple[ContrastOverview, ...]
    scan_time_s: float
    rf_energy_t2_s: float
    b1_rms_t: float


def overview(protocol: Protocol, matrix: int, fov_m: float) -> Overview:
    """Write every chain of a protocol and measure it.

    Raises
    ------
    InvalidInput
        If a limit of the scanner or a requested time cannot be kept.
    """
    contrasts: list[ContrastOverview] = []
    scan_time_s = energy_t2_s = 0.0
    for chain in protocol.chains:
        score = chain.write(matrix, fov_m, protocol.scanner)
        timings = image_timings(score)
        contrasts += [ContrastOverview(c, _of(c, timings)) for c in chain.contrasts]
        scan_time_s += score.time_s
        energy_t2_s += score.rf_energy_t2_s
    b1_rms_t = (energy_t2_s / scan_time_s) ** 0.5
    return Overview(tuple(contrasts), scan_time_s, energy_t2_s, b1_rms_t)


def contrast_score(contrast: Contrast, protocol: Protocol, matrix: int, fov_m: float) -> Score:
    """Write one contrast of a protocol alone, without the pause after it."""
    score = Score(matrix, fov_m, protocol.scanner)
    score.begin(contrast.name)
    contrast.play(score)
    return score


def _of(contrast: Contrast, timings: tuple[ImageTiming, ...]) -> tuple[ImageTiming, ...]:
    prefix = f"{contrast.name}."
    return tuple(t for t in timings if t.image == contrast.name or t.image.startswith(prefix))
