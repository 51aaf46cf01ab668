"""From a word to a protocol: ``t1inv,t2prep[1]``, a preset, a YAML file, a ``.seq`` file.

``t1inv`` is one chain of its contrasts; ``t1inv[0]``, ``t1inv[0,2]`` and ``t1inv[0:2]`` one chain
of those; a comma (or plus) separates chains; ``@scanner`` at the end plays all on that scanner.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import bmapest_ray
from bmapest_ray.base.errors import InvalidInput, MissingInput, require_choice
from bmapest_ray.sequence.protocol import Chain, Contrast, Protocol, StateAccuracy
from bmapest_ray.sequence.protocol_file import from_yaml, title_of
from bmapest_ray.sequence.scanner import SCANNERS, scanner_named
from bmapest_ray.sequence.seq_file import file_sha256, read_seq

_TERM = re.compile(r"(?P<name>[^\[\]]+?)\s*(\[(?P<pick>[^\[\]]*)\])?")
_SPLIT = re.compile(r"[,+](?![^\[]*\])")


def presets_directory() -> Path:
    """Return the folder of shipped protocols, in a checkout or inside the installed package."""
    package = Path(bmapest_ray.__file__).parent
    folders = (package / "_studies" / "protocols", package.parent / "studies" / "protocols")
    return next((folder for folder in folders if folder.is_dir()), folders[-1])


def preset_names() -> tuple[str, ...]:
    """Return the names of the shipped protocols."""
    return tuple(sorted(path.stem for path in presets_directory().glob("*.yaml")))


def preset_titles() -> dict[str, str]:
    """Return the title of every shipped protocol by its name."""
    folder = presets_directory()
    return {name: title_of((folder / f"{name}.yaml").read_text("utf-8")) for name in preset_names()}


def parse_protocol(text: str) -> Protocol:
    """Return the protocol that `text` means.

    Raises
    ------
    InvalidInput
        For a name that is unknown (with the closest one) or an index out of range.
    MissingInput
        If the YAML file is not there.
    """
    return _parse(text.strip(), ())


def import_protocol(path: Path, name: str = "") -> Protocol:
    """Return a ``.seq`` file as a protocol of one contrast, judged by the `as-imported` scanner.

    Raises
    ------
    MissingInput, InvalidInput
        If the file is not there or cannot be read; names the block where there is one.
    """
    sha256 = file_sha256(path)
    read_seq(path, sha256)
    parameters = (("file", str(path.resolve())), ("sha256", sha256))
    contrast = Contrast(name or path.stem, "pulseq", parameters)
    return Protocol(str(path), (Chain((contrast,)),), SCANNERS["as-imported"])


def _parse(text: str, inside: tuple[str, ...]) -> Protocol:
    if text.endswith((".yaml", ".yml")):
        return _read(Path(text), inside)
    if text.endswith(".seq"):
        return import_protocol(Path(text))
    expression, _, scanner = text.partition("@")
    terms = [_term(term.strip(), inside) for term in _SPLIT.split(expression)]
    parts = [protocol for protocol, _ in terms]
    chains = tuple(chain for _, picked in terms for chain in picked)
    if scanner:
        parts = [replace(part, scanner=scanner_named(scanner.strip())) for part in parts]
    if len({part.scanner for part in parts}) > 1:
        names = " and ".join(dict.fromkeys(part.scanner.name for part in parts))
        raise InvalidInput(
            f"all chains of a protocol must share one scanner, got {names}; end with @NAME to "
            "play all on one"
        )
    continuous = len(parts) == 1 and parts[0].continuous
    return Protocol(text, chains, parts[0].scanner, _finest(p.accuracy for p in parts), continuous)


def _read(path: Path, inside: tuple[str, ...]) -> Protocol:
    if str(path) in inside:
        raise InvalidInput(f"a protocol must not name itself, got {path} inside it; leave it out")
    if not path.is_file():
        raise MissingInput(f"a protocol file must exist, got {path}; correct the path")
    known = (*inside, str(path))
    return from_yaml(path.read_text("utf-8"), path.stem, lambda text: _parse(text, known).chains)


def _term(term: str, inside: tuple[str, ...]) -> tuple[Protocol, tuple[Chain, ...]]:
    match = _TERM.fullmatch(term)
    if match is None:
        raise InvalidInput(
            f"a protocol must read like 't1inv,t2prep[0:2]', got '{term}'; name presets and indices"
        )
    name = require_choice("protocol", match["name"], preset_names())
    protocol = _read(presets_directory() / f"{name}.yaml", inside)
    if match["pick"] is None:
        return protocol, protocol.chains
    indices = _indices(match["pick"], len(protocol.contrasts), term)
    return protocol, (Chain(tuple(protocol.contrasts[i] for i in indices)),)


def _indices(pick: str, count: int, term: str) -> list[int]:
    """Return the indices of ``0``, ``0,2`` or ``1:3``."""
    chosen: list[int] = []
    for part in pick.split(","):
        if re.fullmatch(r"\s*\d+\s*", part):
            chosen.append(int(part))
        elif slice_ := re.fullmatch(r"\s*(\d*)\s*:\s*(\d*)\s*", part):
            chosen += range(int(slice_[1] or 0), int(slice_[2] or count))
        else:
            raise InvalidInput(
                f"an index must read like 0, 0,2 or 0:2, got '{pick}' in '{term}'; correct it"
            )
    if not chosen or max(chosen) >= count:
        raise InvalidInput(
            f"an index of '{term}' must be in 0..{count - 1}, got {pick}; "
            f"there are {count} contrasts"
        )
    return chosen


def _finest(settings: Iterable[StateAccuracy]) -> StateAccuracy:
    known = list(settings)
    return StateAccuracy(
        max(s.max_state_count for s in known),
        min(s.min_state_mag for s in known),
        min(s.min_latent_signal for s in known),
        min(s.min_emitted_signal for s in known),
    )
