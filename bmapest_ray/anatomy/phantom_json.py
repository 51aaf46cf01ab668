"""Read MR-zero's NIfTI phantoms: a JSON file with tissues that point to NIfTI files.

MR-zero evaluates the mapping strings of such a file as Python; here they are arithmetic of ``x``
and four numbers about it, parsed and computed without running anything else.
"""

from __future__ import annotations

import ast
import json
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from bmapest_ray.anatomy.phantom import ADC_UNIT, Map, Part, Phantom, make_part
from bmapest_ray.base.errors import InvalidInput, MissingInput

_REFERENCE = re.compile(r"(?P<file>.+?)\[(?P<index>\d+)\]")
_KEYS = {"T1": "t1_s", "T2": "t2_s", "T2'": "t2dash_s", "ADC": "diffusivity_m2_per_s",
         "dB0": "b0_hz", "B1+": "b1"}  # fmt: skip
_UNITS = {"T1": "s", "T2": "s", "T2'": "s", "ADC": "10^-3 mm^2/s", "dB0": "Hz", "B1+": "rel"}
_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
_LONGEST = 200


def read_mrzero(path: Path) -> Phantom:
    """Read a phantom; receive fields (B1-) are left out.

    Raises
    ------
    MissingInput
        If the file or one that it names is missing.
    InvalidInput
        If the file breaks a rule of the format, names a file outside of its folder, or has a
        mapping that is more than arithmetic.
    """
    if not path.is_file():
        raise MissingInput(f"a phantom is needed at {path}, there is none; check the path")
    try:
        config = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{path} must be JSON ({error}); export the phantom again") from error
    tissues = config.get("tissues") if isinstance(config, dict) else None
    if not isinstance(tissues, dict) or not tissues:
        raise InvalidInput(f"{path} must be a NIfTI phantom with 'tissues', it has none")
    units = config.get("units", {})
    for name, unit in _UNITS.items():
        if isinstance(units, dict) and units.get(name, unit) != unit:
            raise InvalidInput(f"{name} of {path} must be in {unit}, got {units[name]!r}")
    reader = _Reader(path)
    parts = tuple(reader.part(str(name), tissue) for name, tissue in tissues.items())
    return Phantom(parts, reader.affine)


@dataclass(eq=False)
class _Reader:
    """Files of one phantom, each read once."""

    path: Path
    affine: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))
    _read: dict[Path, NDArray[np.float32]] = field(default_factory=dict)

    def part(self, name: str, tissue: Any) -> Part:  # noqa: ANN401 - from JSON
        if not isinstance(tissue, dict) or not isinstance(tissue.get("density"), str):
            raise InvalidInput(f"tissue {name} of {self.path} must name a file as its density")
        values: dict[str, float | Map] = {}
        for key, own in _KEYS.items():
            given = tissue.get(key)
            if key == "B1+" and isinstance(given, list):
                given = given[0] if given else None
            if given is not None:
                values[own] = self._value(f"{key} of {name}", given)
        if "diffusivity_m2_per_s" in values:
            values["diffusivity_m2_per_s"] = values["diffusivity_m2_per_s"] * ADC_UNIT
        return make_part(name, self._map(tissue["density"]), values)

    def _value(self, what: str, given: Any) -> float | Map:  # noqa: ANN401 - from JSON
        if isinstance(given, int | float) and not isinstance(given, bool):
            return float(given)
        if isinstance(given, str):
            return self._map(given)
        if isinstance(given, dict) and {"file", "func"} <= set(given):
            return mapped(str(given["func"]), self._map(str(given["file"])))
        raise InvalidInput(
            f"{what} in {self.path} must be a number, FILE[INDEX] or a mapping, got {given!r}"
        )

    def _map(self, reference: str) -> Map:
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise InvalidInput(f"{self.path} must name files as FILE[INDEX], got '{reference}'")
        file, index = self._file(match["file"]), int(match["index"])
        if index >= file.shape[3]:
            raise InvalidInput(
                f"'{reference}' of {self.path} must be one of {file.shape[3]} volumes, count from 0"
            )
        return np.ascontiguousarray(file[..., index].T)

    def _file(self, name: str) -> NDArray[np.float32]:
        folder = self.path.parent.resolve()
        file = (folder / name).resolve()
        if not file.is_relative_to(folder):
            raise InvalidInput(
                f"{self.path} must name files beside it, got '{name}'; copy the file there"
            )
        if not file.is_file():
            raise MissingInput(f"{self.path} names {file.name}, which is not beside it; add it")
        if file not in self._read:
            try:
                image: Any = nibabel.load(file)
                image = nibabel.as_closest_canonical(image)  # type: ignore[no-untyped-call]
                data = np.asarray(image.dataobj, dtype=np.float32)
            except (ImageFileError, OSError, EOFError, ValueError) as error:
                raise InvalidInput(f"{file} must be a readable NIfTI file: {error}") from error
            self._check(file, image.affine)
            self._read[file] = data.reshape(*data.shape[:3], -1)
        return self._read[file]

    def _check(self, file: Path, affine: NDArray[np.float64]) -> None:
        if not self._read:
            self.affine = np.asarray(affine, dtype=np.float64)
        if not np.allclose(self.affine, affine, atol=1e-3):
            raise InvalidInput(
                f"the files of a phantom must share one grid, {file} has another affine; resample"
            )


def mapped(text: str, values: Map) -> Map:
    """Compute a mapping such as ``x - 440`` on a map.

    Known are numbers, ``x``, ``x_min``, ``x_max``, ``x_mean``, ``x_std``, ``+ - * /``, brackets.

    Raises
    ------
    InvalidInput
        If the text is anything else.
    """
    known = {
        "x": values, "x_min": values.min(), "x_max": values.max(), "x_mean": values.mean(),
        "x_std": values.std(),
    }  # fmt: skip

    if len(text) > _LONGEST:
        raise _wrong(text)
    try:
        tree = ast.parse(text, mode="eval")
        with np.errstate(all="ignore"):
            found = np.float32(_computed(tree, known))
        return np.broadcast_to(found, values.shape).astype(np.float32)
    except (SyntaxError, ValueError, OverflowError, ZeroDivisionError, RecursionError) as error:
        raise _wrong(text) from error


def _computed(node: ast.AST, known: dict[str, Any]) -> Any:  # noqa: ANN401 - a number or a map
    match node:
        case ast.Expression(body):
            return _computed(body, known)
        case ast.Constant(value) if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        case ast.Name(name) if name in known:
            return known[name]
        case ast.BinOp(left, op, right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_computed(left, known), _computed(right, known))
        case ast.UnaryOp(ast.USub(), operand):
            return -_computed(operand, known)
    raise ValueError(type(node).__name__)


def _wrong(text: str) -> InvalidInput:
    shown = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    return InvalidInput(
        f"a mapping of a phantom must be arithmetic of x, x_min, x_max, x_mean and x_std, got "
        f"'{shown}'; rewrite it"
    )
