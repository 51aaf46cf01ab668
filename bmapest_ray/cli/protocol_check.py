"""What ``bmapest protocol check`` and ``import`` look at before they say that all is well."""

from typing import TYPE_CHECKING, Any

from bmapest_ray.cli.protocol_text import timing_words

if TYPE_CHECKING:
    from bmapest_ray.sequence.build import BuiltChain
    from bmapest_ray.sequence.protocol import Protocol


def check_protocol(protocol: "Protocol", matrix: int, fov_m: float) -> dict[str, Any]:
    """Build every chain and return what was found, `lines` for a person.

    Raises
    ------
    InvalidInput
        The first thing that is wrong: a limit, a time, a block, a receive window.
    """
    from bmapest_ray.sequence.build import build_chain
    from bmapest_ray.sequence.overview import overview

    built = [build_chain(chain, matrix, fov_m, protocol.scanner) for chain in protocol.chains]
    measured = overview(protocol, matrix, fov_m)
    images = [timing for one in measured.contrasts for timing in one.images]
    peak = _peak(built)
    limits = (
        f"peak gradient {1e3 * peak['gradient_t_per_m']:.3g} mT/m, peak slew rate "
        f"{peak['slew_t_per_m_s']:.3g} T/m/s, scanner {protocol.scanner.name}"
    )
    size = f"{matrix} x {matrix}, {1e3 * fov_m:g} mm"
    lines = [
        f"ok: {protocol.name} at {size}: {len(images)} image(s), {measured.scan_time_s:.4g} s",
        f"timing check passed; {limits}",
        *(f"{timing.image}: {timing_words(timing)}" for timing in images),
    ]
    return {
        "name": protocol.name,
        "matrix": matrix,
        "fov_m": fov_m,
        "images": [vars(timing) for timing in images],
        "scan_time_s": measured.scan_time_s,
        "rf_energy_t2_s": measured.rf_energy_t2_s,
        "b1_rms_t": measured.b1_rms_t,
        "peak": peak,
        "on_grid": all(readout.on_grid for chain in built for readout in chain.readouts),
        "lines": lines,
    }


def _peak(built: "list[BuiltChain]") -> dict[str, float]:
    """Return the largest gradient and slew rate on any axis."""
    import numpy as np

    from bmapest_ray.sequence.peaks import gradient_peaks

    peaks = np.array([gradient_peaks(chain.seq) for chain in built]).max(axis=0)
    return {"gradient_t_per_m": float(peaks[0]), "slew_t_per_m_s": float(peaks[1])}
