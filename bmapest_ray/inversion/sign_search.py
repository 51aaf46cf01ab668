"""Two-way sign search: leave local minima of magnitude fits, voxel by voxel.

At a converged fit, a voxel may sit on the wrong side of a zero of some images. For every voxel
that is not explained, both signs of each image, of all images, and of all combinations of its
weakest images are tried in a local linear model, as is the empty voxel; the best candidate is
proposed. Whether it helps is decided by `refine`, which lets the whole fit adapt to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from bmapest_ray.base.seeding import generator
from bmapest_ray.inversion.face_metric import face_metric
from bmapest_ray.inversion.loss import TINY, per_channel
from bmapest_ray.inversion.ports import ForwardModel
from bmapest_ray.inversion.problem import Point, Problem
from bmapest_ray.inversion.signs import SignImages

WEAKEST = 4
"""Images whose signs are tried in all combinations: the weakest of each voxel."""
GAIN = 0.9
"""A voxel moves if its misfit falls below this share of the present one."""
SIGNIFICANT = 4.0
"""With a known noise level, voxels with less misfit than this (half chi-squared) stay."""
NEGLIGIBLE = 1e-4
"""Of the mean misfit: at a converged fit, a voxel below it is explained."""
LARGE = 0.3
"""Of the mean misfit: before convergence, a voxel above it is likely in a local minimum."""


def local_responses(model: ForwardModel, like: Tensor, probes: int = 6, width: int = 3) -> Tensor:
    """Response of each voxel's own pixel to its own fractions, ``(tissue, channel, y, x)``.

    Exact where the model offers ``own_responses()``. Else from maps of random signs, which
    decorrelate the neighbours; what is left of them is averaged over a window of ``width``
    pixels, over which fields are smooth.
    """
    exact = getattr(model, "own_responses", None)
    if exact is not None:
        return torch.as_tensor(exact())
    tissues, shape = like.shape[-3], like.shape[-2:]
    rng = generator("sign search probes", tissues, *shape)
    total = torch.zeros((), device=like.device)
    for _ in range(probes):
        z = (torch.randint(0, 2, shape, generator=rng) * 2.0 - 1.0).to(like.device, like.dtype)
        one_tissue = torch.eye(tissues, dtype=like.dtype, device=like.device)[:, :, None, None] * z
        total = total + torch.stack([model.forward(one) for one in one_tissue]) * z
    return _smooth(total / probes, width)


def _smooth(images: Tensor, width: int) -> Tensor:
    real, imaginary = window_mean(images.real, width), window_mean(images.imag, width)
    return torch.complex(real, imaginary)


def window_mean(images: Tensor, width: int) -> Tensor:
    """Mean over a square window around every pixel of ``(..., y, x)``."""
    flat = images.reshape(-1, 1, *images.shape[-2:])
    pooled = torch.nn.functional.avg_pool2d(
        flat, width, stride=1, padding=width // 2, count_include_pad=False
    )
    return pooled.reshape(images.shape)


@dataclass(frozen=True)
class SignSearch:
    """Proposes better fractions for voxels in a local minimum.

    Parameters
    ----------
    problem
        Magnitude problem with voxel-wise fractions as unknowns.
    signs
        Known phases of the images.
    responses
        From `local_responses`.
    noise_known
        Whether the fidelity is in units of the noise.
    negligible
        Without a noise level, voxels with less than this share of the mean misfit stay.
    """

    problem: Problem
    signs: SignImages
    responses: Tensor
    noise_known: bool
    negligible: float = NEGLIGIBLE

    def propose(self, point: Point) -> Tensor:
        """Return unknowns in which the unexplained voxels took their best candidate."""
        present = self.misfit(point.s)
        least = torch.full_like(present[:, 0, 0], SIGNIFICANT)
        if not self.noise_known:
            least = self.negligible * present.mean((-2, -1))
        x = point.x.clone()
        for item in range(len(x)):
            rows, columns = (present[item] > least[item]).nonzero(as_tuple=True)
            if len(rows):
                x[item][:, rows, columns] = _Voxels(self, point, item, rows, columns).best()
        return x

    def misfit(self, s: Tensor) -> Tensor:
        """Half squared magnitude residual of every voxel, ``(batch, y, x)``."""
        data: Tensor = self.problem.fidelity.data  # type: ignore[attr-defined]
        weights = per_channel(self.problem.fidelity.weights)
        return 0.5 * ((s.abs() - data).square() * weights).sum(1)


class _Voxels:
    """Some voxels of one batch item, laid out as ``(1, n)``, with their local linear model."""

    def __init__(
        self, search: SignSearch, point: Point, item: int, rows: Tensor, columns: Tensor
    ) -> None:
        def pick(images: Tensor) -> Tensor:
            return images[..., rows, columns].unsqueeze(-2)

        problem, signs = search.problem, search.signs
        data: Tensor = problem.fidelity.data  # type: ignore[attr-defined]
        weights = per_channel(problem.fidelity.weights).expand(data.shape[1:])
        self.known, self.phase = pick(signs.known), pick(signs.phase)
        self.response = pick(search.responses)
        self.x, self.s = pick(point.x[item]), pick(point.s[item])
        self.data, self.weights = pick(data[item]), pick(weights)
        self.along = (self.response * self.phase.conj()).real
        capacity = problem.parametrisation.capacity()
        blocks = torch.einsum("tcyx,cyx,ucyx->tuyx", self.along, self.weights, self.along)
        self.metric = face_metric(
            problem.constraint, blocks[None], None if capacity is None else pick(capacity)
        )

    def best(self) -> Tensor:
        """Return the fractions of the best candidate of each voxel, ``(tissue, n)``."""
        present = self._misfit(self.x)
        least, fractions = present, self.x
        for candidate in self._candidates():
            misfit = self._misfit(candidate)
            better = misfit < least
            least = torch.where(better, misfit, least)
            fractions = torch.where(better, candidate, fractions)
        tidy = self.metric.tidy(fractions[None])[0]
        return torch.where(least < GAIN * present, tidy, self.x)[:, 0]

    def _misfit(self, x: Tensor) -> Tensor:
        change = torch.einsum("tcyx,tyx->cyx", self.response, (x - self.x).to(self.s.dtype))
        return 0.5 * (((self.s + change).abs() - self.data).square() * self.weights).sum(0)

    def _candidates(self) -> Iterator[Tensor]:
        yield torch.zeros_like(self.x)
        present = (self.s * self.phase.conj()).real
        for sides in self._sides(present.sign()):
            gap = (present - sides * self.data) * self.weights
            gradient = torch.einsum("tcyx,cyx->tyx", self.along, gap)
            step, _ = self.metric.minimise(self.x[None], gradient[None])
            yield self.x + step[0]

    def _sides(self, present: Tensor) -> Iterator[Tensor]:
        """Sign patterns relative to the phase of the tissues, ``(channel, 1, n)``."""
        for channel in range(len(present)):
            flipped = present.clone()
            flipped[channel] *= -1
            yield flipped
        size = self.data / self.response.abs().amax(0).clamp_min(TINY)
        weakest = size.argsort(dim=0)[:WEAKEST]
        canonical = torch.where(self.known, torch.ones_like(present), present)
        for base in (present, -present, canonical):
            for choice in product((1.0, -1.0), repeat=len(weakest)):
                flips = torch.tensor(choice, dtype=present.dtype, device=present.device)
                yield base.scatter(0, weakest, base.gather(0, weakest) * flips[:, None, None])
