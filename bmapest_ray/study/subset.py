"""Protocols with some of their contrasts left out, chosen by booleans of a search space."""

from collections.abc import Mapping
from typing import Any

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.sequence.protocol import Chain, Protocol
from bmapest_ray.study.space import Choices, Dimension

PREFIX = "contrast."
"""Paths of the booleans: ``contrast.<name of the chain>``."""


def chain_name(chain: Chain) -> str:
    """Return the names of a chain's contrasts, e.g. ``t1inv[0]`` or ``t2prep[0]+t2prep[1]``."""
    return "+".join(contrast.name for contrast in chain.contrasts)


def contrast_space(protocol: Protocol) -> dict[str, Dimension]:
    """Return one boolean per chain of a protocol."""
    return {f"{PREFIX}{chain_name(chain)}": Choices((True, False)) for chain in protocol.chains}


def inner_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are not about contrasts."""
    return {path: value for path, value in settings.items() if not path.startswith(PREFIX)}


def contrasts_in(settings: Mapping[str, Any]) -> list[str]:
    """Return the names of the chains that settings play."""
    return [
        path.removeprefix(PREFIX) for path, on in settings.items() if path.startswith(PREFIX) and on
    ]


def chosen_chains(protocol: Protocol, settings: Mapping[str, Any]) -> tuple[Chain, ...]:
    """Return the chains that settings leave in."""
    return tuple(c for c in protocol.chains if settings.get(f"{PREFIX}{chain_name(c)}", True))


def subset(protocol: Protocol, settings: Mapping[str, Any]) -> Protocol:
    """Return a protocol of the chains that settings leave in.

    Raises
    ------
    InvalidInput
        If none is left.
    """
    chains = chosen_chains(protocol, settings)
    if len(chains) == len(protocol.chains):
        return protocol
    if not chains:
        raise InvalidInput(
            f"a protocol needs at least one contrast, all of '{protocol.name}' are off; turn one on"
        )
    name = ",".join(chain_name(chain) for chain in chains)
    return Protocol(name, chains, protocol.scanner, protocol.accuracy)
