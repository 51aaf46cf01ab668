"""The times a score really has: echo, repetition and inversion time of every image."""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from bmapest_ray.sequence.events import PlayedPulse
from bmapest_ray.sequence.score import Score


@dataclass(frozen=True)
class ImageTiming:
    """Pulse-centre times of one image [s].

    Parameters
    ----------
    image
        Its name.
    echo_time_s
        Excitation to the middle of the line nearest ky = 0.
    repetition_time_s
        Median time between excitations that read it; None for a single shot.
    inversion_time_s
        Last 180 inversion before that excitation of the same contrast; None without one.
    lines
        Lines read.
    """

    image: str
    echo_time_s: float
    repetition_time_s: float | None
    inversion_time_s: float | None
    lines: int


def image_timings(score: Score) -> tuple[ImageTiming, ...]:
    """Measure every image of a score."""
    excitations = [p.centre_s for p in score.pulses if p.pulse.use == "excitation"]
    return tuple(_timing(score, index, excitations) for index in range(len(score.images)))


def _timing(score: Score, image: int, excitations: list[float]) -> ImageTiming:
    readouts = [r for r in score.readouts if r.image == image]
    central = min(readouts, key=lambda r: abs(r.line - score.matrix // 2))
    excited = [excitations[bisect_right(excitations, r.centre_s) - 1] for r in readouts]
    excited_s = excited[readouts.index(central)]
    gaps = [after - before for before, after in pairwise(sorted(set(excited)))]
    return ImageTiming(
        score.images[image],
        central.centre_s - excited_s,
        median(gaps) if gaps else None,
        _since_inversion(score.pulses, excited_s, score.begun_s[score.images[image]]),
        len(readouts),
    )


def _since_inversion(pulses: list[PlayedPulse], excited_s: float, begun_s: float) -> float | None:
    times = [p.centre_s for p in pulses if p.pulse.use == "inversion"]
    before = [time for time in times if begun_s <= time < excited_s]
    return excited_s - before[-1] if before else None
