"""A made-up head of 24 x 24 x 24 voxels, its responses and its images."""

import numpy as np
import torch

from bmapest_ray.scan.cohort_prior import SpatialPrior, VolumeCohort, spatial_prior
from bmapest_ray.scan.images import Scan
from bmapest_ray.scan.response import _B1_NODES, _LOG_T1, _LOG_T2, Response, b1_nodes
from bmapest_ray.tissue.table import PAPER_3T

SIZE = 24
TIMES = (
    (0.9, 2.0, 0.003),
    (4.5, 4.5, 0.09),
)  # inversion, repetition and echo time of two contrasts


def made_up_response(
    contrasts: int = 2, times: tuple[tuple[float, float, float], ...] = TIMES
) -> Response:
    """Return closed forms: inversion recovery, then spin echo."""
    t1 = PAPER_3T.column("t1_s")[:, None, None, None] * torch.tensor(_LOG_T1).exp()[:, None, None]
    t2 = PAPER_3T.column("t2_s")[:, None, None, None] * torch.tensor(_LOG_T2).exp()[:, None]
    b1 = torch.from_numpy(b1_nodes())
    values = []
    for inversion_s, repetition_s, echo_s in times[:contrasts]:
        recovered = 1 + torch.exp(-repetition_s / t1) - 2 * torch.exp(-inversion_s / t1)
        signal = recovered if inversion_s < repetition_s else 1 - torch.exp(-repetition_s / t1)
        values.append(signal * torch.exp(-echo_s / t2) * torch.sin(b1 * torch.pi / 2))
    assert values[0].shape == (3, len(_LOG_T1), len(_LOG_T2), _B1_NODES)
    return Response(("first", "second")[:contrasts], torch.stack(values), PAPER_3T)


def head_fractions(size: int = SIZE) -> np.ndarray:
    """Return nested shells of CSF, GM and WM with shared voxels, `(3, z, y, x)`."""
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    radius = np.sqrt(x**2 + (y * 0.9) ** 2 + (z * 1.1) ** 2)
    radius = radius * (1 + 0.1 * np.sin(7 * x) * np.cos(6 * y) * np.cos(5 * z))
    soft = 0.5 / size
    inside = [1 / (1 + np.exp((radius - edge) / soft)) for edge in (0.92, 0.78, 0.55)]
    head = np.stack([inside[1] - inside[2], inside[2], inside[0] - inside[1]])
    total = head.sum(0)
    return np.where(total > 0.5, head / np.maximum(total, 0.5), 0).astype(np.float32)


def blurred_cohort(fraction: np.ndarray, spread: float = 0.15) -> VolumeCohort:
    """Return what a cohort of similar heads would say."""
    from scipy.ndimage import gaussian_filter

    mean = np.stack([gaussian_filter(f, 1.5) for f in fraction])
    covariance = np.zeros((3, *mean.shape), dtype=np.float32)
    for t in range(3):
        covariance[t, t] = spread**2
    return VolumeCohort(mean.astype(np.float32), covariance, ("a", "b"))


def prior_of(fraction: np.ndarray, mask: np.ndarray) -> SpatialPrior:
    return spatial_prior(blurred_cohort(fraction), mask, 0.2)


def scan_of(images: np.ndarray, spacing_mm: float = 6.0) -> Scan:
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    return Scan(images.astype(np.float32), affine, np.ones(images.shape[1:], dtype=bool))
