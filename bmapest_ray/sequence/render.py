"""From a score to a Pulseq sequence, and its timing check. pypulseq is imported only when used."""

import copy
import math
from typing import Any

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.units import deg_to_rad
from bmapest_ray.sequence.events import (
    APODISATION,
    TIME_BANDWIDTH,
    Adc,
    AdcReadout,
    Axis,
    Block,
    Pulse,
)
from bmapest_ray.sequence.lobes import Lobe, Waveform
from bmapest_ray.sequence.scanner import Scanner
from bmapest_ray.sequence.score import Score

Event = Any  # pypulseq events are SimpleNamespaces without types


NOMINAL_SLICE_M = 8e-3


def render(score: Score, *, labels: bool = False) -> Any:  # noqa: ANN401 - pypulseq has no types
    """Return the score as a `pypulseq.Sequence` that passed its timing check.

    `labels` marks every receive window with LIN, SET (the image) and REV.

    Raises
    ------
    InvalidInput
        If pypulseq finds a time that breaks a raster or a dead time.
    """
    import pypulseq

    writer = _Writer(pypulseq.Sequence(score.scanner.pulseq_limits()), score.scanner)
    readouts = iter(score.readouts)
    for block in score.blocks:
        marked = labels and block.adc is not None
        writer.add(block, _labels(next(readouts)) if marked else [])
    check_timing(writer.sequence)
    writer.sequence.set_definition("FOV", [score.fov_m, score.fov_m, NOMINAL_SLICE_M])
    return writer.sequence


def _labels(readout: AdcReadout) -> list[Event]:
    import pypulseq

    values = {"LIN": max(readout.line, 0), "SET": readout.image, "REV": int(readout.reverse)}
    return [pypulseq.make_label(label, "SET", value) for label, value in values.items()]


class _Writer:
    """Adds blocks to a Pulseq sequence; every event is made and registered once."""

    def __init__(self, sequence: Any, scanner: Scanner) -> None:  # noqa: ANN401
        self.sequence = sequence
        self.scanner = scanner
        self.limits = sequence.system
        self._events: dict[Block, tuple[Event, ...]] = {}
        self._made: dict[object, Event] = {}

    def add(self, block: Block, labels: list[Event]) -> None:
        if block not in self._events:
            self._events[block] = tuple(self._make(block))
        self.sequence.add_block(*self._events[block], *labels)

    def _make(self, block: Block) -> list[Event]:
        import pypulseq

        events = [pypulseq.make_delay(block.steps * self.scanner.gradient_raster_s)]
        if block.raw is not None:
            return [*events, *block.raw.events]
        if block.pulse is not None:
            events.append(self._pulse(block.pulse, block.pulse_delay_s))
        events += [self._gradient(axis, lobe) for axis, lobe in block.gradients]
        if block.adc is not None:
            events.append(self._adc(block.adc))
        return events

    def _pulse(self, pulse: Pulse, delay_s: float) -> Event:
        """Scale the pulse of its kind: its shape is compressed and registered once."""
        kind = (pulse.duration_s, pulse.shape, pulse.use, delay_s)
        if kind not in self._made:
            event = _make_pulse(pulse, delay_s, self.limits)
            _, event.shape_IDs = self.sequence.register_rf_event(event)
            self._made[kind] = (pulse.flip_angle_deg, event)
        made_deg, made = self._made[kind]
        event = copy.copy(made)
        event.signal = made.signal * (pulse.flip_angle_deg / made_deg)
        event.phase_offset = deg_to_rad(pulse.phase_deg)
        event.id, _ = self.sequence.register_rf_event(event)
        return event

    def _gradient(self, axis: Axis, shape: Lobe | Waveform) -> Event:
        if (axis, shape) not in self._made:
            event = self._lobe(axis, shape) if isinstance(shape, Lobe) else self._wave(axis, shape)
            registered = self.sequence.register_grad_event(event)
            event.id = registered[0] if isinstance(registered, tuple) else registered
            self._made[axis, shape] = event
        return self._made[axis, shape]

    def _lobe(self, axis: Axis, lobe: Lobe) -> Event:
        import pypulseq

        ramp_s = lobe.ramp * self.scanner.gradient_raster_s
        return pypulseq.make_trapezoid(
            axis,
            amplitude=lobe.amplitude_hz_per_m,
            rise_time=ramp_s,
            flat_time=lobe.flat * self.scanner.gradient_raster_s,
            fall_time=ramp_s,
            system=self.limits,
        )

    def _wave(self, axis: Axis, waveform: Waveform) -> Event:
        import numpy as np
        import pypulseq

        samples = np.asarray(waveform.amplitudes_hz_per_m)
        return pypulseq.make_arbitrary_grad(axis, samples, first=0, last=0, system=self.limits)

    def _adc(self, adc: Adc) -> Event:
        import pypulseq

        event = pypulseq.make_adc(
            adc.samples,
            dwell=adc.dwell_s,
            delay=adc.delay_s,
            phase_offset=deg_to_rad(adc.phase_deg),
            system=self.limits,
        )
        event.id, _ = self.sequence.register_adc_event(event)
        return event


def _make_pulse(pulse: Pulse, delay_s: float, limits: Any) -> Event:  # noqa: ANN401
    import pypulseq

    common = {
        "flip_angle": deg_to_rad(pulse.flip_angle_deg),
        "duration": pulse.duration_s,
        "delay": delay_s,
        "use": pulse.use,
        "system": limits,
    }
    if pulse.shape == "block":
        return pypulseq.make_block_pulse(**common)
    return pypulseq.make_sinc_pulse(
        **common, apodization=APODISATION, time_bw_product=TIME_BANDWIDTH
    )


def check_timing(sequence: Any) -> None:  # noqa: ANN401
    """Run pypulseq's timing check on every distinct block.

    Raises
    ------
    InvalidInput
        Names the first block that fails, with its numbers.
    """
    distinct = copy.copy(sequence)  # blocks repeat: checking each kind once is enough
    seen: dict[tuple[object, ...], int] = {}
    for index, row in sequence.block_events.items():
        seen.setdefault((row.tobytes(), sequence.block_durations[index]), index)
    distinct.block_events = {index: sequence.block_events[index] for index in seen.values()}
    passed, report = distinct.check_timing()
    if not passed:
        raise InvalidInput(_timing_sentence(report[0], len(report)))


def _timing_sentence(error: Any, count: int) -> str:  # noqa: ANN401
    numbers = ", ".join(
        f"{key} {value:.6g}"
        for key, value in vars(error).items()
        if isinstance(value, float) and math.isfinite(value)
    )
    return (
        f"every block must pass the timing check, got {count} error(s), first in block "
        f"{error.block}: {error.event} {error.field} {error.error_type} ({numbers}); "
        "change the timing to raster and dead times of the scanner"
    )
