"""Protocols in words, for ``bmapest protocol list`` and ``show``."""

from typing import TYPE_CHECKING, Any

from bmapest_ray.base.units import s_to_ms, t_per_m_to_mt_per_m

if TYPE_CHECKING:
    from bmapest_ray.sequence.overview import ContrastOverview, Overview
    from bmapest_ray.sequence.protocol import Protocol
    from bmapest_ray.sequence.timings import ImageTiming


def timing_words(timing: "ImageTiming") -> str:
    """Return e.g. ``TI 1100 ms, TE 3.5 ms, TR 8 ms, 64 lines``."""
    named = (
        ("TI", timing.inversion_time_s),
        ("TE", timing.echo_time_s),
        ("TR", timing.repetition_time_s),
    )
    words = [f"{name} {s_to_ms(time_s):.5g} ms" for name, time_s in named if time_s is not None]
    return ", ".join([*words, f"{timing.lines} lines"])


def described(
    protocol: "Protocol", title: str, measured: "Overview", grid: tuple[int, float]
) -> dict[str, Any]:
    """Return a protocol as plain data, SI units in the names."""
    scanner = protocol.scanner
    return {
        "name": protocol.name,
        "title": title,
        "matrix": grid[0],
        "fov_m": grid[1],
        "scanner": {
            "name": scanner.name,
            "max_gradient_t_per_m": scanner.max_gradient_t_per_m,
            "max_slew_t_per_m_s": scanner.max_slew_t_per_m_s,
            "field_t": scanner.field_t,
        },
        "chains": [[c.name for c in chain.contrasts] for chain in protocol.chains],
        "contrasts": [_contrast(one) for one in measured.contrasts],
        "scan_time_s": measured.scan_time_s,
        "rf_energy_t2_s": measured.rf_energy_t2_s,
        "b1_rms_t": measured.b1_rms_t,
        "digest": protocol.digest,
    }


def _contrast(one: "ContrastOverview") -> dict[str, Any]:
    return {
        "name": one.contrast.name,
        "sequence": one.contrast.sequence,
        "pause_s": one.contrast.pause_s,
        "parameters": dict(one.contrast.parameters),
        "images": [vars(timing) for timing in one.images],
    }


def lines_of(protocol: "Protocol", told: dict[str, Any], measured: "Overview") -> list[str]:
    """Return what ``show`` prints."""
    scanner = protocol.scanner
    lines = [
        f"{told['name']}: {told['title']}" if told["title"] else told["name"],
        f"scanner: {scanner.name}, {t_per_m_to_mt_per_m(scanner.max_gradient_t_per_m):g} mT/m, "
        f"{scanner.max_slew_t_per_m_s:g} T/m/s, {scanner.field_t:g} T",
        f"at {told['matrix']} x {told['matrix']} pixels of {1e3 * told['fov_m']:g} mm: scan time "
        f"{told['scan_time_s']:.4g} s, RF energy {1e12 * told['rf_energy_t2_s']:.4g} uT^2 s, "
        f"B1 rms {1e6 * told['b1_rms_t']:.3g} uT",
    ]
    for one in measured.contrasts:
        pause = f", then {one.contrast.pause_s:g} s pause" if one.contrast.pause_s else ""
        lines.append(f"{one.contrast.name} ({one.contrast.sequence}){pause}")
        lines += [f"  {timing.image}: {timing_words(timing)}" for timing in one.images]
        values = ", ".join(f"{name}={_short(value)}" for name, value in one.contrast.parameters)
        lines.append(f"  {values}")
    return lines


def _short(value: float | int | str | bool) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
