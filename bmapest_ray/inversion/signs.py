"""Start for magnitudes whose signs differ between tissues (inversion recovery, double inversion).

A magnitude loses the sign of its image. Where all tissues respond with one phase, any mixture of
non-negative fractions has that phase too, so the complex image is known: the magnitude times the
phase. Contrasts with a known phase make the problem linear and convex; its solution from any start
is then a start from which the phases of all contrasts are set free. Which contrasts are ambiguous
is not assumed but read, voxel by voxel, from the responses of one-tissue maps, so recovery
times, pauses, B1 and magnetisation left by earlier contrasts are all taken into account.

At the rim of the head the spill of bright neighbours, not the voxel's own tissue, decides the
phase. With noise that is below the noise; without noise such pixels are left out of the start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from bmapest_ray.inversion.drive import drive
from bmapest_ray.inversion.gauss_newton import GaussNewton
from bmapest_ray.inversion.loss import TINY, ComplexImage, per_channel
from bmapest_ray.inversion.parametrisation import Direct
from bmapest_ray.inversion.ports import ForwardModel
from bmapest_ray.inversion.problem import Problem
from bmapest_ray.inversion.settings import SolverSettings

NEGLIGIBLE = 0.02
"""A response of the other sign is ignored below this share of the strongest tissue's response."""
COVERAGE = 0.98
"""Share of voxels in which a contrast's phase must be known, and enough contrasts be left."""
CORE_LOCAL, CORE_GLOBAL = 0.15, 0.02
"""Noise-free: pixels below these shares of the largest signal in 5 x 5 or anywhere are not used."""


@dataclass(frozen=True)
class SignImages:
    """What the one-tissue responses say about the phases of the images.

    Parameters
    ----------
    phase
        Unit phase of the strongest tissue. Complex ``(channel, y, x)``.
    known
        Whether all tissues share that phase. Bool ``(channel, y, x)``.
    images
        Image name of each channel.
    tissues
        Number of tissues.
    """

    phase: Tensor
    known: Tensor
    images: tuple[str, ...]
    tissues: int

    def ambiguous(self, where: Tensor) -> tuple[str, ...]:
        """Images whose sign is not known in some of the voxels ``where``, bool ``(y, x)``."""
        share = self.known[:, where].float().mean(1)
        names = [n for n, s in zip(self.images, share, strict=True) if float(s) < COVERAGE]
        return tuple(dict.fromkeys(names))

    def coverage(self, where: Tensor, needed: int) -> float:
        """Share of the voxels ``where`` with at least ``needed`` images of known phase."""
        first = [i for i, name in enumerate(self.images) if name not in self.images[:i]]
        return float((self.known[first][:, where].sum(0) >= needed).float().mean())


_KNOWN: WeakKeyDictionary[ForwardModel, SignImages] = WeakKeyDictionary()


def sign_images(model: ForwardModel, like: Tensor) -> SignImages:
    """Return the phases that all tissues share, derived once per model object."""
    found = _KNOWN.get(model)
    if found is None or found.phase.shape[-2:] != like.shape[-2:]:
        found = derive_sign_images(model, like)
        _KNOWN[model] = found
    return found


def derive_sign_images(model: ForwardModel, like: Tensor) -> SignImages:
    """Derive the phases that all tissues share from one forward of every tissue.

    Parameters
    ----------
    model
        Scanner model.
    like
        Any maps; gives matrix, tissues, type and device. ``(..., tissue, y, x)``.
    """
    tissues = like.shape[-3]
    identity = torch.eye(tissues, dtype=like.dtype, device=like.device)
    uniform = identity[:, :, None, None].expand(tissues, tissues, *like.shape[-2:])
    responses = torch.stack([model.forward(one) for one in uniform])
    size = responses.abs()
    leading = responses.gather(0, size.argmax(0, keepdim=True))[0]
    phase = leading / leading.abs().clamp_min(TINY)
    aligned = (responses * phase.conj()).real
    known = ((aligned >= 0.9 * size) | (size <= NEGLIGIBLE * size.amax(0))).all(0)
    return SignImages(phase, known, tuple(c.image for c in model.channels), tissues)


@dataclass(frozen=True)
class SignStart:
    """A start and what to say about it.

    Parameters
    ----------
    x
        Unknowns to start from.
    message
        Which contrasts had unknown signs, or why the given start was kept.
    products
        Operator pairs spent.
    """

    x: Tensor
    message: str
    products: float


def sign_start(
    problem: Problem, settings: SolverSettings, x: Tensor, signs: SignImages, *, noise_known: bool
) -> SignStart:
    """Solve the contrasts of known phase linearly; keep ``x`` where that is not valid.

    Parameters
    ----------
    problem
        Problem with a magnitude fidelity (its ``data`` are magnitudes) and voxel-wise fractions.
    settings
        Limits of the linear solve.
    x
        The given start, kept if fewer contrasts than tissues have a known sign.
    signs
        From `sign_images`.
    noise_known
        Whether the fidelity is whitened.
    """
    used = trusted(problem, noise_known=noise_known)
    anywhere = used.any(0)
    hidden = ", ".join(signs.ambiguous(anywhere))
    spent = 0.5 * signs.tissues
    if not hidden:
        return SignStart(x, "", spent)
    needed = signs.tissues if problem.prior is None else 1
    coverage = signs.coverage(anywhere, needed)
    if coverage < COVERAGE:
        reason = (
            f"No sign start: besides {hidden} it needs {needed} contrasts of known sign, found in "
            f"{coverage:.0%} of the voxels."
        )
        return SignStart(x, reason, spent)
    linear = _linear_problem(problem, signs, used)
    solver = GaussNewton(linear, replace(settings, max_iterations=1), noise_known)
    progress = drive(solver, solver.begin(x * used[:, None]))
    message = f"Sign start: the signs of {hidden} were left free."
    return SignStart(progress.x, message, spent + float(progress.extra["products"]))


def trusted(problem: Problem, *, noise_known: bool) -> Tensor:
    """Voxels whose pixels take part in the start, bool ``(batch, y, x)``."""
    data: Tensor = problem.fidelity.data  # type: ignore[attr-defined]
    strength = (data.square() * per_channel(problem.fidelity.weights)).sum(1).sqrt()
    used = torch.ones_like(strength, dtype=torch.bool)
    support = problem.parametrisation.capacity()
    if support is not None:
        used = used & (support[:, 0] > 0)
    if noise_known:
        return used
    local = torch.nn.functional.max_pool2d(strength[:, None], 5, 1, 2)[:, 0]
    largest = strength.amax((-2, -1), keepdim=True)
    return used & (strength > CORE_LOCAL * local) & (strength > CORE_GLOBAL * largest)


def _linear_problem(problem: Problem, signs: SignImages, used: Tensor) -> Problem:
    """Complex data of known phase where it is known, and nothing elsewhere."""
    data: Tensor = problem.fidelity.data  # type: ignore[attr-defined]
    weights = per_channel(problem.fidelity.weights) * (signs.known & used[:, None])
    fidelity = ComplexImage(data * signs.phase, weights)
    return replace(problem, fidelity=fidelity, parametrisation=Direct(support=used))
