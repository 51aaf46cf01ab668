"""The search space: typed dimensions, their grid, and putting a point into a study."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bmapest_ray.base.errors import InvalidInput, closest

Value = float | int | bool | str | None

_RANGE_KEYS = ("low", "high", "log", "step", "steps", "int")


@dataclass(frozen=True)
class Conditional:
    """A dimension that may count only where others have certain values."""

    when: tuple[tuple[str, Value], ...] = field(default=(), kw_only=True)
    """``(path, value)``: all must hold; empty always holds."""

    def is_active(self, settings: Mapping[str, Any]) -> bool:
        """Whether the dimension counts beside these settings."""
        return all(settings.get(path) == value for path, value in self.when)


@dataclass(frozen=True)
class Choices(Conditional):
    """One of a few values."""

    choices: tuple[Value, ...]

    def values(self) -> tuple[Value, ...]:
        """Return all values."""
        return self.choices

    def require_finite(self, path: str, sampler: str) -> None:
        """Accept: choices are finite."""


@dataclass(frozen=True)
class Floats(Conditional):
    """Real numbers from `low` to `high`; `steps` of them where a grid is asked for."""

    low: float
    high: float
    log: bool = False
    steps: int | None = None

    def values(self) -> tuple[Value, ...]:
        """Return `steps` values, evenly spaced (in the logarithm if `log`)."""
        space = np.geomspace if self.log else np.linspace
        return tuple(float(v) for v in space(self.low, self.high, self.steps or 1))

    def require_finite(self, path: str, sampler: str) -> None:
        """Refuse a range without `steps`."""
        if self.steps is None:
            raise ValueError(
                f"{path} must have 'steps' for sampler '{sampler}', got a continuous range; "
                "add steps or use another sampler"
            )


@dataclass(frozen=True)
class Ints(Conditional):
    """Whole numbers from `low` to `high` in steps of `step`."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    def values(self) -> tuple[Value, ...]:
        """Return all values."""
        return tuple(range(self.low, self.high + 1, self.step))

    def require_finite(self, path: str, sampler: str) -> None:
        """Accept: whole numbers in a range are finite."""


Dimension = Choices | Floats | Ints
Space = Mapping[str, Dimension]


def make_space(raw: Mapping[str, Any]) -> dict[str, Dimension]:
    """Read a search space: ``{choices: [..]}``, ``{low, high, log, steps}``, ``{.., int: true}``.

    ``when: {path: value}`` in a dimension makes it count only there; the path comes before it.

    Raises
    ------
    ValueError
        With a sentence that names the path, the rule and the value.
    """
    known = (Choices, Floats, Ints)
    space = {p: v if isinstance(v, known) else _dimension(p, v) for p, v in raw.items()}
    before: set[str] = set()
    for path, dimension in space.items():
        late = [name for name, _ in dimension.when if name not in before]
        if late:
            raise ValueError(
                f"{path} may depend on what stands before it in the space, got '{late[0]}'; "
                "move it up"
            )
        before.add(path)
    return space


def _dimension(path: str, raw: object) -> Dimension:
    if isinstance(raw, list | tuple):
        raw = {"choices": list(raw)}
    if not isinstance(raw, Mapping):
        raise ValueError(f"{path} must be choices or a range with low and high, got {raw!r}")
    if "when" in raw:
        when, rest = raw["when"] or {}, {k: v for k, v in raw.items() if k != "when"}
        if not isinstance(when, Mapping):  # as a study that was written out has it
            when = dict(when)
        return replace(_dimension(path, rest), when=tuple(when.items()))
    if "choices" in raw:
        return _choices(path, raw)
    for key in raw:
        if key not in _RANGE_KEYS:
            hint = closest(str(key), _RANGE_KEYS)
            raise ValueError(f"{path} may have {', '.join(_RANGE_KEYS)}, got '{key}'{hint}")
    return _range(path, raw)


def _choices(path: str, raw: Mapping[str, Any]) -> Choices:
    choices = raw["choices"]
    if set(raw) != {"choices"} or not isinstance(choices, list | tuple) or not choices:
        raise ValueError(f"{path} must be a list of at least one choice and nothing else")
    for value in choices:
        if value is not None and not isinstance(value, str | int | float):
            raise ValueError(f"{path} must list numbers, text, true, false or null, got {value!r}")
    return Choices(tuple(choices))


def _range(path: str, raw: Mapping[str, Any]) -> Floats | Ints:
    low, high = (_number(path, name, raw.get(name)) for name in ("low", "high"))
    log = bool(raw.get("log", False))
    if not low < high:
        raise ValueError(f"{path} must have low < high, got low={low:g}, high={high:g}")
    if log and low <= 0:
        raise ValueError(f"{path} must have low > 0 with log, got low={low:g}; raise it")
    if bool(raw.get("int", False)) or "step" in raw:
        if log and raw.get("step", 1) != 1:
            raise ValueError(f"{path} cannot have both log and step; drop one")
        return Ints(int(low), int(high), log, int(raw.get("step", 1)))
    return Floats(float(low), float(high), log, raw.get("steps"))


def _number(path: str, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{path} must have a number for '{name}', got {value!r}")
    return value


def grid(space: Space) -> Iterator[dict[str, Value]]:
    """Yield every point of a finite space once, the last path varying fastest."""
    paths, seen = list(space), set[tuple[tuple[str, Value], ...]]()
    for values in itertools.product(*(space[path].values() for path in paths)):
        point: dict[str, Value] = {}
        for path, value in zip(paths, values, strict=True):
            if space[path].is_active(point):
                point[path] = value
        if len(point) == len(paths):
            yield point
        elif tuple(point.items()) not in seen:
            seen.add(tuple(point.items()))
            yield point


def is_finite(space: Space) -> bool:
    """Whether a space has finitely many points that are worth listing."""
    return all(not isinstance(d, Floats) or d.steps is not None for d in space.values())


def is_whole(space: Space, settings: Mapping[str, Any]) -> bool:
    """Whether settings have a value for every dimension that counts beside them."""
    return all(path in settings or not d.is_active(settings) for path, d in space.items())


_FREE_KEYS = (
    "search.space.",
    "inversion.settings.",
    "inversion.prior_settings.",
    "inversion.parametrisation_settings.",
)
"""Below these the rest of a path is one key, which may hold dots itself."""


def split_path(path: str) -> list[str]:
    """Split ``a.b.c`` into keys."""
    for prefix in _FREE_KEYS:
        if path.startswith(prefix):
            return [*prefix.removesuffix(".").split("."), path.removeprefix(prefix)]
    return path.split(".")


def put(data: dict[str, Any], path: str, value: object) -> None:
    """Set ``a.b.c`` in nested mappings, making those that are missing.

    Raises
    ------
    InvalidInput
        If a part of the path names a value that holds no keys.
    """
    *parents, last = split_path(path)
    for depth, part in enumerate(parents):
        inner = data.setdefault(part, {})
        if not isinstance(inner, dict):
            at = ".".join(parents[: depth + 1])
            raise InvalidInput(f"'{path}' must name a key, but '{at}' is the value {inner!r}")
        data = inner
    data[last] = value


def get(data: object, path: str) -> Any:  # noqa: ANN401 - a YAML value has no narrower type
    """Return ``a.b.c`` of nested mappings; None where it is missing."""
    for part in split_path(path):
        if not isinstance(data, dict) or part not in data:
            return None
        data = data[part]
    return data
