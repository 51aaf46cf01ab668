"""A pointwise scanner and a toy head: what baselines should master."""

from dataclasses import dataclass

import numpy as np
import torch

from bmapest_ray.simulate.measurement import Measurement, Signal

N = 24
AMPLITUDES = np.array([[-0.5, -0.2, -0.9], [0.4, 0.6, 0.2], [0.5, 0.3, 0.95], [0.1, 0.35, -0.3]])
"""Rows: images, columns: GM, WM, CSF; the last image has both signs."""


@dataclass(frozen=True)
class Channel:
    image: str
    image_index: int
    coil: int


class PointOperator:
    """``s_cq = coil_q(v) exp(i phase(v)) b1(v) sum_t a_ct p_t``."""

    def __init__(self, amplitudes=AMPLITUDES, coils=1, shading=0.3):
        axis = torch.linspace(-1, 1, N)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        coil = [1 + 0.4 * x, 0.8 - 0.3 * x + 0.2 * y][:coils] if coils > 1 else [x * 0 + 1]
        b1 = torch.exp(-shading * (x**2 + y**2))
        self.field = torch.stack(coil) * b1 * torch.exp(1j * (0.7 * x - y + 0.3))
        self.amplitudes = torch.tensor(amplitudes, dtype=torch.float32)
        names = [f"image[{i}]" for i in range(len(amplitudes))]
        self.channels = tuple(Channel(n, i, q) for i, n in enumerate(names) for q in range(coils))

    def forward(self, p):
        images = torch.einsum("ct,...tyx->...cyx", self.amplitudes, p)
        shaded = images[..., :, None, :, :] * self.field
        return shaded.flatten(-4, -3)

    def jvp(self, p, dp):  # noqa: ARG002
        return self.forward(dp)

    def vjp(self, p, s):
        raise NotImplementedError


def hard_head():
    """Rings of CSF, GM and WM with a CSF ventricle, shape `(3, N, N)`, fractions 0 or 1."""
    axis = torch.linspace(-1, 1, N)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    radius = (x**2 + 1.3 * y**2).sqrt()
    label = torch.zeros(N, N, dtype=torch.long)
    for limit, tissue in ((0.95, 3), (0.8, 1), (0.55, 2), (0.18, 3)):
        label[radius < limit] = tissue
    return torch.stack([(label == t).float() for t in (1, 2, 3)])


def soft_head():
    """The same with partial volumes."""
    return torch.nn.functional.avg_pool2d(hard_head(), 3, stride=1, padding=1)


def cohort(count=5, seed=0):
    """Soft heads shifted by a pixel or none."""
    generator = torch.Generator().manual_seed(seed)
    shifts = torch.randint(-1, 2, (count, 2), generator=generator).tolist()
    return torch.stack([soft_head().roll(tuple(shift), (1, 2)) for shift in shifts])


def measured(operator, maps, signal=Signal.MAGNITUDE, noise=0.0, seed=0):
    """Images of `maps`, with complex noise of standard deviation `noise` per part."""
    images = operator.forward(maps)
    generator = torch.Generator().manual_seed(seed)
    parts = torch.randn(*images.shape, 2, generator=generator)
    images = images + noise * torch.view_as_complex(parts)
    sigma = torch.full((images.shape[0],), noise) if noise else None
    return Measurement(images if signal is Signal.COMPLEX else images.abs(), signal, sigma)


def rmse(estimate, truth):
    return float((estimate - truth).square().mean().sqrt())
