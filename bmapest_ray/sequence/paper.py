"""The sequences of BMapEst (arXiv 2404.14739): six preparations before a centric FLASH readout.

Times named `..._delay_s` are the *delay blocks* of the paper; from pulse centre to pulse centre
they are longer (TI + 2.62 ms for `t1inv`, see each function). Sequences of the package's own use
centre-to-centre times throughout.
"""

from bmapest_ray.sequence.order import ky_order, spoiling_phases_deg
from bmapest_ray.sequence.parameters import AreaPerM, Dwell, FlipAngle, Seconds
from bmapest_ray.sequence.preparation import inversion_pulse, t2_preparation
from bmapest_ray.sequence.score import Score

PREPHASE_S = 1e-3
SPOILER_S = 1.5e-3
SPOILER_FACTOR = 1.5
SPOILING_INCREMENT_DEG = 50.0
DIFFUSION_LOBE_S = 10e-3


def centric_flash(
    score: Score, flip_angle_deg: float, dwell_s: float, echo_delay_s: float = 0.0
) -> None:
    """Spoil along z, then read all lines: pulse, pre-phase (1 ms), readout, spoil and rewind.

    TR 5.60 ms and TE 2.51 ms at 64 x 64 with 30 us dwell; lobes that need longer are stretched.
    """
    image = score.image()
    area = score.readout_area(dwell_s)
    score.play(score.lobes(z=SPOILER_FACTOR * area, at_least_s=SPOILER_S))
    lines = ky_order(score.matrix, "centric")
    phases_deg = spoiling_phases_deg(len(lines), SPOILING_INCREMENT_DEG)
    for line, phase_deg in zip(lines, phases_deg, strict=True):
        ky = score.line_area(line)
        score.play(score.pulse_block(flip_angle_deg, phase_deg, use="excitation", shape="sinc"))
        score.wait(echo_delay_s)
        score.play(score.lobes(x=-area / 2, y=ky, at_least_s=PREPHASE_S))
        score.read(image, line, dwell_s, phase_deg)
        score.play(score.lobes(x=SPOILER_FACTOR * area, y=-ky, at_least_s=SPOILER_S))


def t1inv(
    score: Score,
    *,
    inversion_delay_s: Seconds = 0.1,
    flip_angle_deg: FlipAngle = 5.0,
    dwell_s: Dwell = 30e-6,
) -> None:
    """Inversion recovery: 180, delay, FLASH; centre to centre the delay + 2.62 ms."""
    inversion_pulse(score)
    score.wait(inversion_delay_s)
    centric_flash(score, flip_angle_deg, dwell_s)


def t2prep(
    score: Score,
    *,
    echo_delay_s: Seconds = 0.01,
    flip_angle_deg: FlipAngle = 5.0,
    dwell_s: Dwell = 30e-6,
) -> None:
    """T2 preparation: 90, TE/2, 180, TE/2, -90, FLASH; centre to centre TE + 2.24 ms."""
    t2_preparation(score, echo_delay_s)
    centric_flash(score, flip_angle_deg, dwell_s)


def t2star(
    score: Score,
    *,
    extra_echo_delay_s: Seconds = 0.005,
    flip_angle_deg: FlipAngle = 5.0,
    dwell_s: Dwell = 30e-6,
) -> None:
    """T2* weighting: a delay between pulse and pre-phaser lengthens TE and TR alike."""
    centric_flash(score, flip_angle_deg, dwell_s, extra_echo_delay_s)


def dir(  # noqa: A001 - the name of the sequence in the paper
    score: Score,
    *,
    inversion_delay_s: Seconds = 0.1,
    second_delay_s: Seconds = 0.5,
    flip_angle_deg: FlipAngle = 5.0,
    dwell_s: Dwell = 30e-6,
) -> None:
    """Double inversion: 180, delay, 180, delay, FLASH; centre to centre + 1.12, + 2.62 ms."""
    inversion_pulse(score)
    score.wait(inversion_delay_s)
    inversion_pulse(score)
    score.wait(second_delay_s)
    centric_flash(score, flip_angle_deg, dwell_s)


def flair(
    score: Score,
    *,
    echo_delay_s: Seconds = 0.01,
    inversion_delay_s: Seconds = 2.7,
    flip_angle_deg: FlipAngle = 5.0,
    dwell_s: Dwell = 30e-6,
) -> None:
    """Fluid suppression: 180, delay (+ 1.12 ms centre to centre), T2 preparation, FLASH."""
    inversion_pulse(score)
    score.wait(inversion_delay_s)
    t2_preparation(score, echo_delay_s)
    centric_flash(score, flip_angle_deg, dwell_s)


def dwi(
    score: Score,
    *,
    lobe_area_per_m: AreaPerM = 10.0,
    flip_angle_deg: FlipAngle = 5.0,
    dwell_s: Dwell = 30e-6,
) -> None:
    """Diffusion preparation: 90, lobe, 180, lobe, -90, FLASH; lobes of 10 ms on x.

    At most 0.03 s/mm2: a contrast only where D is multiplied by 100 000, as the paper does.
    """
    score.play(score.pulse_block(90.0, 0.0, use="preparation"))
    score.play(score.lobes(x=lobe_area_per_m, at_least_s=DIFFUSION_LOBE_S))
    score.play(score.pulse_block(180.0, 90.0, use="refocusing"))
    score.play(score.lobes(x=lobe_area_per_m, at_least_s=DIFFUSION_LOBE_S))
    score.play(score.pulse_block(90.0, 180.0, use="preparation"))
    centric_flash(score, flip_angle_deg, dwell_s)


def irflash(
    score: Score,
    *,
    inversion_time_s: Seconds = 0.1,
    flip_angle_deg: FlipAngle = 10.0,
    dwell_s: Dwell = 30e-6,
) -> None:
    """Plain inversion-recovery FLASH; `inversion_time_s` is centre to centre, TI 0.1 to 0.5 s."""
    inverted_s = inversion_pulse(score)
    spoiler = score.lobes(z=SPOILER_FACTOR * score.readout_area(dwell_s), at_least_s=SPOILER_S)
    pulse = score.pulse_block(flip_angle_deg, 0.0, use="excitation", shape="sinc")
    lead_s = spoiler.steps * score.scanner.gradient_raster_s + pulse.centre_s
    score.wait_until(inverted_s + inversion_time_s - lead_s, "inversion_time_s", inversion_time_s)
    centric_flash(score, flip_angle_deg, dwell_s)
