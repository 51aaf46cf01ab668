"""Raw data in the ISMRM format: Cartesian k-space to a complex volume in the world.

The only place that imports ``ismrmrd``, inside functions. Of the header it reads the encoding, the
acquisition parameters and the field strength; nothing about the patient or the study.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from bmapest_ray.anatomy.nifti import Volume
from bmapest_ray.base.errors import InvalidInput, MissingInput

SUFFIXES = (".h5", ".mrd")
_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_SAME_DIRECTION = 1e-3
_COIL_WIDTH = 3.0


@dataclass(frozen=True, eq=False)
class ComplexVolume:
    """A reconstructed image in RAS order.

    Parameters
    ----------
    data
        Shape `(z, y, x)`, complex64.
    affine
        Voxel index `(x, y, z)` to RAS world millimetres, `(4, 4)`.
    """

    data: NDArray[np.complex64]
    affine: NDArray[np.float64]

    @property
    def magnitude(self) -> Volume:
        """The image without its phase."""
        return Volume(np.abs(self.data), self.affine)


def is_mrd(path: Path) -> bool:
    """Say whether a file is raw data by its name."""
    return path.suffix.lower() in SUFFIXES


@dataclass(frozen=True)
class _Space:
    """One encoding: voxels and millimetres along x, y, z, and where k-space has its centre."""

    encoded: tuple[int, int, int]
    wanted: tuple[int, int, int]
    fov_mm: tuple[float, float, float]
    centre: tuple[int, int]


def read_mrd(path: Path) -> ComplexVolume:
    """Reconstruct a fully sampled Cartesian scan: inverse FFT, coils added in phase.

    Raises
    ------
    MissingInput, InvalidInput
        If the file is missing or broken, not Cartesian, undersampled, or holds several images.
    """
    with _Opened(path) as (header, data):
        space = _space(header, path)
        lines = list(_lines(data))
    if not lines:
        raise InvalidInput(f"{path} must hold image data, it has no acquisitions; check it")
    _check_single(lines, path)
    heads = {line.idx.slice: line for line in reversed(lines)}
    normal = np.array(lines[0].slice_dir, dtype=np.float64)
    order = sorted(heads, key=lambda s: float(np.dot(heads[s].position, normal)))
    kspace = _sorted(lines, order, space, path)
    shown = _image(kspace, space)
    affine = _affine([heads[s] for s in order], shown.shape, space)
    image: Any = nibabel.as_closest_canonical(  # type: ignore[no-untyped-call]
        nibabel.Nifti1Image(shown, affine)  # type: ignore[no-untyped-call]
    )
    data = np.asarray(image.dataobj, dtype=np.complex64).transpose(2, 1, 0)
    return ComplexVolume(data, np.asarray(image.affine, dtype=np.float64))


def mrd_fields(path: Path) -> dict[str, float]:
    """Return the acquisition parameters under their BIDS names, in seconds, degrees and tesla."""
    with _Opened(path) as (header, _):
        played, system = header.sequenceParameters, header.acquisitionSystemInformation
        found: dict[str, Any] = {}
        if played is not None:
            times = {"RepetitionTime": played.TR, "EchoTime": played.TE, "InversionTime": played.TI}
            found = {name: values[0] / 1000 for name, values in times.items() if values}
            if played.flipAngle_deg:
                found["FlipAngle"] = played.flipAngle_deg[0]
        if system is not None and system.systemFieldStrength_T:
            found["MagneticFieldStrength"] = system.systemFieldStrength_T
    for name, value in found.items():
        if not value > 0:
            raise InvalidInput(f"{name} in {path} must be positive, got {value:g}; correct it")
    return {name: float(value) for name, value in found.items()}


class _Opened:
    """Header and data of a file, closed again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> tuple[Any, Any]:
        import ismrmrd

        if not self._path.is_file():
            raise MissingInput(f"raw data is needed at {self._path}, there is none; check the path")
        try:
            self._data = ismrmrd.Dataset(str(self._path), create_if_needed=False)
            header = ismrmrd.xsd.CreateFromDocument(self._data.read_xml_header())
        except (OSError, LookupError, ValueError) as error:
            msg = f"{self._path} must be readable ISMRMRD raw data ({type(error).__name__})"
            raise InvalidInput(f"{msg}; convert it again") from error
        return header, self._data

    def __exit__(self, *_: object) -> None:
        self._data.close()


def _space(header: Any, path: Path) -> _Space:  # noqa: ANN401 - an ISMRMRD header
    if len(header.encoding) != 1:
        raise InvalidInput(f"{path} must have one encoding, got {len(header.encoding)}; split it")
    encoding = header.encoding[0]
    kind = getattr(encoding.trajectory, "value", encoding.trajectory)
    if kind != "cartesian":
        raise InvalidInput(f"{path} must be Cartesian, got {kind}; reconstruct it to NIfTI first")
    big, small = encoding.encodedSpace.matrixSize, encoding.reconSpace.matrixSize
    fov = encoding.reconSpace.fieldOfView_mm
    limits = encoding.encodingLimits
    steps = (limits.kspace_encoding_step_1, limits.kspace_encoding_step_2)
    centre = [
        size // 2 if step is None else step.center
        for step, size in zip(steps, (big.y, big.z), strict=True)
    ]
    return _Space(
        (big.x, big.y, big.z), (small.x, small.y, small.z), (fov.x, fov.y, fov.z),
        (centre[0], centre[1]),
    )  # fmt: skip


def _lines(data: Any) -> Iterator[Any]:  # noqa: ANN401 - an ISMRMRD dataset
    import ismrmrd

    skipped = (
        ismrmrd.ACQ_IS_NOISE_MEASUREMENT, ismrmrd.ACQ_IS_NAVIGATION_DATA,
        ismrmrd.ACQ_IS_PHASECORR_DATA, ismrmrd.ACQ_IS_DUMMYSCAN_DATA,
    )  # fmt: skip
    for number in range(data.number_of_acquisitions()):
        line = data.read_acquisition(number)
        if not any(line.isFlagSet(flag) for flag in skipped):
            yield line


def _check_single(lines: list[Any], path: Path) -> None:
    """Refuse several images in one file; averages of one image are averaged."""
    for name in ("contrast", "set", "phase", "repetition"):
        found = {getattr(line.idx, name) for line in lines}
        if len(found) > 1:
            raise InvalidInput(
                f"{path} must hold one image, it has {len(found)} of the kind {name}; split it"
            )
    if any(np.abs(np.subtract(line.read_dir, lines[0].read_dir)).max() > _SAME_DIRECTION
           for line in lines):  # fmt: skip
        raise InvalidInput(f"{path} must have parallel slices, directions differ; split it")


def _sorted(lines: list[Any], order: list[int], space: _Space, path: Path) -> NDArray[np.complex64]:
    """Return k-space `(coil, slice, kz, ky, kx)` with its centre in the middle."""
    x, y, z = space.encoded
    shape = (lines[0].data.shape[0], len(order), z, y, x)
    kspace, count = np.zeros(shape, dtype=np.complex64), np.zeros(shape[1:4], dtype=int)
    for line in lines:
        place = (
            order.index(line.idx.slice),
            line.idx.kspace_encode_step_2 - space.centre[1] + z // 2,
            line.idx.kspace_encode_step_1 - space.centre[0] + y // 2,
        )
        first = x // 2 - line.center_sample
        fits = first >= 0 and first + line.data.shape[1] <= x
        if not (fits and 0 <= place[1] < z and 0 <= place[2] < y):
            raise InvalidInput(
                f"{path} must keep to its matrix of {x} x {y} x {z}, a line lies outside; convert "
                "it again"
            )
        kspace[(slice(None), *place, slice(first, first + line.data.shape[1]))] += line.data
        count[place] += 1
    if not count.all():
        raise InvalidInput(
            f"{path} must be fully sampled, {int((count == 0).sum())} of {count.size} lines are "
            "missing; reconstruct it to NIfTI first"
        )
    kspace /= count[..., None]
    return kspace


def _image(kspace: NDArray[np.complex64], space: _Space) -> NDArray[np.complex64]:
    """Return the image, coils added up, `(x, y, z)`."""
    axes = (2, 3, 4)
    shifted = np.fft.ifftshift(kspace, axes=axes)
    image = np.fft.fftshift(np.fft.ifftn(shifted, axes=axes, norm="ortho"), axes=axes)
    for axis, (have, want) in enumerate(zip(space.encoded, space.wanted, strict=True)):
        first = have // 2 - want // 2
        image = np.moveaxis(image, 4 - axis, 0)[first : first + want]
        image = np.moveaxis(image, 0, 4 - axis)
    coils = image.reshape(len(image), -1, *image.shape[3:]).astype(np.complex64)
    return np.ascontiguousarray(added_in_phase(coils).transpose(2, 1, 0))


def added_in_phase(coils: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Add coils `(coil, z, y, x)` weighted by their sensitivities, with the strongest's phase.

    The sensitivity relative to the strongest coil is the smoothed product with it, in which the
    phase and sign of the object cancel. The size is that of a root of the sum of squares, without
    the noise that squares add.
    """
    from scipy.ndimage import gaussian_filter

    best = int(np.argmax([np.linalg.norm(coil) for coil in coils]))
    strongest: NDArray[np.complex64] = coils[best]
    if len(coils) == 1:
        return strongest
    total = np.zeros_like(strongest)
    square = np.zeros(strongest.shape, dtype=np.float32)
    for coil in coils:
        weight = gaussian_filter(coil * strongest.conj(), _COIL_WIDTH)
        total += weight.conj() * coil
        square += np.abs(weight) ** 2
    total /= np.sqrt(np.maximum(square, np.float32(1e-30)))
    return total


def _affine(heads: list[Any], shape: tuple[int, ...], space: _Space) -> NDArray[np.float64]:
    """Return voxel index `(x, y, z)` to RAS millimetres; raw data lie in LPS."""
    steps = [fov / n for fov, n in zip(space.fov_mm, space.wanted, strict=True)]
    sides = [np.array(getattr(heads[0], f"{k}_dir"), dtype=float) for k in ("read", "phase")]
    normal = np.array(heads[0].slice_dir, dtype=float)
    first, last = (np.array(head.position, dtype=float) for head in (heads[0], heads[-1]))
    if len(heads) > 1:
        steps[2] = float(np.dot(last - first, normal)) / (len(heads) - 1)
        centre, middle = first, 0
    else:
        centre, middle = first, shape[2] // 2
    turn = np.stack([d * s for d, s in zip((*sides, normal), steps, strict=True)], axis=1)
    affine = np.eye(4)
    affine[:3, :3] = _TO_RAS @ turn
    affine[:3, 3] = _TO_RAS @ (centre - turn @ [shape[0] // 2, shape[1] // 2, middle])
    return affine
