"""Write a protocol as Pulseq files, one per chain, that any Pulseq reader can play."""

import re
from pathlib import Path

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.sequence.build import BuiltChain, build_chain
from bmapest_ray.sequence.protocol import Protocol


def write_seq(built: BuiltChain, path: Path) -> None:
    """Write one built chain.

    Raises
    ------
    InvalidInput
        If the folder cannot be written.
    """
    try:
        built.seq.write(str(path), check_timing=False)
    except OSError as error:
        raise InvalidInput(
            f"a .seq file must go to a folder that can be written, got {path} ({error.strerror}); "
            "choose another"
        ) from error


def export_protocol(
    protocol: Protocol, matrix: int, fov_m: float, directory: Path
) -> tuple[Path, ...]:
    """Write every chain of a protocol to ``NN_<contrasts>.seq`` and return the paths.

    Receive windows carry the labels LIN (line), SET (image) and REV (read backwards).
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, chain in enumerate(protocol.chains):
        built = build_chain(chain, matrix, fov_m, protocol.scanner, labels=True)
        names = "-".join(re.sub(r"\W+", "", contrast.name) for contrast in chain.contrasts)
        paths.append(directory / f"{number:02d}_{names[:60]}.seq")
        write_seq(built, paths[-1])
    return tuple(paths)
