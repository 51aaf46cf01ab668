"""What a design may change: named numbers of a protocol with bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bmapest_ray.base.errors import InvalidInput, require_choice
from bmapest_ray.sequence.catalogue import sequence_named
from bmapest_ray.sequence.parameters import Limit, parameters_of
from bmapest_ray.sequence.protocol import MAX_PAUSE_S, Chain, Contrast, Protocol

PAUSE = "pause_s"
EVERY = "*"
_STEPS = {"s": 1e-3, "deg": 0.1, "1/m": 0.1, "": 0.1}
"""Steps of difference quotients per unit: whole numbers of raster steps, halves of them too."""
_ROUNDED = {"s": 1e-5, "deg": 1e-2, "1/m": 1e-2}


@dataclass(frozen=True)
class Variable:
    """A continuous parameter of one contrast, or of every contrast that has it (``*``).

    Parameters
    ----------
    contrast, parameter
        Its name; ``pause_s`` is the pause after the contrast.
    low, high
        Bounds, in the unit of the parameter.
    """

    contrast: str
    parameter: str
    low: float
    high: float

    def __post_init__(self) -> None:
        """Check the bounds."""
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            msg = f"bounds of {self.name} must rise, got {self.low}..{self.high}; correct them"
            raise InvalidInput(msg)

    @property
    def name(self) -> str:
        """``contrast.parameter``."""
        return f"{self.contrast}.{self.parameter}"

    def unit(self, protocol: Protocol) -> str:
        """Return the unit of the parameter."""
        return self._limit(self._owners(protocol)[0]).unit

    def value(self, protocol: Protocol) -> float:
        """Return the value in a protocol (of the first contrast that has it)."""
        owner = self._owners(protocol)[0]
        if self.parameter == PAUSE:
            return owner.pause_s
        return float(dict(owner.parameters)[self.parameter])

    def step(self, protocol: Protocol) -> float:
        """Return the step of its difference quotients."""
        return _STEPS[self.unit(protocol)]

    def rounded(self, value: float, protocol: Protocol) -> float:
        """Return a value on the raster that a scanner plays."""
        step = _ROUNDED.get(self.unit(protocol), 1e-6)
        if self.unit(protocol) == "s":
            step = 2 * protocol.scanner.gradient_raster_s  # halves of times are on it too
        return round(round(min(max(value, self.low), self.high) / step) * step, 9)

    def check(self, protocol: Protocol) -> None:
        """Refuse bounds that leave what the sequence accepts.

        Raises
        ------
        InvalidInput
            Says the bounds and the limits.
        """
        for owner in self._owners(protocol):
            limit = self._limit(owner)
            if self.low < limit.low or self.high > limit.high:
                msg = (
                    f"bounds of {owner.name}.{self.parameter} must lie in {limit.low:.6g}.."
                    f"{limit.high:.6g} {limit.unit}, got {self.low:.6g}..{self.high:.6g}; narrow "
                    "them"
                )
                raise InvalidInput(msg)

    def _owners(self, protocol: Protocol) -> list[Contrast]:
        if self.contrast != EVERY:
            names = [c.name for c in protocol.contrasts]
            require_choice("the contrast of a variable", self.contrast, names)
        owners = [c for c in protocol.contrasts if self.contrast in (EVERY, c.name)]
        having = [c for c in owners if self.parameter == PAUSE or self.parameter in _names(c)]
        if not having:
            known = sorted({name for c in owners for name in _names(c)})
            require_choice(f"the parameter of variable {self.name}", self.parameter, known)
        return having

    def _limit(self, owner: Contrast) -> Limit:
        if self.parameter == PAUSE:
            return Limit("s", 0.0, MAX_PAUSE_S)
        for parameter in parameters_of(sequence_named(owner.sequence)):
            if parameter.name == self.parameter and isinstance(parameter.rule, Limit):
                if parameter.kind is float:
                    return parameter.rule
                break
        msg = (
            f"a variable must be a continuous number, got {self.name}; vary whole numbers and "
            "choices with 'choices'"
        )
        raise InvalidInput(msg)

    def owned_by(self, contrast: Contrast) -> bool:
        """Whether a contrast has the parameter and is meant."""
        meant = self.contrast in (EVERY, contrast.name)
        return meant and (self.parameter == PAUSE or self.parameter in _names(contrast))


def _names(contrast: Contrast) -> list[str]:
    return [name for name, _ in contrast.parameters]


def with_values(
    protocol: Protocol, variables: Sequence[Variable], values: Sequence[float]
) -> Protocol:
    """Return the protocol with new values of the variables.

    Raises
    ------
    InvalidInput
        If a value leaves what its sequence accepts.
    """
    chains = tuple(
        Chain(
            tuple(_changed(contrast, variables, values) for contrast in chain.contrasts),
            chain.dummy_cycles,
        )
        for chain in protocol.chains
    )
    return replace(protocol, chains=chains)


def _changed(
    contrast: Contrast, variables: Sequence[Variable], values: Sequence[float]
) -> Contrast:
    for variable, value in zip(variables, values, strict=True):
        if not variable.owned_by(contrast):
            continue
        if variable.parameter == PAUSE:
            contrast = replace(contrast, pause_s=float(value))
        else:
            contrast = contrast.with_parameters(**{variable.parameter: float(value)})
    return contrast


def rounded_values(
    protocol: Protocol, variables: Sequence[Variable], values: Sequence[float]
) -> list[float]:
    """Return values that a scanner plays exactly."""
    return [v.rounded(float(x), protocol) for v, x in zip(variables, values, strict=True)]
