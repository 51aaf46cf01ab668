"""A ``.seq`` file as a sequence: its blocks, and where its own k-space puts every line."""

from collections import Counter
from pathlib import Path
from typing import Any, Final

import numpy as np

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.units import GYROMAGNETIC_RATIO_HZ_PER_T, t_per_m_to_mt_per_m
from bmapest_ray.sequence.events import AdcReadout, Block
from bmapest_ray.sequence.file_grid import furthest_per_m, window_name
from bmapest_ray.sequence.peaks import event_peaks
from bmapest_ray.sequence.scanner import Scanner
from bmapest_ray.sequence.score import Score
from bmapest_ray.sequence.seq_file import SeqFile, read_seq

GRID_TOLERANCE: Final = 0.05
"""Largest distance of a sample from its grid point, in steps of 1/FOV."""
MAX_KZ_PER_M: Final = 62.5
"""A sample further out along z has no signal: half a cycle over 8 mm."""
_LEAST_REACH: Final = 0.8
"""Samples off the grid reach at least this share of the way to its edge."""
_IMAGE_LABELS: Final = ("AVG", "ECO", "PHS", "REP", "SET", "NAV")


def pulseq(score: Score, *, file: str = "", sha256: str = "") -> None:
    """Anyone's Pulseq file, unchanged; `sha256` is its content, which makes it part of digests.

    Lines are found from the k-space of the file; images from its labels, else a line that is read
    again begins another image.
    """
    if not file or not sha256:
        raise InvalidInput("pulseq needs file and sha256, got none; import the .seq file")
    seq = read_seq(Path(file), sha256)
    check_limits(seq, score.scanner)
    _check_fov(seq, score)
    lines = _lines(seq, score.matrix, score.fov_m)
    images = _images(seq, lines, score)
    windows = iter(zip(lines, images, strict=True))
    for _, block in seq.blocks:
        if block.adc is None:
            score.play(block)
            continue
        (line, reverse), image = next(windows)
        readout = AdcReadout(image, line, reverse, block.adc.samples, block.adc.dwell_s)
        score.play_window(block, readout)


def _check_fov(seq: SeqFile, score: Score) -> None:
    if seq.fov_m is not None and abs(seq.fov_m - score.fov_m) > 0.01 * score.fov_m:
        raise InvalidInput(
            f"the field of view must be the {seq.fov_m:.4g} m that {seq.path} defines, got "
            f"{score.fov_m:.4g} m; ask for that field of view"
        )


def _lines(seq: SeqFile, matrix: int, fov_m: float) -> list[tuple[int, bool]]:
    """Return line and direction of every window, (-1, False) for each if one is off the grid.

    Raises
    ------
    InvalidInput
        If the samples are meant for another grid, or lie off the plane.
    """
    for window, k in enumerate(seq.kspace_per_m):
        if np.abs(k[:, 2]).max() > MAX_KZ_PER_M:
            raise InvalidInput(
                f"every sample of {seq.path} must lie at kz = 0 (2-D), got kz = "
                f"{np.abs(k[:, 2]).max():.4g} 1/m in {window_name(seq, window)}; rephase z"
            )
    found = [line_of(k, matrix, fov_m) for k in seq.kspace_per_m]
    if all(found):
        return [line for line in found if line is not None]
    _check_reach(seq, found.index(None), matrix, fov_m)
    return [(-1, False)] * len(found)


def _check_reach(seq: SeqFile, window: int, matrix: int, fov_m: float) -> None:
    """Refuse samples off the grid that are meant for another grid."""
    reach = furthest_per_m(seq) * fov_m
    if not _LEAST_REACH * matrix / 2 <= reach <= matrix / 2 + 0.5:
        raise InvalidInput(
            f"{window_name(seq, window)} of {seq.path} must sample (j + 1/2 - {matrix // 2})/FOV "
            f"for matrix {matrix} and FOV {fov_m:.4g} m, or the file other places out to "
            f"{matrix / 2 / fov_m:.4g} 1/m, got {_grid_text(seq.kspace_per_m[window])} and samples "
            f"out to {reach / fov_m:.4g} 1/m; ask for the matrix and field of view of the file"
        )


def line_of(k_per_m: np.ndarray, matrix: int, fov_m: float) -> tuple[int, bool] | None:
    """Return (line, reverse?) of samples on the grid, None if they are not.

    Parameters
    ----------
    k_per_m
        Shape ``(sample, 3)``.
    """
    if len(k_per_m) != matrix:
        return None
    x, y = k_per_m[:, 0] * fov_m, k_per_m[:, 1] * fov_m + matrix / 2
    line = round(float(y.mean()))
    if np.abs(y - line).max() > GRID_TOLERANCE or not 0 <= line < matrix:
        return None
    grid = np.arange(matrix) + 0.5 - matrix / 2
    for reverse, wanted in ((False, grid), (True, grid[::-1])):
        if np.abs(x - wanted).max() <= GRID_TOLERANCE:
            return line, reverse
    return None


def _grid_text(k_per_m: np.ndarray) -> str:
    step = float(np.abs(np.diff(k_per_m[:, 0])).mean())
    fov = f"{1 / step:.4g} m" if step > 0 else "none"
    return (
        f"{len(k_per_m)} samples {step:.4g} 1/m apart (FOV {fov}) from kx = {k_per_m[0, 0]:.4g} "
        f"1/m at ky = {k_per_m[0, 1]:.4g} 1/m"
    )


def _images(seq: SeqFile, lines: list[tuple[int, bool]], score: Score) -> list[int]:
    slices = {labels.get("SLC", 0) for labels in seq.labels}
    if len(slices) > 1:
        raise InvalidInput(
            f"{seq.path} must measure one slice, got {len(slices)} by its SLC labels; export one"
        )
    keys = _image_keys(seq, lines)
    order = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    several = len(order) > 1
    return [score.image(f"image{order[key] + 1}" if several else "") for key in keys]


def _image_keys(seq: SeqFile, lines: list[tuple[int, bool]]) -> list[tuple[int, ...]]:
    """Return what tells the image of each window: labels, else how often its line was read."""
    labelled = [tuple(labels.get(n, 0) for n in _IMAGE_LABELS) for labels in seq.labels]
    if len(set(labelled)) > 1:
        return labelled
    seen: Counter[tuple[int, ...]] = Counter()
    keys: list[tuple[int, ...]] = []
    for k, (line, _) in zip(seq.kspace_per_m, lines, strict=True):
        place = (line,) if line >= 0 else _path_key(k)
        keys.append((seen[place],))
        seen[place] += 1
    return keys


def _path_key(k_per_m: np.ndarray) -> tuple[int, ...]:
    """Return where a window off the grid begins, is halfway and ends, whichever way it goes."""
    first, middle, last = (
        tuple(round(float(value) * 10) for value in k_per_m[at, :2])
        for at in (0, len(k_per_m) // 2, -1)
    )
    return (*min(first, last), *max(first, last), *(middle if first == last else ()))


def check_limits(seq: SeqFile, scanner: Scanner) -> None:
    """Refuse a file that a scanner cannot play.

    Raises
    ------
    InvalidInput
        Names the first block that breaks a limit.
    """
    for number, block in seq.blocks:
        _check_limits(block, scanner, f"block {number} of {seq.path}")


def _check_limits(block: Block, scanner: Scanner, where: str) -> None:
    for event in block.raw.events if block.raw is not None else ():
        if event.type in ("trap", "grad"):
            _check_gradient(event, scanner, f"g{event.channel} in {where}")
    if block.adc is not None and block.adc.delay_s < scanner.adc_dead_time_s - 1e-9:
        raise InvalidInput(
            f"the ADC in {where} must begin at least {scanner.adc_dead_time_s:g} s into its block "
            f"on scanner {scanner.name}, got {block.adc.delay_s:g} s; use scanner as-imported"
        )


def _check_gradient(event: Any, scanner: Scanner, where: str) -> None:  # noqa: ANN401
    peak, slew = event_peaks(event)
    if peak > scanner.max_gradient_hz_per_m * 1.001:
        raise InvalidInput(
            f"{where} must be at most {t_per_m_to_mt_per_m(scanner.max_gradient_t_per_m):.4g} mT/m,"
            f" got {t_per_m_to_mt_per_m(peak / GYROMAGNETIC_RATIO_HZ_PER_T):.4g} mT/m; lower it"
        )
    if slew > scanner.max_slew_hz_per_m_s * 1.001:
        raise InvalidInput(
            f"{where} must ramp at most {scanner.max_slew_t_per_m_s:.4g} T/m/s, got "
            f"{slew / GYROMAGNETIC_RATIO_HZ_PER_T:.4g} T/m/s; ramp slower"
        )
