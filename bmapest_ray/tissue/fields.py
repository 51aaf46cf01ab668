"""Field maps of a slice: B0 offset, relative transmit B1 and receive coils.

The analytic shapes are those of MR-zero's ``generate_B0_B1`` (playground of MRzeroCore 1.2): with
x, y in [-1, 1] over the field of view (x left-right, y anterior)

    B1 = exp(-(0.4 x^2 + 0.2 y^2)),
    B0 = 7 / (0.05 + d) - 45 / (0.3 + d),  d = 0.4 x^2 + 0.2 (y - 0.7)^2,

scaled and shifted by two stored constants so that their proton-density weighted means are 1 and
0 Hz on the default anatomy; every subject sees the same fields.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from bmapest_ray.anatomy.coil_maps import coils_on_slice
from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.anatomy.resample import field_on_slice
from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.tissue.table import PAPER_3T

B1_SCALE = 1.082208264815131
"""Makes the density-weighted mean of the analytic B1 one on the default anatomy."""

B0_SHIFT_HZ = 55.11477435127582
"""Makes the density-weighted mean of the analytic B0 zero on the default anatomy."""


@dataclass(frozen=True)
class Fields:
    """Fields on the pixels of one slice.

    Parameters
    ----------
    b0_hz
        Off-resonance in Hz. Shape ``(y, x)``.
    b1
        Transmit field relative to nominal. Shape ``(y, x)``.
    coils
        Complex receive sensitivities. Shape ``(coil, y, x)``; None is one uniform coil.

    Raises
    ------
    InvalidInput
        If shapes differ, a value is not finite, or B1 is negative.
    """

    b0_hz: torch.Tensor
    b1: torch.Tensor
    coils: torch.Tensor | None = None

    def __post_init__(self) -> None:
        """Check shapes and values."""
        if self.b0_hz.shape != self.b1.shape or self.b0_hz.ndim != 2:
            msg = (
                f"b0_hz and b1 must both have shape (y, x), got {tuple(self.b0_hz.shape)} and "
                f"{tuple(self.b1.shape)}; resample them to the slice"
            )
            raise InvalidInput(msg)
        if self.coils is not None and self.coils.shape[1:] != self.b0_hz.shape:
            msg = (
                f"coils must have shape (coil, {', '.join(map(str, self.b0_hz.shape))}), got "
                f"{tuple(self.coils.shape)}; resample them to the slice"
            )
            raise InvalidInput(msg)
        for name in ("b0_hz", "b1", "coils"):
            value = getattr(self, name)
            if value is not None and not bool(torch.isfinite(value).all()):
                msg = f"{name} must be finite everywhere, got NaN or infinity; fill the holes first"
                raise InvalidInput(msg)
        if bool((self.b1 < 0).any()):
            lowest = float(self.b1.min())
            msg = f"b1 must be at least 0 (relative to nominal), got {lowest:.3g}; check its unit"
            raise InvalidInput(msg)

    @property
    def matrix(self) -> int:
        """Pixels along one edge of the slice."""
        return int(self.b0_hz.shape[-1])

    @property
    def n_coils(self) -> int:
        """Number of receive channels."""
        return 1 if self.coils is None else int(self.coils.shape[0])

    @property
    def digest(self) -> str:
        """Digest of the content."""
        return digest({"b0_hz": self.b0_hz, "b1": self.b1, "coils": self.coils})

    def with_coils(self, n_coils: int) -> Fields:
        """Return the same fields with ``n_coils`` analytic receive coils."""
        return replace(self, coils=analytic_coils(n_coils, self.matrix))


def pixel_coordinates(matrix: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return y and x of the pixel centres in [-1, 1] over the field of view, shape ``(y, x)``."""
    axis = (torch.arange(matrix, dtype=torch.float64) + 0.5) * 2 / matrix - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return y, x


def analytic_shapes(matrix: int, z: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the analytic B0 [Hz] and B1 before scaling, each of shape ``(y, x)``.

    ``z`` is MR-zero's third coordinate: it multiplies B1 and adds ``0.3 z^2`` to ``d``.
    """
    y, x = pixel_coordinates(matrix)
    distance = 0.4 * x**2 + 0.2 * (y - 0.7) ** 2 + 0.3 * z**2
    b0_hz = 7 / (0.05 + distance) - 45 / (0.3 + distance)
    b1 = torch.exp(-(0.4 * x**2 + 0.2 * y**2 + 0.3 * z**2))
    return b0_hz, b1


def analytic_fields(matrix: int) -> Fields:
    """Return the analytic B0 and B1, the same for every object, one uniform coil."""
    b0_hz, b1 = analytic_shapes(matrix)
    return Fields(b0_hz=b0_hz + B0_SHIFT_HZ, b1=b1 * B1_SCALE)


def analytic_coils(n_coils: int, matrix: int) -> torch.Tensor:
    """Return smooth complex receive sensitivities of ``n_coils`` loops around the head.

    Each coil falls off as a Gaussian from a centre on a circle of 1.2 half fields of view, with
    a linear phase across the slice. Shape ``(coil, y, x)``, complex64, sum of squares of order 1.

    Raises
    ------
    InvalidInput
        If ``n_coils`` is below one.
    """
    if n_coils < 1:
        msg = f"the number of receive coils must be at least 1, got {n_coils}; raise it"
        raise InvalidInput(msg)
    y, x = pixel_coordinates(matrix)
    angle = torch.arange(n_coils, dtype=torch.float64) * (2 * torch.pi / n_coils)
    centre_x, centre_y = 1.2 * torch.cos(angle), 1.2 * torch.sin(angle)
    dx, dy = x - centre_x[:, None, None], y - centre_y[:, None, None]
    magnitude = torch.exp(-(dx**2 + dy**2) / (2 * 0.9**2))
    phase = 0.8 * (x * torch.cos(angle)[:, None, None] + y * torch.sin(angle)[:, None, None])
    return torch.polar(magnitude, phase + angle[:, None, None]).to(torch.complex64)


def make_fields(
    b0: str, b1: str, maps: TissueMaps, *, n_coils: int = 1, coils: Path | None = None
) -> Fields:
    """Make the fields of a slice.

    Parameters
    ----------
    b0, b1
        ``none`` (0 Hz, 1), ``analytic``, ``paper``, or the path of a NIfTI file (Hz, relative to
        nominal). ``paper`` is what BMapEst used: the analytic shapes at MR-zero's z = -1, scaled
        and shifted per subject with its true proton density.
    maps
        The slice, which gives the matrix and where it lies.
    n_coils
        Analytic receive coils; 1 is one uniform coil.
    coils
        Complex NIfTI file of measured sensitivities, instead of analytic ones.

    Raises
    ------
    InvalidInput
        If a field file does not cover the slice or holds values that cannot be.
    """
    matrix = maps.matrix
    b0_hz = _field(b0, "hz", maps, neutral=0.0)
    relative = _field(b1, "relative", maps, neutral=1.0)
    if coils is not None:
        return Fields(b0_hz=b0_hz, b1=relative, coils=coils_on_slice(coils, maps))
    analytic = None if n_coils == 1 else analytic_coils(n_coils, matrix)
    return Fields(b0_hz=b0_hz, b1=relative, coils=analytic)


def _field(
    choice: str, kind: Literal["hz", "relative"], maps: TissueMaps, neutral: float
) -> torch.Tensor:
    if choice == "none":
        return torch.full((maps.matrix, maps.matrix), neutral, dtype=torch.float64)
    if choice == "analytic":
        fields = analytic_fields(maps.matrix)
        return fields.b0_hz if kind == "hz" else fields.b1
    if choice == "paper":
        return _paper_field(kind, maps)
    if not Path(choice).suffix:
        msg = (
            f"a field must be none, analytic, paper or a NIfTI file, got '{choice}'; "
            "check the spelling"
        )
        raise InvalidInput(msg)
    return field_on_slice(Path(choice), maps, kind).to(torch.float64)


def _paper_field(kind: Literal["hz", "relative"], maps: TissueMaps) -> torch.Tensor:
    """Return a field whose density-weighted mean over this very subject is 0 Hz or 1."""
    b0_hz, b1 = analytic_shapes(maps.matrix, z=-1.0)
    density = (maps.fraction.double() * PAPER_3T.column("pd")[:, None, None]).sum(dim=0)
    weight = density / density.sum()
    return b0_hz - (weight * b0_hz).sum() if kind == "hz" else b1 / (weight * b1).sum()
