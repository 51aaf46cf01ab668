"""Protocols as YAML: read with every key checked, written so that reading gives the same content.

A file holds `chains`; a chain is a list of contrasts, a mapping with `contrasts` and
`dummy_cycles`, or a text such as ``t2prep[0:2]`` that names contrasts of another protocol. A
contrast may `vary` one parameter over a list: one contrast per value, named ``name[0]``, ...
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

import yaml

from bmapest_ray.base.errors import InvalidInput, closest
from bmapest_ray.sequence.protocol import Chain, Contrast, Protocol, StateAccuracy
from bmapest_ray.sequence.scanner import PAPER_SCANNER, Scanner, scanner_named

Lookup = Callable[[str], tuple[Chain, ...]]


class _Loader(yaml.SafeLoader):
    """YAML where 1e-4 is a number, as in YAML 1.2, and not a text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+"), list("-+0123456789")
)

_PROTOCOL_KEYS = ("title", "scanner", "accuracy", "continuous", "chains")
_CHAIN_KEYS = ("contrasts", "dummy_cycles")
_CONTRAST_KEYS = ("name", "sequence", "pause_s", "parameters", "vary")


def to_yaml(protocol: Protocol) -> str:
    """Write a protocol as YAML, every parameter spelled out."""
    content = {
        "title": protocol.name,
        "scanner": asdict(protocol.scanner),
        "accuracy": asdict(protocol.accuracy),
        "continuous": protocol.continuous,
        "chains": [
            {
                "dummy_cycles": chain.dummy_cycles,
                "contrasts": [
                    {**asdict(contrast), "parameters": dict(contrast.parameters)}
                    for contrast in chain.contrasts
                ],
            }
            for chain in protocol.chains
        ],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def from_yaml(text: str, name: str, lookup: Lookup) -> Protocol:
    """Read a protocol.

    Parameters
    ----------
    text
        The YAML.
    name
        Display name of the protocol, and how errors call the file.
    lookup
        Gives the chains of a text such as ``t2prep[1]``.

    Raises
    ------
    InvalidInput
        For text that is not YAML, unknown keys (with the closest one) and values out of range.
    """
    try:
        loaded = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise InvalidInput(
            f"protocol {name} must be valid YAML, got {' '.join(str(error).split())}; correct it"
        ) from error
    content = _mapping(loaded, _PROTOCOL_KEYS, f"protocol {name}")
    accuracy_keys = tuple(f.name for f in fields(StateAccuracy))
    settings = _mapping(content.get("accuracy", {}), accuracy_keys, f"accuracy of {name}")
    accuracy: dict[str, Any] = {
        key: str(value) if key == "probes" else _number(value, f"{key} in accuracy of {name}")
        for key, value in settings.items()
    }
    return Protocol(
        name,
        tuple(
            chain
            for item in _sequence(content.get("chains"), f"chains of {name}")
            for chain in _chains(item, name, lookup)
        ),
        _scanner(content.get("scanner"), name),
        StateAccuracy(**accuracy),
        bool(content.get("continuous", False)),
    )


def title_of(text: str) -> str:
    """Return the title of a protocol file, empty without one."""
    content = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    return str(content.get("title", "")) if isinstance(content, Mapping) else ""


def _scanner(value: object, name: str) -> Scanner:
    if value is None:
        return PAPER_SCANNER
    if isinstance(value, str):
        return scanner_named(value)
    keys = tuple(f.name for f in fields(Scanner))
    content = _mapping(value, keys, f"scanner of {name}")
    missing = [key for key in keys[:3] if key not in content]
    if missing:
        raise InvalidInput(f"scanner of {name} must have {missing[0]}, got none; add it")
    label = str(content.pop("name"))
    return Scanner(label, **_numbers(content, keys, f"scanner of {name}"))


def _chains(item: object, name: str, lookup: Lookup) -> tuple[Chain, ...]:
    if isinstance(item, str):
        return lookup(item)
    content = {"contrasts": item} if isinstance(item, list) else item
    known = _mapping(content, _CHAIN_KEYS, f"chain of {name}")
    contrasts = _sequence(known.get("contrasts"), f"contrasts of {name}")
    played = tuple(c for one in contrasts for c in _contrasts(one, name))
    return (Chain(played, int(_number(known.get("dummy_cycles", 0), f"dummy_cycles of {name}"))),)


def _contrasts(item: object, name: str) -> list[Contrast]:
    content = _mapping(item, _CONTRAST_KEYS, f"contrast of {name}")
    if "sequence" not in content:
        raise InvalidInput(f"a contrast of {name} must name its sequence, got none; add it")
    label = str(content.get("name", content["sequence"]))
    parameters = tuple(
        _mapping(content.get("parameters", {}), None, f"parameters of {name}").items()
    )
    varied = _mapping(content.get("vary", {}), None, f"vary of {name}")
    pause_s = _number(content.get("pause_s", 0.0), f"pause_s of {name}")
    if not varied:
        return [Contrast(label, content["sequence"], parameters, pause_s)]
    if len(varied) > 1:
        raise InvalidInput(f"vary of {name} must name one parameter, got {len(varied)}; keep one")
    ((parameter, values),) = varied.items()
    return [
        Contrast(f"{label}[{i}]", content["sequence"], (*parameters, (parameter, v)), pause_s)
        for i, v in enumerate(_sequence(values, f"vary of {name}"))
    ]


def _number(value: object, what: str) -> Any:  # noqa: ANN401 - int or float, as it was written
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"{what} must be a number, got {value!r}; correct it")
    return value


def _numbers(value: object, allowed: tuple[str, ...], what: str) -> dict[str, Any]:
    content = _mapping(value, allowed, what)
    return {key: _number(item, f"{key} in {what}") for key, item in content.items()}


def _mapping(value: object, allowed: tuple[str, ...] | None, what: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{what} must be a mapping, got {type(value).__name__}; correct it")
    for key in value:
        if allowed is not None and key not in allowed:
            raise InvalidInput(
                f"a key of {what} must be one of {', '.join(allowed)}, got '{key}'"
                f"{closest(str(key), allowed)}"
            )
    return {str(key): item for key, item in value.items()}


def _sequence(value: object, what: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise InvalidInput(f"{what} must be a list that is not empty, got {value!r}; fill it")
    return value
