"""Reading a study: the YAML file, overrides, paths and errors that a person can act on."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from bmapest_ray.base.errors import InvalidInput, MissingInput, closest, require_choice
from bmapest_ray.study.config import StudyConfig
from bmapest_ray.study.space import get, put

_PACKAGE = Path(__file__).resolve().parents[1]
_FILE_ENDINGS = (".yaml", ".yml", ".nii", ".nii.gz")
_PATH_KEYS = (
    "anatomy.splits", "fields.b0", "fields.b1", "fields.coils", "tissue_table", "data.b0",
    "data.b1",
    "data.tissue_table", "compute.cache", "inversion.start",
    "search.warm_start",
)  # fmt: skip


def studies_folder() -> Path:
    """Return the folder of the studies that come with the package (a wheel or a checkout)."""
    in_wheel = _PACKAGE / "_studies"
    return in_wheel if in_wheel.is_dir() else _PACKAGE.parent / "studies"


def find_study(path_or_name: str | Path) -> Path:
    """Find a study by its path, or by its name among those that come with the package.

    ``studies/quickstart.yaml``, ``quickstart.yaml`` and ``quickstart`` name the same shipped study
    where no such file exists.

    Raises
    ------
    MissingInput
        Names the closest study that exists.
    """
    given = Path(path_or_name)
    shipped = studies_folder()
    name = given.relative_to("studies") if given.parts[:1] == ("studies",) else given
    for candidate in (given, shipped / name, shipped / f"{name}.yaml"):
        if candidate.is_file():
            return candidate.resolve()
    names = [p.relative_to(shipped).with_suffix("").as_posix() for p in shipped.rglob("*.yaml")]
    raise MissingInput(
        f"a study must be a YAML file or one of the shipped studies, got '{given}' which is "
        f"not there{closest(name.with_suffix('').name, names)}"
    )


def load_study(path_or_name: str | Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read and check a study.

    Parameters
    ----------
    path_or_name
        A YAML file, or the name of a study that comes with the package.
    overrides
        ``key.sub=value`` with a YAML value, applied over the file in order.

    Raises
    ------
    MissingInput
        If there is no such study.
    InvalidInput
        If the file is no study, with the rule, the value and the closest key.
    """
    path = find_study(path_or_name)
    raw = _read_mapping(path)
    raw = _absolute_paths(raw, path.parent)
    for override in overrides:
        key, value = _parse_override(override)
        layer: dict[str, Any] = {}
        put(layer, key, value)
        layer = _absolute_paths(layer, Path.cwd())
        put(raw, key, get(layer, key))
    return parse_study(raw)


def parse_study(raw: Mapping[str, Any]) -> StudyConfig:
    """Check a study that is already a mapping with absolute paths.

    Raises
    ------
    InvalidInput
        For the first rule that is broken, as one sentence.
    """
    try:
        return StudyConfig.model_validate(with_preset(raw))
    except ValidationError as error:
        raise InvalidInput(_sentence(error)) from None


def with_preset(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Put the preset that a study names under what the study says itself.

    Raises
    ------
    InvalidInput
        For an unknown preset; says the closest.
    """
    name = raw.get("preset")
    if name is None:
        return dict(raw)
    folder = studies_folder() / "presets"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    path = folder / f"{require_choice('preset', str(name), known)}.yaml"
    return _over(_read_mapping(path), raw)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _over(old or {}, value) if both else value
    return merged


def with_settings(config: StudyConfig, settings: Mapping[str, Any]) -> StudyConfig:
    """Return the study with values put at paths such as ``inversion.settings.damping``."""
    raw = config.model_dump(mode="json")
    for path, value in settings.items():
        put(raw, path, value)
    return parse_study(raw)


def dump_study(config: StudyConfig) -> str:
    """Write the resolved study as YAML that `load_study` reads back to an equal study."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def to_dict(config: StudyConfig) -> dict[str, Any]:
    """Return the resolved study as plain data."""
    return config.model_dump(mode="json")


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first = " ".join(str(error).split())
        raise InvalidInput(f"a study must be valid YAML, got '{path}': {first}") from None
    if not isinstance(raw, dict):
        raise InvalidInput(f"a study must be a mapping of keys, got '{path}'; see quickstart.yaml")
    return raw


def _parse_override(override: str) -> tuple[str, Any]:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise InvalidInput(f"an override must look like key.sub=value, got '{override}'")
    try:
        return key.strip(), yaml.safe_load(text)
    except yaml.YAMLError:
        if text.lstrip().startswith(("[", "{")):
            raise InvalidInput(
                f"the value of override '{key.strip()}' must be valid YAML, got '{text}'; quote "
                'items that hold brackets, such as "t1inv[0]"'
            ) from None
        return key.strip(), text


def _absolute_paths(raw: dict[str, Any], base: Path) -> dict[str, Any]:
    """Anchor the relative paths of a study at `base`, leaving names and keywords alone."""
    for key in _PATH_KEYS:
        value = get(raw, key)
        if isinstance(value, str) and _is_path(value):
            put(raw, key, str((base / value).resolve()))
    source = get(raw, "anatomy.source")
    if isinstance(source, str) and source.startswith("bids:"):
        put(raw, "anatomy.source", f"bids:{(base / source[5:]).resolve()}")
    protocols = raw.get("protocols")
    if isinstance(protocols, list | tuple):
        raw["protocols"] = [_absolute_protocol(p, base) for p in protocols]
    return raw


def _absolute_protocol(spec: object, base: Path) -> object:
    if isinstance(spec, str) and spec.endswith(_FILE_ENDINGS):
        return str((base / spec).resolve())
    return spec


def _is_path(value: str) -> bool:
    return value.endswith(_FILE_ENDINGS) or "/" in value


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if not str(part).startswith("tuple["))
    if first["type"] == "extra_forbidden":
        known = _keys_at(first["loc"][:-1])
        hint = closest(str(first["loc"][-1]), known)
        return f"a study has no key '{where}'{hint or '; known here: ' + ', '.join(known)}"
    if first["type"] == "missing":
        return f"a study needs the key '{where}'; add it"
    text = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return text
    shown = first["input"]
    return f"{where or 'a study'} is wrong: {text[0].lower()}{text[1:]}, got {shown!r}; correct it"


def _keys_at(loc: Iterable[int | str]) -> list[str]:
    model: type[BaseModel] = StudyConfig
    for part in loc:
        inner = model.model_fields[str(part)].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        model = inner
    return list(model.model_fields)
