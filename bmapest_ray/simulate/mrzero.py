"""The only place that imports MRzeroCore: Pulseq import, the reference simulation, its graphs.

MRzeroCore is imported inside the functions: it takes four seconds.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bmapest_ray.base.errors import SimulationError
from bmapest_ray.sequence.trajectory import Positions, sample_positions
from bmapest_ray.simulate.events import EventTable, Repetition
from bmapest_ray.simulate.paths import readout_paths

if TYPE_CHECKING:
    from bmapest_ray.sequence.build import BuiltChain


_STDOUT = threading.Lock()
"""File descriptor 1 belongs to the process: one thread at a time may turn it away."""


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Send what native code prints on file descriptor 1 to nowhere."""
    with _STDOUT, Path(os.devnull).open("w") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(io.StringIO()):
            kept = os.dup(1)
            try:
                os.dup2(nowhere.fileno(), 1)
                yield
            finally:
                os.dup2(kept, 1)
                os.close(kept)


def import_chain(built: BuiltChain, matrix: int, fov_m: float) -> EventTable:
    """Import a built chain the way MR-zero reads any Pulseq file, then snap k to the grid.

    Raises
    ------
    SimulationError
        If MR-zero cannot read the sequence.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chain.seq"
        built.seq.write(str(path), create_signature=False)
        repetitions = import_seq_file(path)
    on_grid = all(readout.on_grid for readout in built.readouts)
    table = EventTable(
        repetitions=repetitions,
        images=built.images,
        readouts=built.readouts,
        matrix=matrix,
        fov_m=fov_m,
        paths=() if on_grid else _paths(built, repetitions, fov_m),
    )
    return table.snapped() if on_grid else table


def _paths(
    built: BuiltChain, repetitions: tuple[Repetition, ...], fov_m: float
) -> tuple[Positions, ...]:
    played = sample_positions(built.seq, built.readouts)
    return readout_paths(repetitions, built.readouts, played, fov_m)


def import_seq_file(path: Path) -> tuple[Repetition, ...]:
    """Read a ``.seq`` file into repetitions.

    Raises
    ------
    SimulationError
        If MR-zero cannot read the file.
    """
    import MRzeroCore as mr0

    with _silence():
        try:
            sequence = mr0.Sequence.import_file(str(path))
        except Exception as error:
            msg = f"MR-zero must be able to read the sequence, got: {error}; check the file {path}"
            raise SimulationError(msg) from error
    return tuple(_repetition(rep) for rep in sequence)


def _repetition(rep: Any) -> Repetition:  # noqa: ANN401 - mr0.sequence.Repetition
    return Repetition(
        angle_rad=float(rep.pulse.angle),
        phase_rad=float(rep.pulse.phase),
        duration_s=rep.event_time.double().numpy().copy(),
        moment_per_m=rep.gradm.double().numpy().copy(),
        adc=(rep.adc_usage > 0).numpy().copy(),
        adc_phase_rad=rep.adc_phase.double().numpy().copy(),
    )


def to_mrzero(table: EventTable) -> Any:  # noqa: ANN401 - mr0.Sequence
    """Return the table as an ``mr0.Sequence``."""
    import MRzeroCore as mr0

    sequence = mr0.Sequence(normalized_grads=False)
    for rep in table.repetitions:
        target = sequence.new_rep(len(rep.duration_s))
        target.pulse.angle = torch.tensor(rep.angle_rad, dtype=torch.float32)
        target.pulse.phase = torch.tensor(rep.phase_rad, dtype=torch.float32)
        target.event_time[:] = torch.from_numpy(rep.duration_s)
        target.gradm[:] = torch.from_numpy(rep.moment_per_m)
        target.adc_usage[:] = torch.from_numpy(rep.adc).to(target.adc_usage.dtype)
        target.adc_phase[:] = torch.from_numpy(rep.adc_phase_rad)
    return sequence


def dephasing(k_per_m: torch.Tensor, nyquist_per_m: torch.Tensor) -> torch.Tensor:
    """Attenuation of a band-limited voxel, as ``sigmoid`` in MRzeroCore's ``voxel_grid_phantom``.

    Parameters
    ----------
    k_per_m
        Shape ``(sample, 3)``.
    nyquist_per_m
        Shape ``(3,)``.

    Returns
    -------
    Tensor
        Shape ``(sample,)``, in [0, 1].
    """
    return torch.prod(torch.sigmoid((nyquist_per_m - k_per_m.abs() + 0.5) * 100), dim=1)


def nyquist_per_m(matrix: int, fov_m: float, slice_thickness_m: float = 8e-3) -> torch.Tensor:
    """Return the highest frequency a voxel grid encodes per axis, shape ``(3,)``."""
    in_plane = matrix / (2 * fov_m)
    return torch.tensor([in_plane, in_plane, 1 / (2 * slice_thickness_m)])


def sim_data(
    properties: dict[str, torch.Tensor],
    positions_m: torch.Tensor,
    matrix: int,
    fov_m: float,
) -> Any:  # noqa: ANN401 - mr0.SimData
    """Make ``mr0.SimData`` from per-voxel properties in SI units.

    Parameters
    ----------
    properties
        ``pd, t1_s, t2_s, t2dash_s, diffusivity_m2_per_s, b0_hz, b1``, each ``(voxel,)``, and
        ``coils`` ``(coil, voxel)``. They may require gradients.
    positions_m
        Shape ``(voxel, 3)``.
    """
    from MRzeroCore.phantom.sim_data import SimData

    single = {
        k: v.to(torch.complex64 if v.is_complex() else torch.float32) for k, v in properties.items()
    }
    return SimData(
        PD=single["pd"],
        T1=single["t1_s"],
        T2=single["t2_s"],
        T2dash=single["t2dash_s"],
        D=single["diffusivity_m2_per_s"] * 1e9,
        B0=single["b0_hz"],
        B1=single["b1"][None].to(torch.complex64),
        coil_sens=single["coils"].to(torch.complex64),
        size=torch.tensor([fov_m, fov_m, 8e-3]),
        affine=torch.eye(4),
        voxel_pos=positions_m.to(torch.float32),
        nyquist=nyquist_per_m(matrix, fov_m),
        dephasing_func=dephasing,
    )


def execute(
    graph: Any,  # noqa: ANN401 - mr0.Graph or an equivalent list of states
    sequence: Any,  # noqa: ANN401 - mr0.Sequence
    data: Any,  # noqa: ANN401 - mr0.SimData
    *,
    min_emitted_signal: float,
    min_latent_signal: float,
) -> torch.Tensor:
    """Run ``mr0.execute_graph`` silently; returns ``(sample, coil)`` complex64."""
    import MRzeroCore as mr0

    with _silence():
        signal: torch.Tensor = mr0.execute_graph(
            graph,
            sequence,
            data,
            min_emitted_signal=min_emitted_signal,
            min_latent_signal=min_latent_signal,
            print_progress=False,
        )
    return signal


def compute_graph(
    sequence: Any,  # noqa: ANN401 - mr0.Sequence
    data: Any,  # noqa: ANN401 - mr0.SimData
    tissues: dict[str, dict[str, float]] | None,
    *,
    max_state_count: int,
    min_state_mag: float,
) -> Any:  # noqa: ANN401 - mr0.Graph
    """Run MR-zero's own pre-pass silently."""
    import MRzeroCore as mr0

    with _silence():
        return mr0.compute_graph(
            sequence,
            data,
            max_state_count=max_state_count,
            min_state_mag=min_state_mag,
            tissues=tissues,
        )


def isochromats(sequence: Any, data: Any, spins: int, seed: int) -> torch.Tensor:  # noqa: ANN401
    """Run MR-zero's isochromat simulation silently; returns ``(sample, coil)``.

    Its spins are drawn from torch's global generator, which is left as it was.
    """
    import MRzeroCore as mr0

    with _silence(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        signal: torch.Tensor = mr0.isochromat_sim(sequence, data, spins, print_progress=False)
    return signal


def probe_table(
    rows: dict[str, tuple[float, ...]], names: tuple[str, ...]
) -> dict[str, dict[str, float]]:
    """Return tissues in the form ``mr0.compute_graph`` wants, from SI rows."""
    keys = {"T1": "t1_s", "T2": "t2_s", "T2dash": "t2dash_s"}
    table = {}
    for index, name in enumerate(names):
        entry = {key: rows[row][index] for key, row in keys.items()}
        entry["D"] = rows["diffusivity_m2_per_s"][index] * 1e9
        table[name] = entry
    return table
