"""Phantoms of the wider ecosystem: any number of tissues, each with maps of its properties."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.units import mm2_per_s_to_m2_per_s

Map = NDArray[np.float32]
RELAXATION = ("t1_s", "t2_s", "t2dash_s", "diffusivity_m2_per_s")
FIELDS = ("b0_hz", "b1")
PROPERTIES = (*RELAXATION, *FIELDS)
ADC_UNIT = mm2_per_s_to_m2_per_s(1e-3)
"""In which phantoms give diffusion, in m^2/s."""
NEVER_S = 1e9
STILL_M2_PER_S = 1e-15
_USUAL = (NEVER_S, NEVER_S, NEVER_S, STILL_M2_PER_S, 0.0, 1.0)
_RANGES = {
    "t1_s": (20.0, "T1 in seconds"),
    "t2_s": (20.0, "T2 in seconds"),
    "diffusivity_m2_per_s": (1e-7, "diffusion in 1e-3 mm^2/s"),
    "b1": (5.0, "B1 relative to nominal"),
}


@dataclass(frozen=True, eq=False)
class Part:
    """One tissue: how dense it is, and its properties where it is.

    Parameters
    ----------
    name
        E.g. ``fat``.
    density
        Proton density relative to water times the share of the voxel, `(z, y, x)`.
    properties
        A number or a map `(z, y, x)` for each of `PROPERTIES`.
    """

    name: str
    density: Map
    properties: dict[str, float | Map]

    @property
    def is_uniform(self) -> bool:
        """Whether one number stands for each property that decides a signal of its own."""
        return all(isinstance(self.properties[name], float) for name in RELAXATION)


@dataclass(frozen=True, eq=False)
class Phantom:
    """Parts that share voxels.

    Parameters
    ----------
    parts
        All on one grid.
    affine
        Shape `(4, 4)`: voxel index `(x, y, z)` to world millimetres.
    """

    parts: tuple[Part, ...]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Check that something is there, and that numbers can be what they are called."""
        total = self.density
        if not total.any():
            raise InvalidInput("a phantom must have protons somewhere, its densities are all 0")
        for part in self.parts:
            _check_part(part, total.shape)

    @property
    def density(self) -> Map:
        """Density of all parts, `(z, y, x)`."""
        return np.asarray(sum(part.density for part in self.parts))

    def slice(self, where: SliceSpec, matrix: int, fov_mm: float) -> Phantom:
        """Return one axial plane on a square grid, `(1, y, x)` maps.

        The grid lies around the middle of what has protons and is as fine as the phantom, from
        `matrix` to twice that. Uniform parts are averaged over its pixels; maps of properties have
        no meaningful mean, there each pixel takes the nearest voxel.

        Raises
        ------
        InvalidInput
            If the plane is outside of the phantom or empty.
        """
        lit = np.argwhere(self.density > 0)
        sizes = np.linalg.norm(self.affine[:3, :3], axis=0)
        middle = (lit.min(0) + lit.max(0))[::-1] / 2
        centre = (self.affine @ [*middle, 1])[:3]
        count = self.density.shape[0]
        if where.kind == "index":
            centre[2] = (self.affine @ [*middle[:2], where.value, 1])[2]
        elif where.kind == "z":
            centre[2] = where.value
        else:
            centre[2] = (self.affine @ [*middle[:2], lit[:, 0].max(), 1])[2] - where.value
        side = min(max(matrix, 2 * round(fov_mm / float(sizes[:2].min()) / 2)), 2 * matrix)
        widths = (1, *np.maximum(np.round(fov_mm / side / sizes[1::-1]), 1).astype(int))
        affine = np.diag([fov_mm / side, fov_mm / side, sizes[2], 1.0])
        affine[:3, 3] = centre
        affine[:2, 3] += (0.5 - side / 2) * fov_mm / side
        chosen = _nearest(self.affine, affine, side, (count, *self.density.shape[1:]))
        parts = tuple(_picked(part, chosen, widths) for part in self.parts)
        parts = tuple(part for part in parts if part.density.any())
        if not parts:
            raise InvalidInput(f"slice {where} of the phantom holds no protons; choose another")
        return Phantom(parts, affine)


def make_part(name: str, density: Map, known: dict[str, float | Map]) -> Part:
    """Return a part; what is not known is what changes no signal: no decay, no offset."""
    values = {**dict(zip(PROPERTIES, _USUAL, strict=True)), **known}
    for key, usual in zip(RELAXATION, _USUAL, strict=False):
        value = values[key]
        if isinstance(value, np.ndarray):
            values[key] = np.where(np.isfinite(value) & (value > 0), value, 1e-6).astype(np.float32)
        elif not 0 < value < float("inf"):
            values[key] = usual
    return Part(name, np.maximum(density, 0).astype(np.float32), values)


def _check_part(part: Part, shape: tuple[int, ...]) -> None:
    inside = part.density > 0
    for name in PROPERTIES:
        value = part.properties[name]
        if not isinstance(value, np.ndarray):
            continue
        if value.shape != shape:
            raise InvalidInput(
                f"{name} of {part.name} must have the shape of the density {shape}, got "
                f"{value.shape}; bring the maps to one grid"
            )
        seen = value[inside]
        if not np.isfinite(seen).all():
            raise InvalidInput(f"{name} of {part.name} must be finite where there are protons")
        high, what = _RANGES.get(name, (float("inf"), ""))
        if seen.size and float(np.median(seen)) > high:
            raise InvalidInput(
                f"{part.name} must give {what}, got a median of {np.median(seen):g}; convert it"
            )


def _nearest(
    own: NDArray[np.float64], wanted: NDArray[np.float64], side: int, shape: tuple[int, ...]
) -> tuple[NDArray[np.int_], NDArray[np.bool_]]:
    """Return indices `(3, y, x)` of the nearest voxels, and which lie inside."""
    y, x = np.mgrid[:side, :side]
    points = np.stack([x, y, np.zeros_like(x), np.ones_like(x)]).astype(np.float64)
    found = np.einsum("ij,jyx->iyx", np.linalg.inv(own) @ wanted, points)[2::-1]
    index = np.floor(found + 0.5 - 1e-6).astype(int)
    limit = np.array(shape)[:, None, None]
    inside = ((index >= 0) & (index < limit)).all(axis=0)
    return np.clip(index, 0, limit - 1), inside


def _picked(
    part: Part, chosen: tuple[NDArray[np.int_], NDArray[np.bool_]], widths: tuple[int, ...]
) -> Part:
    (z, y, x), inside = chosen
    values = {
        name: v if isinstance(v, float) else v[z, y, x][None] for name, v in part.properties.items()
    }
    density = part.density
    if part.is_uniform and max(widths) > 1:
        from scipy.ndimage import uniform_filter

        plane = uniform_filter(density[z[0, 0]], widths[1:], mode="constant")[y, x]
    else:
        plane = density[z, y, x]
    return replace(part, density=np.where(inside, plane, 0)[None], properties=values)
