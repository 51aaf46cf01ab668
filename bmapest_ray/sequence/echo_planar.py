"""Single-shot echo-planar readout after a gradient echo. Times are centre to centre."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.sequence.events import Block
from bmapest_ray.sequence.order import Cartesian
from bmapest_ray.sequence.parameters import FlipAngle, Seconds
from bmapest_ray.sequence.preparation import SPOILER_AREA_PER_M
from bmapest_ray.sequence.score import Score
from bmapest_ray.sequence.spin_echo import EXCITATION_PHASE_DEG

EPI_CARTESIAN: Final = Cartesian(dwell_s=5e-6)


@dataclass(frozen=True)
class EchoPlanarTrain:
    """All lines after one excitation, every other one backwards, with blips between them."""

    score: Score
    cartesian: Cartesian

    @cached_property
    def lines(self) -> tuple[int, ...]:
        """Lines in acquisition order."""
        if self.cartesian.order == "centric":
            raise InvalidInput(
                "order of an echo-planar readout must be linear or reversed, got 'centric'; "
                "change it"
            )
        return self.cartesian.lines(self.score.matrix)

    @cached_property
    def _prephase(self) -> Block:
        area = self.score.readout_area(self.cartesian.dwell_s)
        return self.score.lobes(x=-area / 2, y=self.score.line_area(self.lines[0]))

    @cached_property
    def _blips(self) -> list[Block]:
        """Blips between neighbouring lines, all as long as the longest."""
        areas = [
            (after - before) / self.score.fov_m
            for before, after in zip(self.lines, self.lines[1:], strict=False)
        ]
        longest_s = max(self.score.length_s(self.score.lobes(y=area)) for area in areas)
        return [self.score.lobes(y=area, at_least_s=longest_s) for area in areas]

    @property
    def lead_s(self) -> float:
        """Time from the begin of the train to the middle of the line ky = 0."""
        reading = self.score.readout_block(self.cartesian.dwell_s)
        before = self.lines.index(self.score.matrix // 2)
        return (
            self.score.length_s(self._prephase, *self._blips[:before], *[reading] * before)
            + reading.centre_s
        )

    def play(self, image: int, *, receive: bool = True) -> None:
        """Play pre-phaser, readouts and blips, then spoil along z."""
        self.score.play(self._prephase)
        for number, line in enumerate(self.lines):
            if number:
                self.score.play(self._blips[number - 1])
            self.score.read(
                image,
                line,
                self.cartesian.dwell_s,
                EXCITATION_PHASE_DEG,
                reverse=number % 2 == 1,
                receive=receive,
            )
        self.score.play(self.score.lobes(z=SPOILER_AREA_PER_M))


def epi(
    score: Score,
    *,
    flip_angle_deg: FlipAngle = 90.0,
    echo_time_s: Seconds = 0.035,
    cartesian: Cartesian = EPI_CARTESIAN,
) -> None:
    """Single-shot gradient-echo EPI; TE is where ky = 0 is read."""
    train = EchoPlanarTrain(score, cartesian)
    pulse = score.pulse_block(
        flip_angle_deg, EXCITATION_PHASE_DEG, use="excitation", shape="sinc", duration_s=2e-3
    )
    excited_s = score.play(pulse)
    score.wait_until(excited_s + echo_time_s - train.lead_s, "echo_time_s", echo_time_s)
    train.play(score.image())
