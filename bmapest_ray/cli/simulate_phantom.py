"""``bmapest simulate --anatomy mrzero:FILE.json``: phantoms that bring properties of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.cli.scene import SceneOptions, output_folder

if TYPE_CHECKING:
    from torch import Tensor

    from bmapest_ray.anatomy.phantom import Phantom
    from bmapest_ray.tissue.fields import Fields

_OWN = "own"
SUBJECT = "phantom"


def simulate_phantom(scene: SceneOptions, out: Path | None) -> dict[str, Any]:
    """Simulate one slice and write its images; returns what is told about it.

    Raises
    ------
    InvalidInput, MissingInput
        If the phantom, the fields or the protocol break a rule.
    """
    import numpy as np

    from bmapest_ray.anatomy.phantom_catalog import open_phantom
    from bmapest_ray.anatomy.slices import SliceSpec
    from bmapest_ray.cli.simulate_command import save_complex
    from bmapest_ray.scan.response import image_names
    from bmapest_ray.sequence.parse import parse_protocol
    from bmapest_ray.simulate.phantom_images import phantom_images
    from bmapest_ray.simulate.reconstruct import kspace_of

    protocol, fov_m = parse_protocol(scene.protocol), scene.fov_mm * 1e-3
    where = SliceSpec.parse(scene.where)
    phantom = open_phantom(scene.anatomy).slice(where, scene.matrix, scene.fov_mm)
    names = image_names(protocol)
    clean = phantom_images(phantom, protocol, scene.matrix, fov_m, _fields(scene, phantom))
    images, sigma = _noisy(clean, scene)
    folder = output_folder(out, "simulate-phantom")
    affine = _acquired(phantom.affine, phantom.density.shape[-1], scene.matrix)
    written = save_complex(images.numpy(), names, affine, folder, SUBJECT)
    kspace = folder / "kspace.npz"
    np.savez_compressed(
        kspace, kspace=kspace_of(images).numpy(), contrasts=np.array(names), fov_m=fov_m,
        sigma=np.full(len(names), sigma),
    )  # fmt: skip
    return {
        "protocol": protocol.name,
        "scan_time_s": protocol.scan_time_s(scene.matrix, fov_m),
        "contrasts": list(names),
        "data": {"parts": [part.name for part in phantom.parts], "snr": scene.snr},
        "files": {"kspace": str(kspace), "images": [str(path) for path in written]},
    }


def _fields(scene: SceneOptions, phantom: Phantom) -> Fields | None:
    """Return analytic fields where asked for; a phantom has its own otherwise."""
    from bmapest_ray.tissue.fields import analytic_fields

    asked = {name: getattr(scene, name) if name in scene.asked else _OWN for name in ("b0", "b1")}
    if set(asked.values()) == {_OWN}:
        return None
    if set(asked.values()) != {"analytic"}:
        raise InvalidInput(
            "a phantom brings its own fields, both can be replaced by --b0 analytic --b1 analytic, "
            f"got {asked}; leave them out"
        )
    return analytic_fields(phantom.density.shape[-1])


def _noisy(clean: Tensor, scene: SceneOptions) -> tuple[Tensor, float]:
    import torch

    from bmapest_ray.base.seeding import generator
    from bmapest_ray.simulate.noise import add_noise, sigma_from_snr

    if scene.snr is None:
        return clean, 0.0
    sigma = sigma_from_snr(clean, scene.snr)
    level = torch.full((len(clean),), sigma)
    return add_noise(clean, level, generator("phantom-noise", scene.seed)), sigma


def _acquired(affine: Any, side: int, matrix: int) -> Any:  # noqa: ANN401 - arrays
    """Return the affine of the images from that of the phantom's slice; both share their edges."""
    out = affine.copy()
    out[:2, :2] *= side / matrix
    out[:2, 3] += (affine[:2, :2] * (side / matrix - 1) / 2).sum(1)
    return out
