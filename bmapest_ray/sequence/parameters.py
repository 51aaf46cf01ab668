"""Parameters of a sequence function: what its keywords accept, with unit and limits.

A keyword of a sequence function is one parameter; a keyword whose type is a frozen dataclass (such
as `Cartesian`) stands for all fields of that class.
"""

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, get_type_hints

from bmapest_ray.base.errors import InvalidInput, closest

Value = float | int | str | bool


@dataclass(frozen=True)
class Limit:
    """Unit and closed range of a number."""

    unit: str
    low: float
    high: float


@dataclass(frozen=True)
class Choice:
    """The words a text parameter may be."""

    words: tuple[str, ...]


Seconds = Annotated[float, Limit("s", 0.0, 60.0)]
Dwell = Annotated[float, Limit("s", 1e-6, 1e-3)]
Degrees = Annotated[float, Limit("deg", 0.0, 360.0)]
FlipAngle = Annotated[float, Limit("deg", 0.01, 360.0)]
AreaPerM = Annotated[float, Limit("1/m", 0.0, 1e6)]
Count = Annotated[int, Limit("", 0, 10_000)]
PositiveCount = Annotated[int, Limit("", 1, 10_000)]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a sequence; `group` is the keyword it belongs to, if it is a field."""

    name: str
    kind: type
    default: Value
    rule: Limit | Choice | None
    group: str = ""

    def check(self, value: object, where: str) -> Value:
        """Return `value` in this parameter's type.

        Raises
        ------
        InvalidInput
            If it has another type or leaves the limits.
        """
        known = self._typed(value)
        if known is None:
            raise InvalidInput(
                f"{self.name} of {where} must be of type {self.kind.__name__}, got {value!r}; "
                "change its value"
            )
        if isinstance(self.rule, Limit) and not self.rule.low <= float(known) <= self.rule.high:
            raise InvalidInput(
                f"{self.name} of {where} must be in {self.rule.low:.6g}..{self.rule.high:.6g} "
                f"{self.rule.unit}, got {known}; change its value"
            )
        if isinstance(self.rule, Choice) and known not in self.rule.words:
            raise InvalidInput(
                f"{self.name} of {where} must be one of {', '.join(self.rule.words)}, got "
                f"'{known}'{closest(str(known), self.rule.words)}"
            )
        return known

    def _typed(self, value: object) -> Value | None:
        if self.kind is bool or isinstance(value, bool):
            return value if isinstance(value, bool) and self.kind is bool else None
        if self.kind is str:
            return value if isinstance(value, str) else None
        if not isinstance(value, int | float) or not math.isfinite(value):
            return None
        if self.kind is int:
            return int(value) if float(value).is_integer() else None
        return float(value)


@cache
def parameters_of(function: Callable[..., None]) -> tuple[Parameter, ...]:
    """Return the parameters of a sequence function, in the order it declares them."""
    hints = get_type_hints(function, include_extras=True)
    keywords = (
        p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY
    )
    return tuple(
        parameter for p in keywords for parameter in _parameters(p.name, hints[p.name], p.default)
    )


def _parameters(name: str, hint: Any, default: Any) -> list[Parameter]:  # noqa: ANN401
    if not is_dataclass(hint):
        return [_parameter(name, hint, default)]
    hints = get_type_hints(hint, include_extras=True)
    return [_parameter(f.name, hints[f.name], getattr(default, f.name), name) for f in fields(hint)]


def _parameter(name: str, hint: Any, default: Value, group: str = "") -> Parameter:  # noqa: ANN401
    metadata = getattr(hint, "__metadata__", (None,))
    return Parameter(name, getattr(hint, "__origin__", hint), default, metadata[0], group)


def resolve(
    function: Callable[..., None], given: Iterable[tuple[str, object]]
) -> tuple[tuple[str, Value], ...]:
    """Return every parameter of a sequence with its given or default value, sorted by name.

    Raises
    ------
    InvalidInput
        For an unknown name (with the closest one) or a value outside its limits.
    """
    values, known = dict(given), {p.name: p for p in parameters_of(function)}
    for name in values:
        if name not in known:
            raise InvalidInput(
                f"parameter of {function.__name__} must be one of {', '.join(known)}, got "
                f"'{name}'{closest(name, known)}"
            )
    return tuple(
        (name, p.check(values.get(name, p.default), function.__name__))
        for name, p in sorted(known.items())
    )


def keywords_of(
    function: Callable[..., None], resolved: Iterable[tuple[str, Value]]
) -> dict[str, Any]:
    """Return resolved parameters as the keywords of a call, fields gathered into their groups."""
    values, hints = dict(resolved), get_type_hints(function)
    keywords: dict[str, Any] = {}
    groups: dict[str, dict[str, Value]] = {}
    for parameter in parameters_of(function):
        target = groups.setdefault(parameter.group, {}) if parameter.group else keywords
        target[parameter.name] = values[parameter.name]
    return keywords | {name: hints[name](**members) for name, members in groups.items()}
