"""A small linear operator with the structure and the point spread of the real one.

Centric FLASH in closed form: on line ``n`` the magnetisation of tissue t is
``M_ss + (M_start - M_ss) q^n`` with ``q = cos(flip) exp(-TR/T1)``, so every contrast has its own
k-space weight per tissue, signs included. Field phase and B1 are smooth complex images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

T1_S = (1.55, 0.83, 4.16)
T2_S = (0.09, 0.07, 1.65)
PD = (0.8, 0.7, 1.0)
FLIP, TR_S, TE_S, DWELL_S = math.radians(5), 5.6e-3, 2.51e-3, 30e-6


@dataclass(frozen=True)
class Channel:
    image: str
    image_index: int
    coil: int


def inversion_recovery(ti_s: float, t1_s: float, t2_s: float) -> float:  # noqa: ARG001
    before = 1 - 1.3 * math.exp(-10 / t1_s)
    return 1 - (1 + before) * math.exp(-ti_s / t1_s)


def t2_preparation(te_s: float, t1_s: float, t2_s: float) -> float:  # noqa: ARG001
    return math.exp(-te_s / t2_s)


T1INV = tuple((f"t1inv[{i}]", inversion_recovery, ti) for i, ti in enumerate((0.1, 0.5, 1.0, 2.7)))
T2PREP = tuple((f"t2prep[{i}]", t2_preparation, te) for i, te in enumerate((0.01, 0.05, 0.1, 0.3)))


def _fft(images: Tensor) -> Tensor:
    shifted = torch.fft.ifftshift(images, dim=(-2, -1))
    return torch.fft.fftshift(torch.fft.fft2(shifted, norm="ortho"), dim=(-2, -1))


def _ifft(kspace: Tensor) -> Tensor:
    shifted = torch.fft.ifftshift(kspace, dim=(-2, -1))
    return torch.fft.fftshift(torch.fft.ifft2(shifted, norm="ortho"), dim=(-2, -1))


class SyntheticOperator:
    """``s_c = F^H sum_t K_ct .* F(field p_t)``; implements the operator interface."""

    def __init__(self, contrasts=T1INV + T2PREP, matrix=16, dtype=torch.complex64, phase=1.0):
        self.matrix, self.tissues, self.dtype = matrix, 3, dtype
        self.device = torch.device("cpu")
        self.channels = tuple(Channel(name, i, 0) for i, (name, _, _) in enumerate(contrasts))
        self.weights = torch.stack([self._contrast(kind, time) for _, kind, time in contrasts])
        self.weights = self.weights.to(dtype)
        self.field = self._field(phase).to(dtype)
        self.pairs = 0.0

    def _contrast(self, kind, time) -> Tensor:
        lines = torch.arange(self.matrix, dtype=torch.float64) - self.matrix // 2
        order = torch.where(lines < 0, -2 * lines - 1, 2 * lines)
        rows = []
        for pd, t1, t2 in zip(PD, T1_S, T2_S, strict=True):
            decay = math.exp(-TR_S / t1)
            q = math.cos(FLIP) * decay
            steady = (1 - decay) / (1 - q)
            rows.append(pd * math.sin(FLIP) * (steady + (kind(time, t1, t2) - steady) * q**order))
        columns = torch.arange(self.matrix) - self.matrix / 2 + 0.5
        readout = torch.exp(-(TE_S + columns * DWELL_S) / 0.05)
        return torch.stack(rows)[:, :, None] * readout

    def _field(self, phase) -> Tensor:
        axis = (torch.arange(self.matrix, dtype=torch.float64) + 0.5) * 2 / self.matrix - 1
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        b1 = torch.exp(-(0.2 * x**2 + 0.1 * y**2))
        angle = phase * (1.3 * x - 0.8 * y**2 + 0.5 * x * y) + 0.4
        return b1 * torch.exp(1j * angle)

    def forward(self, p: Tensor) -> Tensor:
        self.pairs += 0.5
        kspace = _fft(self.field * p)
        return _ifft(torch.einsum("ctyx,...tyx->...cyx", self.weights, kspace))

    def adjoint(self, s: Tensor) -> Tensor:
        self.pairs += 0.5
        kspace = torch.einsum("ctyx,...cyx->...tyx", self.weights.conj(), _fft(s))
        return (self.field.conj() * _ifft(kspace)).real

    def weighted_normal_blocks(self, weights: Tensor) -> Tensor:
        gram = torch.einsum(
            "ctyx,cuyx,c->tu", self.weights.conj(), self.weights, weights.to(self.dtype)
        )
        return (gram.real / self.matrix**2)[:, :, None, None] * self.field.abs() ** 2

    def normal_blocks(self) -> Tensor:
        return self.weighted_normal_blocks(torch.ones(len(self.channels)))

    def jvp(self, p: Tensor, dp: Tensor) -> Tensor:  # noqa: ARG002
        return self.forward(dp)

    def vjp(self, p: Tensor, s: Tensor) -> Tensor:  # noqa: ARG002
        return self.adjoint(s)


class CurvedOperator:
    """Non-linear: a linear operator after ``g(p) = p + curvature p (p of the next tissue)``."""

    def __init__(self, linear: SyntheticOperator, curvature: float = 0.3, *, tangents: bool = True):
        self.linear, self.curvature = linear, curvature
        self.channels, self.tissues, self.matrix = linear.channels, 3, linear.matrix
        if tangents:
            self.linearise = self._linearise

    def _bent(self, p: Tensor) -> Tensor:
        return p + self.curvature * p * p.roll(-1, -3)

    def forward(self, p: Tensor) -> Tensor:
        return self.linear.forward(self._bent(p))

    def jvp(self, p: Tensor, dp: Tensor) -> Tensor:
        change = dp * p.roll(-1, -3) + p * dp.roll(-1, -3)
        return self.linear.forward(dp + self.curvature * change)

    def vjp(self, p: Tensor, s: Tensor) -> Tensor:
        g = self.linear.adjoint(s)
        return g + self.curvature * (p.roll(-1, -3) * g + (p * g).roll(1, -3))

    def _linearise(self, p: Tensor):
        return self.forward(p), Tangent(self, p)


class Tangent:
    def __init__(self, operator: CurvedOperator, p: Tensor):
        self.operator, self.p, self.channels = operator, p, operator.channels

    def forward(self, dp: Tensor) -> Tensor:
        return self.operator.jvp(self.p, dp)

    def adjoint(self, s: Tensor) -> Tensor:
        return self.operator.vjp(self.p, s)

    def jvp(self, p: Tensor, dp: Tensor) -> Tensor:  # noqa: ARG002
        return self.forward(dp)

    def vjp(self, p: Tensor, s: Tensor) -> Tensor:  # noqa: ARG002
        return self.adjoint(s)

    def normal_blocks(self) -> Tensor:
        return self.operator.linear.normal_blocks()


def brain(matrix: int = 16, seed: int = 0, *, spread: float = 1.0) -> Tensor:
    """Fractions of a toy head: CSF rim and ventricle, GM shell, WM core; partial volumes."""
    generator = torch.Generator().manual_seed(seed)
    shift = 0.05 * spread * torch.randn(6, generator=generator, dtype=torch.float64)
    fine = 4 * matrix
    axis = (torch.arange(fine, dtype=torch.float64) + 0.5) * 2 / fine - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    radius = ((x + shift[0]) ** 2 + 1.2 * (y + shift[1]) ** 2).sqrt()
    folds = 0.06 * torch.cos(7 * torch.atan2(y, x) + 20 * shift[2])
    head = radius < 0.85
    grey = radius < 0.72 + folds
    white = radius < 0.55 + shift[3] + 1.5 * folds
    ventricle = ((x.abs() - 0.15) ** 2 * 6 + y**2) < 0.05 + 0.3 * shift[4] ** 2
    csf = (head & ~grey) | ventricle
    maps = torch.stack([grey & ~white & ~ventricle, white & ~ventricle, csf]).double()
    return torch.nn.functional.avg_pool2d(maps, 4).float()


def cohort_mean(matrix: int = 16, subjects: int = 8, first: int = 100) -> Tensor:
    return torch.stack([brain(matrix, first + i) for i in range(subjects)]).mean(0)


def psnr(estimate: Tensor, truth: Tensor) -> list[float]:
    error = (estimate - truth).double().square().mean(dim=(-2, -1))
    return [float(-10 * torch.log10(e.clamp_min(1e-30))) for e in error]
