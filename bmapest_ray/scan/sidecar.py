"""What a JSON sidecar says about how an image was made; nothing about whom it shows is read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.scan.mrd import is_mrd, mrd_fields
from bmapest_ray.sequence.protocol import Chain, Contrast, Protocol

PARAMETERS = {
    "RepetitionTime": "repetition_time_s",
    "EchoTime": "echo_time_s",
    "InversionTime": "inversion_time_s",
    "FlipAngle": "flip_angle_deg",
}
"""BIDS field to the parameter of a sequence."""

FIELD = "MagneticFieldStrength"
_PLAUSIBLE_FIELD_T = (0.05, 11.8)
_FIELD_TOLERANCE = 0.2


def sidecar_path(image: Path) -> Path:
    """Return where the sidecar of an image lies."""
    if is_mrd(image):
        return image.with_suffix(".json")
    return image.with_name(image.name.removesuffix(".gz").removesuffix(".nii") + ".json")


def read_sidecar(image: Path) -> dict[str, float]:
    """Return the acquisition fields of an image's sidecar; empty without a sidecar.

    Raw data without one say the same in their header.

    Only the fields that the model needs are read, so that names and dates go no further.

    Raises
    ------
    InvalidInput
        If the sidecar is not a JSON object or such a field is not a number.
    """
    path = sidecar_path(image)
    if not path.is_file():
        return mrd_fields(image) if is_mrd(image) else {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} must be JSON ({error.args[0]}); mend or remove it") from None
    if not isinstance(content, dict):
        raise InvalidInput(f"{path} must be a JSON object, got {type(content).__name__}; mend it")
    return {key: _number(path, key, content[key]) for key in (*PARAMETERS, FIELD) if key in content}


def _number(path: Path, key: str, value: Any) -> float:  # noqa: ANN401 - whatever JSON holds
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise InvalidInput(f"{key} in {path} must be a positive number, got {value!r}; correct it")
    return float(value)


def complete(protocol: Protocol, fields: dict[str, float], image: Path) -> Protocol:
    """Put the fields of a sidecar into a protocol of one contrast.

    Raises
    ------
    InvalidInput
        If the sidecar lacks a field that the sequence needs, or a value that it cannot take.
    """
    if not fields:
        return protocol
    contrast = _only_contrast(protocol, image)
    known = dict(contrast.parameters)
    wanted = {field: name for field, name in PARAMETERS.items() if name in known}
    missing = [field for field in wanted if field not in fields]
    if missing:
        raise InvalidInput(
            f"the sidecar of {image} must say {', '.join(missing)} for the sequence "
            f"{contrast.sequence}, it does not; add it, or remove the sidecar to take the "
            "protocol's own values"
        )
    values: dict[str, Any] = {name: fields[field] for field, name in wanted.items()}
    if "echo_train_length" in known:
        values["echo_spacing_s"] = _spacing(values["echo_time_s"], known["echo_spacing_s"])
    changed = contrast.with_parameters(**values)
    chain = Chain((changed,), protocol.chains[0].dummy_cycles)
    return replace(protocol, chains=(chain,))


def _only_contrast(protocol: Protocol, image: Path) -> Contrast:
    if len(protocol.contrasts) != 1:
        raise InvalidInput(
            f"an image with a sidecar needs a protocol of one contrast, that of {image} has "
            f"{len(protocol.contrasts)}; pick one, e.g. {protocol.name}[0]"
        )
    return protocol.contrasts[0]


def _spacing(echo_time_s: float, usual_s: object) -> float:
    """Return the echo spacing nearest to the usual one of which the echo time is a multiple."""
    echoes = max(1, round(echo_time_s / float(str(usual_s))))
    return echo_time_s / echoes


def check_field_strength(fields: dict[str, float], table_t: float, image: Path) -> None:
    """Refuse a field strength that no scanner has or that the tissue table is not for.

    Raises
    ------
    InvalidInput
        Names both field strengths.
    """
    value = fields.get(FIELD)
    if value is None:
        return
    low, high = _PLAUSIBLE_FIELD_T
    if not low <= value <= high or abs(value - table_t) > _FIELD_TOLERANCE * table_t:
        raise InvalidInput(
            f"{FIELD} of {image} must fit the tissue table (for {table_t:g} T), got {value:g} T; "
            "give --tissue-table for that field, in tesla"
        )
