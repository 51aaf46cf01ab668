"""What the intensities of a voxel say about its mixture, for many voxels at once.

With the nuisances known a voxel's intensities are ``y_c = |sum_t M_ct p_t| + noise`` (without the
bars where the phase was measured) and the prior
of ``p`` is a mixture of Gaussians ``p = q_j + B_f z``, so the posterior is one too: every component
is updated by its own Kalman gain and weighed by how well it explains the intensities.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bmapest_ray.scan.components import Components


@dataclass(frozen=True, eq=False)
class Observed:
    """Intensities of some voxels and what surrounds them.

    Parameters
    ----------
    intensity
        Shape `(voxel, contrast)`.
    variance
        Of the noise and of what the model leaves out, `(voxel, contrast)`.
    log_prior
        What the place says of every component, shares left out, up to a constant per voxel,
        `(voxel, component)`.
    log_other
        Log prior of "neither" (fat, vessels, skull) minus the log of the range of intensities,
        `(voxel,)`.
    signed
        Contrasts whose intensities have signs.
    """

    intensity: Tensor
    variance: Tensor
    log_prior: Tensor
    log_other: Tensor
    signed: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Moments:
    """Posterior moments of the fractions.

    Parameters
    ----------
    mean
        Given that the voxel is made of known tissues, `(voxel, tissue)`.
    second
        Mean of ``p p^T``, `(voxel, tissue, tissue)`.
    signed
        Mean of ``sign(M_c p) p``: equal to `mean` unless a signal may be negative,
        `(voxel, contrast, tissue)`.
    shares
        Probability of every component, `(voxel, component)`.
    other
        Probability that the voxel is something else, `(voxel,)`.
    log_evidence
        Log density of the intensities, `(voxel,)`.
    """

    mean: Tensor
    second: Tensor
    signed: Tensor
    shares: Tensor
    other: Tensor
    log_evidence: Tensor

    @property
    def covariance(self) -> Tensor:
        """Posterior covariance, `(voxel, tissue, tissue)`."""
        return self.second - self.mean[:, :, None] * self.mean[:, None, :]


def posterior(seen: Observed, signal: Tensor, parts: Components) -> Moments:
    """Return the posterior moments.

    Parameters
    ----------
    signal
        Intensity of a voxel full of a tissue, `(voxel, contrast, tissue)`.
    """
    white = signal / seen.variance[:, :, None]
    curvature = white.transpose(1, 2) @ signal
    signs = _signs(signal, parts.points, seen.signed)
    pull = _pull(white, seen.intensity, signs)
    likelihood, moved, left = _updates(curvature, pull, parts)
    constant = (seen.intensity.square() / seen.variance + seen.variance.log()).sum(1)
    log_prior = torch.log_softmax(seen.log_prior + parts.shares.log(), dim=1)
    joint = likelihood - 0.5 * constant[:, None] + log_prior
    known = torch.logsumexp(joint, dim=1)
    evidence = torch.logaddexp(known, seen.log_other)
    weight = torch.exp(joint - known[:, None])
    mean, second = _moments(weight, moved)
    for face, spread in left.items():
        second = second + weight[:, parts.faces[face]].sum(1)[:, None, None] * spread
    signed = mean[:, None, :].expand(-1, signal.shape[1], -1)
    if signs is not None:
        signed = torch.einsum("vjc,vjt->vct", weight[:, :, None] * signs, moved)
    return Moments(mean, second, signed, weight, torch.exp(seen.log_other - evidence), evidence)


def _signs(signal: Tensor, points: Tensor, signed: tuple[int, ...]) -> Tensor | None:
    """Return the sign that a magnitude loses, `(voxel, component, contrast)`, if any is -1."""
    lost = torch.ones(signal.shape[1], dtype=torch.bool)
    lost[list(signed)] = False
    if bool((signal[:, lost] >= 0).all()):
        return None
    predicted = (signal @ points.T).transpose(1, 2)
    return torch.where((predicted < 0) & lost, -1.0, 1.0)


def _pull(white: Tensor, intensity: Tensor, signs: Tensor | None) -> Tensor:
    """Return ``M^T S^-1 y``, `(voxel, 1 or component, tissue)`."""
    if signs is None:
        return intensity[:, None, :] @ white
    return (signs * intensity[:, None, :]) @ white


def _updates(
    curvature: Tensor, pull: Tensor, parts: Components
) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
    """Return log likelihoods (up to a constant per voxel), moved points and spreads left."""
    points = parts.points
    count = len(points)
    gradient = pull - points @ curvature  # (voxel, component, tissue)
    likelihood = 0.5 * ((gradient + pull) * points).sum(2)
    moved = points.expand(len(curvature), count, -1).clone()
    left = {}
    for face, basis in enumerate(parts.bases):
        if basis.shape[1] == 0:
            continue
        chosen = parts.faces[face]
        inverse, log_det = _inverse(basis.T @ curvature @ basis)
        slope = gradient[:, chosen] @ basis
        latent = slope @ inverse
        likelihood[:, chosen] += 0.5 * (slope * latent).sum(2) - 0.5 * log_det[:, None]
        moved[:, chosen] += latent @ basis.T
        left[face] = basis @ inverse @ basis.T
    return likelihood, moved, left


def _inverse(precision: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inverse of ``I + precision``, 1 x 1 or 2 x 2, and its log determinant."""
    size = precision.shape[-1]
    total = precision + torch.eye(size, dtype=precision.dtype, device=precision.device)
    if size == 1:
        return 1 / total, total[:, 0, 0].log()
    a, b, d = total[:, 0, 0], total[:, 0, 1], total[:, 1, 1]
    determinant = a * d - b * b
    adjugate = torch.stack([torch.stack([d, -b], 1), torch.stack([-b, a], 1)], 1)
    return adjugate / determinant[:, None, None], determinant.log()


def _moments(weight: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    columns = points.unbind(2)
    weighted = [weight * column for column in columns]
    mean = torch.stack([w.sum(1) for w in weighted], 1)
    count = len(columns)
    second = weight.new_empty(len(weight), count, count)
    for i in range(count):
        for j in range(i + 1):
            second[:, i, j] = second[:, j, i] = (weighted[i] * columns[j]).sum(1)
    return mean, second
