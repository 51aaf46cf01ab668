"""The form of a BIDS App: ``estimate BIDS_DIR OUT_DIR participant``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from bmapest_ray.base.errors import InvalidInput, MissingInput

if TYPE_CHECKING:
    from bmapest_ray.scan.image_spec import ImageSpec


def participants(
    arguments: Sequence[str], labels: Sequence[str], protocol: Path | None
) -> "tuple[dict[str, tuple[ImageSpec, ...]], Path]":
    """Return the images of every participant asked for, and the output folder.

    Raises
    ------
    InvalidInput, MissingInput
        If the arguments, the protocol file or the dataset break the rules of the form.
    """
    if len(arguments) != 3 or arguments[2] != "participant":
        raise InvalidInput(
            "as a BIDS App the arguments must be BIDS_DIR OUT_DIR participant, got "
            f"'{' '.join(arguments)}'; or give --image and --out"
        )
    folder, out = Path(arguments[0]), Path(arguments[1])
    wanted = _protocols(protocol)
    names = [label.removeprefix("sub-") for label in labels] or _all(folder)
    return {name: _images(folder, name, wanted) for name in names}, out


def _protocols(path: Path | None) -> Mapping[str, str]:
    """Return BIDS suffix to protocol, e.g. ``T1w: mprage``."""
    if path is None:
        raise InvalidInput(
            "a BIDS App run needs --protocol FILE that says which sequence made which suffix, got "
            "none; write e.g. 'T1w: mprage' into it"
        )
    if not path.is_file():
        raise MissingInput(f"the protocol file {path} must exist; check the path")
    content = yaml.safe_load(path.read_text("utf-8"))
    if not isinstance(content, dict) or not content:
        raise InvalidInput(f"{path} must map suffixes to protocols, e.g. 'T1w: mprage'; fill it")
    return {str(suffix): str(name) for suffix, name in content.items()}


def _all(folder: Path) -> list[str]:
    names = sorted(p.name.removeprefix("sub-") for p in folder.glob("sub-*") if p.is_dir())
    if not names:
        raise MissingInput(f"a BIDS dataset must hold folders sub-*, {folder} has none")
    return names


def _images(folder: Path, name: str, wanted: Mapping[str, str]) -> "tuple[ImageSpec, ...]":
    from bmapest_ray.scan.image_spec import ImageSpec

    specs = []
    for suffix, protocol in wanted.items():
        every = (folder / f"sub-{name}").rglob(f"anat/sub-{name}*_{suffix}.nii.gz")
        found = sorted(path for path in every if "_part-phase_" not in path.name)
        if len(found) != 1:
            raise InvalidInput(
                f"participant {name} must have one {suffix} image, got {len(found)}; give "
                "--image for the wanted one"
            )
        text, _, image = protocol.partition(":")
        phase = found[0].with_name(found[0].name.replace("_part-mag_", "_part-phase_"))
        has_phase = phase != found[0] and phase.is_file()
        specs.append(ImageSpec(found[0], text, image, phase if has_phase else None))
    return tuple(specs)
