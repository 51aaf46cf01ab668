"""``bmapest design select``: the best contrasts within a scan time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bmapest_ray.design.setting import DesignSetting

LINES = 8
"""Lines from the centre outwards that stand for all while choices are compared."""


def choose(
    text: str, scan_time_s: float, setting: DesignSetting, *, continuous: bool
) -> dict[str, Any]:
    """Return the best choice as JSON-ready data; `std` is the root of the mean variance."""
    from bmapest_ray.design.catalogue import make_catalogue
    from bmapest_ray.design.score import score_protocol
    from bmapest_ray.design.select import select
    from bmapest_ray.sequence.parse import parse_protocol

    protocol = parse_protocol(text)
    catalogue = make_catalogue(protocol, setting, lines=LINES)
    found = select(catalogue, scan_time_s)
    told: dict[str, Any] = {
        "chosen": list(catalogue.names(found.chosen)),
        "method": found.method,
        "tried": found.tried,
        "seconds": found.seconds,
        "std": found.variance**0.5,
        "bound_std": None if found.bound is None else found.bound**0.5,
    }
    if continuous:
        steady = score_protocol(
            catalogue.protocol(found.chosen, protocol, continuous=True), setting
        )
        told["continuous"] = {
            "std": steady.mean_variance**0.5,
            "scan_time_s": steady.scan_time_s,
            "of_which_received_s": steady.scan_time_s / 2,
        }
    return told
