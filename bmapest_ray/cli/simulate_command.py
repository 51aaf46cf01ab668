"""``bmapest simulate``: k-space and images of every contrast of a protocol."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bmapest_ray.cli.output import print_json, stdout_to_stderr
from bmapest_ray.cli.scene import SceneOptions, output_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bmapest_ray.study.data import SimulatedData
    from bmapest_ray.study.spec import JobSpec


def simulate_command(scene: SceneOptions, out: Path | None, as_json: bool) -> None:
    """Simulate a protocol and write what a scanner would have measured."""
    with stdout_to_stderr():
        told = _simulate(scene, out)
    if as_json:
        print_json(told)
        return
    typer.echo(f"{told['protocol']}: {told['scan_time_s']:.1f} s of scan time")
    typer.echo(f"{len(told['contrasts'])} contrasts: {', '.join(told['contrasts'])}")
    typer.echo(f"k-space: {told['files']['kspace']}")
    typer.echo(f"images:  {Path(told['files']['images'][0]).parent}")


def _simulate(scene: SceneOptions, out: Path | None) -> dict[str, Any]:
    from bmapest_ray.base.threads import limit_threads

    limit_threads(1)
    from bmapest_ray.anatomy.bids_io import write_maps
    from bmapest_ray.anatomy.phantom_catalog import is_phantom
    from bmapest_ray.study.cache import JobCache
    from bmapest_ray.study.data import simulate_data
    from bmapest_ray.study.plan import one_job

    if is_phantom(scene.anatomy):
        from bmapest_ray.cli.simulate_phantom import simulate_phantom

        return simulate_phantom(scene, out)
    spec = one_job(scene.study(signal="complex", inversion={"start": "uniform"}))
    folder = output_folder(out, f"simulate-{spec.id[:8]}")
    data = simulate_data(spec, JobCache())
    subject = spec.anatomy.subject
    truth = write_maps(data.truth.fraction, data.truth.affine, folder, subject, desc="truth")
    images = write_images(data, folder, subject)
    return {
        "protocol": spec.protocol.name,
        "scan_time_s": spec.protocol.scan_time_s(scene.matrix, scene.fov_mm * 1e-3),
        "contrasts": [channel.image for channel in data.operator.channels],
        "data": dict(data.description),
        "files": {
            "kspace": str(write_kspace(data, spec, folder)),
            "images": [str(path) for path in images],
            "truth": [str(path) for path in truth],
        },
        "digest": spec.id,
    }


def write_kspace(data: "SimulatedData", spec: "JobSpec", folder: Path) -> Path:
    """Write k-space as ``kspace.npz``.

    It holds ``kspace`` (channel, ky, kx) complex, ``contrasts`` and ``coils`` (channel,),
    ``sigma`` (channel,) of the noise (zeros without), ``fov_m``, and ``about`` as JSON. Sample
    ``j`` lies at kx = (j + 1/2 - N/2)/FOV and line ``l`` at ky = (l - N/2)/FOV.
    """
    import numpy as np

    from bmapest_ray.simulate.reconstruct import kspace_of

    channels = data.operator.channels
    sigma = np.zeros(len(channels)) if data.sigma is None else data.sigma.cpu().numpy()
    path = folder / "kspace.npz"
    np.savez_compressed(
        path,
        kspace=kspace_of(data.images).cpu().numpy(),
        contrasts=np.array([channel.image for channel in channels]),
        coils=np.array([channel.coil for channel in channels]),
        sigma=sigma,
        fov_m=spec.anatomy.fov_m,
        about=json.dumps({"protocol": spec.protocol.name, "data": dict(data.description)}),
    )
    return path


def write_images(data: "SimulatedData", folder: Path, subject: str) -> Sequence[Path]:
    """Write magnitude and phase (radians) of every contrast and coil as NIfTI."""
    several = len({channel.coil for channel in data.operator.channels}) > 1
    names = [
        channel.image + (f"coil{channel.coil}" if several else "")
        for channel in data.operator.channels
    ]
    return save_complex(data.images.cpu().numpy(), names, data.truth.affine, folder, subject)


def save_complex(
    images: "NDArray[np.complex64]",
    names: Sequence[str],
    affine: "NDArray[np.float64]",
    folder: Path,
    subject: str,
) -> list[Path]:
    """Write magnitude and phase of images `(image, y, x)` as NIfTI."""
    import numpy as np

    from bmapest_ray.anatomy.nifti import save_volume

    anat = folder / f"sub-{subject}" / "anat"
    anat.mkdir(parents=True, exist_ok=True)
    written = []
    for image, name in zip(images, names, strict=True):
        word = "".join(letter for letter in name if letter.isalnum())
        for part, values in {"mag": np.abs(image), "phase": np.angle(image)}.items():
            path = anat / f"sub-{subject}_acq-{word}_part-{part}_MRI.nii.gz"
            save_volume(path, values[None], affine)
            written.append(path)
    return written
