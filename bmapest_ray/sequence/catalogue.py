"""Every sequence a contrast can name."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from bmapest_ray.base.errors import require_choice
from bmapest_ray.sequence import paper

SequenceFunction = Callable[..., None]

SEQUENCES: Final = MappingProxyType(
    {
        function.__name__: function
        for function in (
            paper.t1inv,
            paper.t2prep,
            paper.t2star,
            paper.dir,
            paper.flair,
            paper.dwi,
            paper.irflash,
        )
    }
)


def sequence_named(name: str) -> SequenceFunction:
    """Return the function that writes a sequence into a score.

    Raises
    ------
    InvalidInput
        Names the closest one.
    """
    return SEQUENCES[require_choice("sequence", name, SEQUENCES)]
