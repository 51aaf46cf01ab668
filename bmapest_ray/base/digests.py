"""Content digests: equal content gives an equal digest on every machine and in every process.

A digest is the cache key of an operator, the id of a job and the tag of a tracked run, so whatever
cannot be written exactly is refused instead of guessed.
"""

import dataclasses
import hashlib
import json
import math
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np

from bmapest_ray.base.errors import InvalidInput


def canonical_json(obj: object) -> str:
    """Write `obj` as JSON that is equal exactly when the content is equal.

    Keys are sorted; tuples and lists are the same; floats are written with `repr`, so 1 and 1.0
    differ; arrays and tensors become their sha256, shape and dtype. A dataclass is the mapping of
    its fields, without those whose metadata says ``{"digest": False}``, and without those at their
    default whose metadata says ``{"digest": "unless default"}`` (a choice that came later).

    Raises
    ------
    InvalidInput
        For NaN, keys that are not strings, and types whose content is not defined here.
    """
    return json.dumps(
        _plain(obj, "value"),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
        allow_nan=False,
    )


def digest(obj: object) -> str:
    """Return the sha256 (hex) of `canonical_json(obj)`."""
    return hashlib.sha256(canonical_json(obj).encode()).hexdigest()


def _plain(obj: object, where: str) -> Any:  # noqa: ANN401 - a JSON value has no narrower type
    if isinstance(obj, Enum):
        return _plain(obj.value, where)
    if obj is None or isinstance(obj, bool | int | str):
        return obj
    if isinstance(obj, float | complex | np.generic):
        return _number(obj, where)
    if isinstance(obj, PurePath):
        return obj.as_posix()
    if isinstance(obj, bytes):
        return {"sha256": hashlib.sha256(obj).hexdigest()}
    return _container(obj, where)


def _number(value: float | complex | np.generic, where: str) -> Any:  # noqa: ANN401
    number = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, complex):
        return {"imag": _number(number.imag, where), "real": _number(number.real, where)}
    if not isinstance(number, float):
        return _plain(number, where)
    if math.isnan(number):
        raise InvalidInput(f"a digest needs defined numbers, got NaN at {where}; remove it")
    return number if math.isfinite(number) else {"float": repr(number)}


def _counts(field: "dataclasses.Field[Any]", value: object) -> bool:
    rule = field.metadata.get("digest", True)
    return bool(value != field.default if rule == "unless default" else rule)


def _container(obj: object, where: str) -> Any:  # noqa: ANN401
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        fields = (f for f in dataclasses.fields(obj) if _counts(f, getattr(obj, f.name)))
        return {f.name: _plain(getattr(obj, f.name), f"{where}.{f.name}") for f in fields}
    if isinstance(obj, Mapping):
        return {_key(k, where): _plain(v, f"{where}.{k}") for k, v in obj.items()}
    if isinstance(obj, list | tuple):
        return [_plain(v, f"{where}[{i}]") for i, v in enumerate(obj)]
    if isinstance(obj, set | frozenset):
        return sorted((_plain(v, where) for v in obj), key=canonical_json)
    return _array(obj, where)


def _key(key: object, where: str) -> str:
    name = key.value if isinstance(key, Enum) else key
    if not isinstance(name, str):
        raise InvalidInput(f"a digest needs text keys, got {key!r} at {where}; convert it to text")
    return name


def _array(obj: object, where: str) -> dict[str, object]:
    torch = sys.modules.get("torch")  # a tensor can only be here if torch is loaded already
    if torch is not None and isinstance(obj, torch.Tensor):
        obj = obj.detach().cpu().resolve_conj().resolve_neg().numpy()
    if not isinstance(obj, np.ndarray) or obj.dtype.kind not in "biufc":
        raise InvalidInput(
            f"a digest needs plain data, got {type(obj).__name__} at {where}; "
            "convert it to numbers, text, sequences, mappings or dataclasses"
        )
    if obj.dtype.kind in "fc" and bool(np.isnan(obj).any()):
        raise InvalidInput(f"a digest needs defined numbers, got NaN in the array at {where}")
    data = np.ascontiguousarray(obj, dtype=obj.dtype.newbyteorder("<"))
    return {
        "dtype": data.dtype.name,
        "sha256": hashlib.sha256(data.tobytes()).hexdigest(),
        "shape": list(obj.shape),
    }
