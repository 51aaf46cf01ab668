"""Fuzzy c-means that estimates a smooth bias field of every image at the same time.

An image is a bias field ``b`` times the value ``c_k`` of the tissue in a voxel. Around every voxel
the bias is taken as constant within a Gaussian window ``w`` [1]_, over all images together:

    e_k(j) = sum_images sum_i w(i - j) (y(j) - b(i) c_k)^2
    J = sum_k sum_j u_k(j)^m (e_k(j) + alpha mean of e_k over the neighbours of j)

The second term is the neighbourhood of [2]_. Each step minimises J exactly over the memberships
``u`` (which sum to 1), the tissue values ``c`` or the bias ``b``, so J never grows.

References
----------
.. [1] Cui, Wang, Fan, Feng, Lei. Localized FCM clustering with spatial information for medical
   image segmentation and bias field estimation. Int J Biomed Imaging 2013;2013:930301.
.. [2] Ahmed, Yamany, Mohamed, Farag, Moriarty. A modified fuzzy c-means algorithm for bias field
   estimation and segmentation of MRI data. IEEE Trans Med Imaging 2002;21:193.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.baselines.baseline import Images
from bmapest_ray.baselines.clusters import check_clustering, clustering_features, maps_of_clusters
from bmapest_ray.inversion.ports import ForwardModel, MeasurementLike

_TINY = 1e-12
_SETTLED = 1e-5
"""Change of the tissue values, in units of the brightest tissue signal, that ends the steps."""


@dataclass(frozen=True)
class BiasFuzzyCMeans:
    """Bias-corrected fuzzy c-means, started from the known tissue signals.

    Raises
    ------
    InvalidInput
        If a setting is out of range.
    """

    name: ClassVar[str] = "bias-fuzzy-c-means"
    title: ClassVar[str] = "Bias-corrected fuzzy c-means"

    fuzziness: float = 2.0
    neighbours: float = 0.1
    """Weight of the eight neighbours' distances, ``alpha``."""
    bias_width: float = 0.1
    """Standard deviation of the window, as a share of the field of view."""
    background: float = 0.1
    iterations: int = 60

    def __post_init__(self) -> None:
        """Check the settings."""
        check_clustering(len(TISSUES), self.background)
        if not (self.fuzziness > 1 and self.neighbours >= 0 and self.bias_width > 0):
            raise InvalidInput(
                "bias-corrected fuzzy c-means needs fuzziness > 1, neighbours >= 0 and "
                f"bias_width > 0, got {self}"
            )

    def estimate(
        self, measurement: MeasurementLike, operator: ForwardModel, cohort: Tensor
    ) -> Tensor:
        """Return the memberships; see `Baseline.estimate`."""
        found = clustering_features(measurement, operator, cohort, len(TISSUES), self.background)
        steps = BiasSteps(found.images, found.inside, found.prototypes, self)
        steps.run()
        membership = steps.membership[:, found.inside].T
        return maps_of_clusters(found, membership, steps.centres, measurement.images)

    @classmethod
    def grid(cls) -> tuple[Self, ...]:
        """Return two degrees of fuzziness, three neighbour weights, two background thresholds."""
        choices = product((2.0, 2.5), (0.0, 0.1, 0.3), (0.1, 0.2))
        return tuple(cls(m, a, background=b) for m, a, b in choices)


@dataclass
class BiasSteps:
    """State of the alternating minimisation.

    Parameters
    ----------
    images
        Shape `(image, y, x)`.
    inside
        Shape `(y, x)`.
    centres
        Tissue values to start from, shape `(tissue, image)`.
    """

    images: Images
    inside: NDArray[np.bool_]
    centres: NDArray[np.float64]
    settings: BiasFuzzyCMeans
    bias: Images = field(init=False)
    """Shape `(image, y, x)`, mean 1 in the head and 0 outside."""
    membership: Images = field(init=False)
    """Shape `(tissue, y, x)`, 0 outside the head."""
    objective: list[float] = field(default_factory=list)
    """J after every round, at the memberships that are best for it."""

    def __post_init__(self) -> None:
        """Start without bias."""
        self.images = self.images * self.inside
        self.bias = np.ones_like(self.images) * self.inside
        self._update_membership()

    def run(self) -> None:
        """Alternate until the tissue values settle."""
        for _ in range(self.settings.iterations):
            before = self.centres.copy()
            weight = self._shared(self.membership**self.settings.fuzziness)
            self._update_centres(weight)
            self._update_bias(weight)
            self._update_membership()
            if np.abs(self.centres - before).max() < _SETTLED:
                return

    def _update_membership(self) -> None:
        window, bias = self._blur(self.inside.astype(np.float64)), self._blur(self.bias)
        square = self._blur(self.bias**2)
        c = self.centres[:, :, None, None]
        distance = self.images**2 * window - 2 * c * self.images * bias + c**2 * square
        total = self._shared(np.maximum(distance.sum(axis=1), 0) * self.inside)
        total = np.maximum(total, _TINY)
        power = 1 / (self.settings.fuzziness - 1)
        closeness = (total.min(axis=0) / total) ** power
        self.membership = closeness / closeness.sum(axis=0) * self.inside
        self.objective.append(float((self.membership**self.settings.fuzziness * total).sum()))

    def _update_centres(self, weight: Images) -> None:
        above = np.einsum("kyx,cyx->kc", weight, self.images * self._blur(self.bias))
        below = np.einsum("kyx,cyx->kc", weight, self._blur(self.bias**2))
        self.centres = above / np.maximum(below, _TINY)

    def _update_bias(self, weight: Images) -> None:
        value = np.einsum("kyx,kc->cyx", weight, self.centres)
        power = np.einsum("kyx,kc->cyx", weight, self.centres**2)
        above, below = self._blur(self.images * value), self._blur(power)
        bias = np.where(self.inside, above / np.maximum(below, _TINY), 0)
        mean = bias[:, self.inside].mean(axis=1)
        mean = np.where(mean > 0, mean, 1)
        self.bias = bias / mean[:, None, None]
        self.centres = self.centres * mean

    def _blur(self, data: Images) -> Images:
        from scipy.ndimage import gaussian_filter

        width = self.settings.bias_width * self.images.shape[-1]
        sigma = (*[0] * (data.ndim - 2), width, width)
        return np.asarray(gaussian_filter(data, sigma, mode="constant", truncate=3))

    def _shared(self, data: Images) -> Images:
        """Add `neighbours` times the mean over the eight neighbours; its own adjoint."""
        from scipy.ndimage import uniform_filter

        if not self.settings.neighbours:
            return data
        around = 9 / 8 * uniform_filter(data, (1, 3, 3), mode="constant") - data / 8
        return np.asarray((data + self.settings.neighbours * around) * self.inside)
