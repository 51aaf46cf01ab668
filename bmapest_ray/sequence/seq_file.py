"""Read a Pulseq ``.seq`` file (1.2 to 1.5) into blocks, with errors that name the block."""

import hashlib
import re
import tempfile
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.base.units import GYROMAGNETIC_RATIO_HZ_PER_T, rad_to_deg
from bmapest_ray.sequence.events import Adc, Block, Pulse, PulseUse, RawEvents
from bmapest_ray.sequence.scanner import SCANNERS

VERSIONS: Final = ("1.2", "1.3", "1.4", "1.5")
_USES: Final[tuple[PulseUse, ...]] = (
    "excitation",
    "refocusing",
    "inversion",
    "saturation",
    "preparation",
)
_MOST_SAMPLES: Final = 100_000
"""Per receive window."""
_WEAKEST_REFOCUSING_DEG: Final = 100.0
"""A pulse of unknown use below this excites, above it refocuses."""


@dataclass(frozen=True)
class SeqFile:
    """A ``.seq`` file as blocks.

    Parameters
    ----------
    path
        Where it was read from.
    blocks
        In the order they are played, and under which number the file has each.
    kspace_per_m
        Per receive window the positions of its samples, shape ``(sample, 3)``.
    labels
        Per receive window the Pulseq labels in force.
    fov_m
        The FOV definition of the file, None without one.
    """

    path: Path
    blocks: tuple[tuple[int, Block], ...]
    kspace_per_m: tuple[np.ndarray, ...]
    labels: tuple[dict[str, int], ...]
    fov_m: float | None


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file.

    Raises
    ------
    MissingInput
        If it is not there.
    """
    if not path.is_file():
        raise MissingInput(f"a .seq file must exist, got {path}; correct the path")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_seq(path: Path, sha256: str) -> SeqFile:
    """Read a file whose content has the given sha256.

    Raises
    ------
    MissingInput
        If it is not there.
    InvalidInput
        If it changed, has an unknown version, is cut off, receives nothing, or pypulseq cannot
        read it; names the block where there is one.
    """
    if file_sha256(path) != sha256:
        raise InvalidInput(
            f"{path} must be the file that was imported, got another sha256; import it again"
        )
    return _read(path, sha256)


@lru_cache(maxsize=8)
def _read(path: Path, sha256: str) -> SeqFile:  # noqa: ARG001 - the content is the cache key
    _check_version(path)
    sequence = _pypulseq_sequence(path)
    blocks = _blocks(sequence, path)
    windows = [block.adc.samples for _, block in blocks if block.adc is not None]
    if not windows:
        raise InvalidInput(f"{path} must receive at least one line, got no ADC; add a readout")
    positions = _quietly(sequence.calculate_kspace, path, "its k-space")[0].T
    return SeqFile(
        path,
        blocks,
        tuple(np.split(positions, np.cumsum(windows)[:-1])),
        _labels(sequence, len(windows)),
        _fov_m(sequence, path),
    )


def _check_version(path: Path) -> None:
    text = path.read_bytes().decode("utf-8", errors="replace")
    found = re.search(r"\[VERSION\]\s+major\s+(\d+)\s+minor\s+(\d+)", text)
    version = f"{found[1]}.{found[2]}" if found else "none"
    if version not in VERSIONS:
        raise InvalidInput(
            f"{path} must be a Pulseq file of version {' or '.join(VERSIONS)}, got version "
            f"{version}; export it again"
        )


def _quietly(call: Any, path: Path, what: str, *args: object) -> Any:  # noqa: ANN401
    """Call into pypulseq without its warnings; its errors become one sentence.

    The error itself is dropped inside: it holds the file that pypulseq leaves open.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call(*args)
        except Exception as error:  # noqa: BLE001 - a parser raises anything on a broken file
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            if isinstance(error, KeyError):
                reason = f"event or shape {error.args[0]} is not in the file"
    raise InvalidInput(
        f"{path} must be a whole Pulseq file, got an error in {what} ({reason}); export it again"
    )


def _pypulseq_sequence(path: Path) -> Any:  # noqa: ANN401
    import pypulseq

    sequence = pypulseq.Sequence(SCANNERS["as-imported"].pulseq_limits())
    with tempfile.TemporaryDirectory() as folder:
        # pypulseq never ends on a file that does not end with an empty line
        copy = Path(folder) / "copy.seq"
        copy.write_bytes(path.read_bytes() + b"\n\n")
        # looking for duplicates would meet missing events before a block can be named
        _quietly(sequence.read, path, "a section", str(copy), None, False)
    return sequence


def _blocks(sequence: Any, path: Path) -> tuple[tuple[int, Block], ...]:  # noqa: ANN401
    """Make every distinct block once; blocks of a file repeat."""
    made: dict[tuple[bytes, float], Block] = {}
    found = []
    for index, row in sequence.block_events.items():
        key = (np.asarray(row[1:6]).tobytes(), float(sequence.block_durations[index]))
        if key not in made:
            raw = _quietly(sequence.get_block, path, f"block {index}", index)
            made[key] = _block(raw, key[1], f"block {index} of {path}")
        found.append((int(index), made[key]))
    return tuple(found)


def _block(raw: Any, duration_s: float, where: str) -> Block:  # noqa: ANN401
    raster_s = SCANNERS["as-imported"].gradient_raster_s
    steps = round(duration_s / raster_s)
    if abs(steps * raster_s - duration_s) > 1e-9:
        raise InvalidInput(
            f"{where} must last a multiple of {raster_s:g} s, got {duration_s:.9g} s; "
            "export it on that raster"
        )
    _check_events(raw, duration_s, where)
    played = (raw.rf, raw.gx, raw.gy, raw.gz, raw.adc)
    events = RawEvents(
        tuple(event for event in played if event is not None),
        _pulse_energy(raw.rf) if raw.rf is not None else 0.0,
    )
    return Block(
        steps,
        None if raw.rf is None else _pulse(raw.rf),
        0.0 if raw.rf is None else float(raw.rf.delay),
        adc=None if raw.adc is None else _adc(raw.adc),
        raw=events,
    )


def _check_events(raw: Any, duration_s: float, where: str) -> None:  # noqa: ANN401
    """Refuse what would make every later computation fail or never end."""
    for event in (raw.gx, raw.gy, raw.gz):
        if event is None or event.type != "trap":
            continue
        times_s = (event.delay, event.rise_time, event.flat_time, event.fall_time)
        if not np.isfinite([event.amplitude, *times_s]).all() or min(times_s) < 0:
            raise InvalidInput(
                f"g{event.channel} in {where} must have a finite amplitude and times of at least "
                f"0 s, got {event.amplitude:g} Hz/m and {', '.join(f'{t:g}' for t in times_s)} s; "
                "export it again"
            )
    last_s = max(
        (
            event.delay + _length_s(event)
            for event in (raw.rf, raw.gx, raw.gy, raw.gz)
            if event is not None
        ),
        default=0.0,
    )
    if last_s > duration_s + SCANNERS["as-imported"].gradient_raster_s:
        raise InvalidInput(
            f"{where} must last as long as its events, got {duration_s:g} s for events until "
            f"{last_s:g} s; export it again"
        )
    if raw.adc is None:
        return
    end_s = raw.adc.delay + raw.adc.num_samples * raw.adc.dwell
    if not 1 <= raw.adc.num_samples <= _MOST_SAMPLES or not end_s <= duration_s + 1e-6:
        raise InvalidInput(
            f"the ADC in {where} must take 1..{_MOST_SAMPLES} samples inside its block of "
            f"{duration_s:g} s, got {raw.adc.num_samples} until {end_s:g} s; export it again"
        )


def _length_s(event: Any) -> float:  # noqa: ANN401
    """Return how long a pulse or gradient lasts after its delay."""
    if event.type == "trap":
        return float(event.rise_time + event.flat_time + event.fall_time)
    return float(event.shape_dur)


def _sample_s(rf: Any) -> np.ndarray:  # noqa: ANN401
    """Time each sample of a pulse stands for."""
    edges = np.concatenate(([0.0], (rf.t[1:] + rf.t[:-1]) / 2, [rf.shape_dur]))
    return np.diff(edges)


def _pulse(rf: Any) -> Pulse:  # noqa: ANN401
    turns = np.sum(rf.signal * _sample_s(rf))
    flip_deg = rad_to_deg(float(2 * np.pi * abs(turns)))
    phase_deg = rad_to_deg(float(rf.phase_offset + np.angle(turns)))
    guess: PulseUse = "excitation" if flip_deg < _WEAKEST_REFOCUSING_DEG else "refocusing"
    use = next((known for known in _USES if known == rf.use), guess)
    return Pulse(flip_deg, phase_deg % 360.0, float(rf.shape_dur), "block", use)


def _pulse_energy(rf: Any) -> float:  # noqa: ANN401
    b1_t = np.abs(rf.signal) / GYROMAGNETIC_RATIO_HZ_PER_T
    return float(np.sum(b1_t**2 * _sample_s(rf)))


def _adc(adc: Any) -> Adc:  # noqa: ANN401
    phase_deg = rad_to_deg(float(adc.phase_offset))
    return Adc(adc.num_samples, float(adc.dwell), float(adc.delay), phase_deg % 360.0)


def _labels(sequence: Any, windows: int) -> tuple[dict[str, int], ...]:  # noqa: ANN401
    evolution = sequence.evaluate_labels(evolution="adc")
    return tuple(
        {name: int(values[window]) for name, values in evolution.items()}
        for window in range(windows)
    )


def _fov_m(sequence: Any, path: Path) -> float | None:  # noqa: ANN401
    definition = sequence.definitions.get("FOV")
    if definition is None:
        return None
    try:
        first = float(np.atleast_1d(definition)[0])
    except ValueError:
        first = float("nan")
    fov_m = first / 1000.0 if first > 10 else first  # old files give millimetres
    if not 0 < fov_m < 10:
        raise InvalidInput(
            f"the FOV definition of {path} must be in metres, got {definition}; fix it"
        )
    return fov_m
