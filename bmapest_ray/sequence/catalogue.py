"""Every sequence a contrast can name."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from bmapest_ray.base.errors import require_choice
from bmapest_ray.sequence import (
    diffusion,
    echo_planar,
    gradient_echo,
    imported,
    non_cartesian,
    paper,
    prepared,
    spin_echo,
)

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
            gradient_echo.spoiled_gre,
            gradient_echo.multi_echo_gre,
            gradient_echo.bssfp,
            prepared.mprage,
            prepared.mp2rage,
            prepared.fingerprinting,
            spin_echo.spin_echo,
            spin_echo.tse,
            spin_echo.flair_tse,
            spin_echo.dir_tse,
            diffusion.diffusion_se,
            diffusion.diffusion_epi,
            echo_planar.epi,
            non_cartesian.radial,
            non_cartesian.spiral,
            imported.pulseq,
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
