"""Sequences by plain pypulseq calls that know nothing of the package, as others write them."""

import math

import numpy as np

MATRIX, FOV_M = 16, 0.2


def plain_limits(pp):
    return pp.Opts(max_grad=30, grad_unit="mT/m", max_slew=150, slew_unit="T/m/s")


def spoiled_lines(pp, readout, lines, n, fov, silent=False):
    """Play a prephaser, a readout gradient and its ADC for every line, spoiled in between.

    Where ``silent``, the first pulse has next to no amplitude.
    """
    limits = plain_limits(pp)
    pre, gx, adc = readout
    seq = pp.Sequence(limits)
    rf = pp.make_block_pulse(math.radians(15), duration=1e-3, system=limits, use="excitation")
    none = pp.make_block_pulse(1e-9, duration=1e-3, system=limits, use="excitation")
    spoil = pp.make_trapezoid("z", area=4 / 8e-3, system=limits)
    for number, line in enumerate(lines):
        gy = pp.make_trapezoid("y", area=(line - n // 2) / fov, duration=1e-3, system=limits)
        seq.add_block(none if silent and number == 0 else rf)
        seq.add_block(pre, gy)
        seq.add_block(gx, adc)
        seq.add_block(spoil)
        seq.add_block(pp.make_delay(5e-3))
    seq.set_definition("FOV", [fov, fov, 8e-3])
    return seq


def plain_gre(pp, compatible_path, n=MATRIX, fov=FOV_M, silent=False, **write):
    """A gradient echo by plain pypulseq calls, lines in a shuffled order."""
    limits = plain_limits(pp)
    gx = pp.make_trapezoid("x", flat_area=n / fov, flat_time=n * 20e-6, system=limits)
    adc = pp.make_adc(n, duration=gx.flat_time, delay=gx.rise_time, system=limits)
    pre = pp.make_trapezoid("x", area=-gx.area / 2, duration=1e-3, system=limits)
    lines = np.random.default_rng(0).permutation(n)
    seq = spoiled_lines(pp, (pre, gx, adc), lines, n, fov, silent)
    seq.write(str(compatible_path), **write)


def plain_oversampled(pp, path, n=MATRIX, fov=FOV_M, factor=2, skipped=0, cut=0, times=1):
    """A gradient echo as scanners play it: oversampled readouts centred on kx = 0.

    ``skipped`` lines at the lower edge of ky and ``cut`` samples at the start of every readout are
    left out (partial Fourier, partial echo); all is played ``times`` over, without labels.
    """
    limits = plain_limits(pp)
    samples, dwell = factor * n - cut, 10e-6
    gx = pp.make_trapezoid("x", flat_area=samples / factor / fov, flat_time=samples * dwell,
                           system=limits)  # fmt: skip
    adc = pp.make_adc(samples, duration=gx.flat_time, delay=gx.rise_time, system=limits)
    ramp = (gx.area - gx.flat_area) / 2
    before = ramp + (n / 2 - cut / factor + 0.5 / factor) / fov
    pre = pp.make_trapezoid("x", area=-before, duration=1e-3, system=limits)
    seq = spoiled_lines(pp, (pre, gx, adc), [*range(skipped, n)] * times, n, fov)
    seq.write(str(path))


def plain_epi(pp, path, n=MATRIX, fov=FOV_M):
    limits = plain_limits(pp)
    seq = pp.Sequence(limits)
    rf = pp.make_block_pulse(math.pi / 2, duration=1e-3, system=limits, use="excitation")
    gx = pp.make_trapezoid("x", flat_area=n / fov, flat_time=n * 10e-6, system=limits)
    back = pp.make_trapezoid("x", flat_area=-n / fov, flat_time=n * 10e-6, system=limits)
    adc = pp.make_adc(n, duration=gx.flat_time, delay=gx.rise_time, system=limits)
    pre = pp.make_trapezoid("x", area=-gx.area / 2, system=limits, duration=1e-3)
    down = pp.make_trapezoid("y", area=-n / 2 / fov, system=limits, duration=1e-3)
    blip = pp.make_trapezoid("y", area=1 / fov, system=limits)
    seq.add_block(rf)
    seq.add_block(pre, down)
    for line in range(n):
        seq.add_block(back if line % 2 else gx, adc)
        seq.add_block(blip)
    seq.write(str(path))


def plain_tse(pp, path, n=MATRIX, fov=FOV_M, echoes=4):
    limits = plain_limits(pp)
    seq = pp.Sequence(limits)
    half = math.pi / 2
    rf90 = pp.make_block_pulse(
        half, duration=1e-3, phase_offset=half, system=limits, use="excitation"
    )
    rf180 = pp.make_block_pulse(math.pi, duration=1e-3, system=limits, use="refocusing")
    gx = pp.make_trapezoid("x", flat_area=n / fov, flat_time=n * 20e-6, system=limits)
    adc = pp.make_adc(
        n, duration=gx.flat_time, delay=gx.rise_time, phase_offset=half, system=limits
    )
    pre = pp.make_trapezoid("x", area=gx.area / 2, duration=1e-3, system=limits)
    crush = pp.make_trapezoid("z", area=1000, duration=1e-3, system=limits)
    for shot in range(n // echoes):
        seq.add_block(rf90)
        seq.add_block(pre, crush)
        for echo in range(echoes):
            area = (echo * (n // echoes) + shot - n // 2) / fov
            seq.add_block(rf180)
            seq.add_block(pp.make_trapezoid("y", area=area, duration=1e-3, system=limits), crush)
            seq.add_block(gx, adc)
            seq.add_block(pp.make_trapezoid("y", area=-area, duration=1e-3, system=limits), crush)
        seq.add_block(pp.make_delay(0.5))
    seq.write(str(path))
