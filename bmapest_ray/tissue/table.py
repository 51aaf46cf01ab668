"""Tissue properties as immutable tables, each row with its source."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import InvalidInput, MissingInput, require_choice

if TYPE_CHECKING:
    import torch

_SYMBOLS = {"PD": "pd", "T1": "t1_s", "T2": "t2_s", "T2'": "t2dash_s", "D": "diffusivity_m2_per_s"}
_CHANGE = re.compile(r"^(?P<symbol>[A-Za-z0-9']+)=(?P<sign>[+-])(?P<percent>\d+(\.\d+)?)%$")


@dataclass(frozen=True)
class TissueTable:
    """Properties of the tissues, in the order of ``names``.

    Parameters
    ----------
    names
        Tissue names.
    pd
        Proton density relative to water.
    t1_s, t2_s, t2dash_s
        Relaxation times in seconds; T2' is the part that a spin echo refocuses.
    diffusivity_m2_per_s
        Isotropic diffusion coefficient in m^2/s.
    source
        Where the numbers come from.
    field_strength_t
        Main field in tesla.

    Raises
    ------
    InvalidInput
        If a row has another length than ``names`` or a value that is not positive and finite.
    """

    names: tuple[str, ...]
    pd: tuple[float, ...]
    t1_s: tuple[float, ...]
    t2_s: tuple[float, ...]
    t2dash_s: tuple[float, ...]
    diffusivity_m2_per_s: tuple[float, ...]
    source: str
    field_strength_t: float = 3.0

    def __post_init__(self) -> None:
        """Check the rows."""
        for symbol, row in _SYMBOLS.items():
            values = getattr(self, row)
            if len(values) != len(self.names):
                msg = (
                    f"a tissue table needs one {symbol} per tissue ({len(self.names)}), "
                    f"got {len(values)}; complete the row {row}"
                )
                raise InvalidInput(msg)
            for name, value in zip(self.names, values, strict=True):
                if not 0 < value < float("inf"):
                    msg = (
                        f"{symbol} of {name} must be positive and finite, got {value}; "
                        f"correct {row} in the tissue table"
                    )
                    raise InvalidInput(msg)

    @property
    def digest(self) -> str:
        """Digest of the numbers; the source text does not count."""
        return digest({row: getattr(self, row) for row in ("names", *_SYMBOLS.values())})

    def column(self, row: str, *, device: str | torch.device = "cpu") -> torch.Tensor:
        """Return one property as a float64 tensor of shape ``(tissue,)``, SI units."""
        import torch

        return torch.tensor(getattr(self, row), dtype=torch.float64, device=device)

    def perturbed(self, changes: str) -> TissueTable:
        """Scale rows by percentages, for example ``"T1=+5%,T2=-5%"``.

        Raises
        ------
        InvalidInput
            If the text does not parse or names an unknown property.
        """
        table = self
        for part in filter(None, (piece.strip() for piece in changes.split(","))):
            match = _CHANGE.match(part)
            if match is None:
                msg = f"a tissue change must look like T1=+5%, got '{part}'; write sign and percent"
                raise InvalidInput(msg)
            require_choice("tissue property", match["symbol"], tuple(_SYMBOLS))
            row = _SYMBOLS[match["symbol"]]
            factor = 1 + float(match["sign"] + match["percent"]) / 100
            scaled = tuple(value * factor for value in getattr(table, row))
            rows: dict[str, Any] = {row: scaled, "source": f"{table.source}; {part}"}
            table = replace(table, **rows)
        return table

    def with_diffusivity_times(self, factor: float) -> TissueTable:
        """Return the table with every diffusion coefficient multiplied by ``factor``."""
        scaled = tuple(value * factor for value in self.diffusivity_m2_per_s)
        return replace(self, diffusivity_m2_per_s=scaled, source=f"{self.source}; D x {factor:g}")


PAPER_3T = TissueTable(
    names=("GM", "WM", "CSF"),
    pd=(0.8, 0.7, 1.0),
    t1_s=(1.55, 0.83, 4.16),
    t2_s=(0.09, 0.07, 1.65),
    t2dash_s=(0.322, 0.183, 0.0591),
    diffusivity_m2_per_s=(0.83e-9, 0.65e-9, 3.19e-9),
    source="BrainWeb table of MR-zero at 3 T, as used by BMapEst (arXiv 2404.14739)",
)


def load_table(path: Path | str) -> TissueTable:
    """Read a tissue table from YAML (keys = fields of :class:`TissueTable`, SI units).

    Raises
    ------
    MissingInput
        If there is no such file.
    InvalidInput
        If a key is missing, unknown or of the wrong kind.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"a tissue table must be a YAML file, got '{path}' which is not there; check the path"
        raise MissingInput(msg)
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        msg = f"a tissue table must be YAML, got '{path}' ({reason}); correct the file"
        raise InvalidInput(msg) from error
    if not isinstance(content, dict):
        msg = f"a tissue table must be a mapping of rows, got '{path}'; see the README"
        raise InvalidInput(msg)
    known = tuple(TissueTable.__dataclass_fields__)
    for key in content:
        require_choice("tissue table key", str(key), known)
    missing = [key for key in known if key not in content and key != "field_strength_t"]
    if missing:
        msg = f"a tissue table needs every row, '{path}' lacks {', '.join(missing)}; add it"
        raise InvalidInput(msg)
    rows: dict[str, Any] = {key: _READERS.get(key, _numbers)(key, content[key]) for key in content}
    return TissueTable(**rows)


def _number(key: str, value: object) -> float:
    """Return a number; YAML reads 1e-9, without a point, as text."""
    try:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            return float(value)
    except ValueError:
        pass
    msg = f"{key} of a tissue table must be made of numbers, got {value!r}; correct it"
    raise InvalidInput(msg)


def _numbers(key: str, value: object) -> tuple[float, ...]:
    if isinstance(value, list):
        return tuple(_number(key, item) for item in value)
    msg = f"{key} of a tissue table must be a list with one number per tissue, got {value!r}"
    raise InvalidInput(f"{msg}; write [..., ..., ...]")


def _text(key: str, value: object) -> str:
    if isinstance(value, str):
        return value
    msg = f"{key} of a tissue table must be made of text, got {value!r}; quote it"
    raise InvalidInput(msg)


def _texts(key: str, value: object) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(_text(key, item) for item in value)
    msg = f"{key} of a tissue table must be a list of names, got {value!r}; write [GM, WM, CSF]"
    raise InvalidInput(msg)


_READERS: dict[str, Callable[[str, object], object]] = {
    "names": _texts,
    "source": _text,
    "field_strength_t": _number,
}
