"""Which file was made by which protocol, as the command line says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bmapest_ray.base.errors import InvalidInput


@dataclass(frozen=True)
class ImageSpec:
    """One ``FILE=PROTOCOL`` of the command line; ``PROTOCOL:IMAGE`` picks one of several images.

    `phase` is the file of the phase, if it was given.
    """

    path: Path
    protocol: str
    image: str = ""
    phase: Path | None = None

    @classmethod
    def parse(cls, text: str) -> ImageSpec:
        """Read ``T1w.nii.gz=mprage`` or ``inv2.nii.gz=mp2rage:inv2``.

        Raises
        ------
        InvalidInput
            If there is no ``=`` or nothing on one side of it.
        """
        path, equals, protocol = text.rpartition("=")
        if not (path.strip() and equals and protocol.strip()):
            msg = f"an image must be given as FILE=PROTOCOL, got '{text}'"
            raise InvalidInput(f"{msg}; name the sequence that made it, e.g. {text}=mprage")
        name, _, image = protocol.strip().partition(":")
        return cls(Path(path.strip()), name, image)


def with_phases(images: Sequence[ImageSpec], phases: Sequence[ImageSpec]) -> tuple[ImageSpec, ...]:
    """Give images the phases that name the same protocol.

    Raises
    ------
    InvalidInput
        If a phase names no image, or several.
    """
    found = list(images)
    for phase in phases:
        named = f"{phase.protocol}{':' * bool(phase.image)}{phase.image}"
        same = [
            i for i, s in enumerate(found) if (s.protocol, s.image) == (phase.protocol, phase.image)
        ]
        if len(same) != 1 or found[same[0]].phase is not None:
            raise InvalidInput(
                f"the phase {phase.path} must name the protocol of one image, {named} is that of "
                f"{len(same)}; give FILE={named} once with --image and once with --phase"
            )
        found[same[0]] = replace(found[same[0]], phase=phase.path)
    return tuple(found)
