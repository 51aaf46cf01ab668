"""Scenarios of what may differ from what a design assumes: tissues and the transmit field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.seeding import generator
from bmapest_ray.design.setting import DesignSetting
from bmapest_ray.design.voxels import Scenario


@dataclass(frozen=True)
class Ranges:
    """Half widths of what may differ, as shares: 0.1 is +-10 %."""

    t1: float = 0.1
    t2: float = 0.1
    b1: float = 0.2

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name in ("t1", "t2", "b1"):
            if not 0 <= getattr(self, name) < 0.9:
                msg = f"the range of {name} must be in [0, 0.9), got {getattr(self, name)}; 0.1?"
                raise InvalidInput(msg)


def corners(ranges: Ranges, tissues: int) -> tuple[Scenario, ...]:
    """Return the eight corners: T1 of all tissues, T2 of all tissues and B1 down or up."""
    return tuple(
        Scenario(
            f"T1{a * ranges.t1:+.0%} T2{b * ranges.t2:+.0%} B1{c * ranges.b1:+.0%}",
            (1 + a * ranges.t1,) * tissues,
            (1 + b * ranges.t2,) * tissues,
            1 + c * ranges.b1,
        )
        for a, b, c in product((-1, 1), repeat=3)
    )


def random_scenarios(ranges: Ranges, tissues: int, count: int, seed: int) -> tuple[Scenario, ...]:
    """Return scenarios drawn evenly, every tissue on its own."""
    draw = generator("design-scenarios", seed)
    found = []
    for number in range(count):
        shares = 2 * torch.rand(2 * tissues + 1, generator=draw, dtype=torch.float64) - 1
        t1 = (1 + ranges.t1 * shares[:tissues]).tolist()
        t2 = (1 + ranges.t2 * shares[tissues:-1]).tolist()
        b1 = 1 + ranges.b1 * float(shares[-1])
        found.append(Scenario(f"draw {number}", tuple(t1), tuple(t2), b1))
    return tuple(found)


def robust(setting: DesignSetting, scenarios: Sequence[Scenario]) -> DesignSetting:
    """Return the setting that averages log variances over the nominal case and scenarios."""
    return replace(setting, voxels=setting.voxels.under(scenarios))


def only(setting: DesignSetting, scenario: Scenario) -> DesignSetting:
    """Return the setting in which a scenario is the truth."""
    both = setting.voxels.under([scenario])
    count = len(both) // 2
    assert both.t1_scale is not None  # noqa: S101 - set by `under`
    assert both.t2_scale is not None  # noqa: S101
    voxels = replace(
        both,
        b0_hz=both.b0_hz[count:],
        b1=both.b1[count:],
        position_m=both.position_m[count:],
        fraction=both.fraction[:, count:],
        t1_scale=both.t1_scale[:, count:],
        t2_scale=both.t2_scale[:, count:],
        scenarios=1,
    )
    return replace(setting, voxels=voxels)
