"""Clusterings by scikit-learn and scikit-fuzzy: k-means, Gaussian mixture, fuzzy c-means."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput, MissingInput, require_choice
from bmapest_ray.baselines.clusters import (
    check_clustering,
    clustering_features,
    maps_of_clusters,
    starting_centres,
)
from bmapest_ray.inversion.ports import ForwardModel, MeasurementLike

_COVARIANCES = ("tied", "full", "diag")
_VARIANCE_FLOOR = 1e-5
"""In squared units of the brightest tissue signal; noise-free data have hardly any variance."""


@contextmanager
def _unconverged_is_fine() -> Iterator[None]:
    """Silence what scikit-learn says about few distinct voxels: the result is scored as it is."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@dataclass(frozen=True)
class KMeans:
    """Hard labels of the nearest of `clusters` means, started from the known tissue signals.

    Raises
    ------
    InvalidInput
        If a setting is out of range.
    """

    name: ClassVar[str] = "k-means"
    title: ClassVar[str] = "k-means"

    clusters: int = 3
    background: float = 0.1
    """Voxels darker than this share of the bright ones are background; see `head_mask`."""

    def __post_init__(self) -> None:
        """Check the settings."""
        check_clustering(self.clusters, self.background)

    def estimate(
        self, measurement: MeasurementLike, operator: ForwardModel, cohort: Tensor
    ) -> Tensor:
        """Label every voxel of the head; see `Baseline.estimate`."""
        from sklearn.cluster import KMeans as Clustering

        found = clustering_features(measurement, operator, cohort, self.clusters, self.background)
        start = starting_centres(found.prototypes, self.clusters)
        with _unconverged_is_fine():
            fit = Clustering(self.clusters, init=start, n_init=1).fit(found.values)
        hard = np.eye(self.clusters)[fit.labels_]
        return maps_of_clusters(found, hard, fit.cluster_centers_, measurement.images)

    @classmethod
    def grid(cls) -> tuple[Self, ...]:
        """Return 3 to 6 clusters at three background thresholds."""
        return tuple(cls(k, b) for k, b in product((3, 4, 5, 6), (0.1, 0.2, 0.3)))


@dataclass(frozen=True)
class GaussianMixture:
    """Posterior probabilities under a mixture of Gaussians, started from the tissue signals.

    Raises
    ------
    InvalidInput
        If a setting is out of range.
    """

    name: ClassVar[str] = "gaussian-mixture"
    title: ClassVar[str] = "Gaussian mixture"

    components: int = 3
    covariance: str = "tied"
    """``tied`` for all components together, ``full`` or ``diag`` for each."""
    background: float = 0.2

    def __post_init__(self) -> None:
        """Check the settings."""
        check_clustering(self.components, self.background)
        require_choice("the covariance of a Gaussian mixture", self.covariance, _COVARIANCES)

    def estimate(
        self, measurement: MeasurementLike, operator: ForwardModel, cohort: Tensor
    ) -> Tensor:
        """Return the posterior probabilities; see `Baseline.estimate`."""
        from sklearn.mixture import GaussianMixture as Mixture

        found = clustering_features(measurement, operator, cohort, self.components, self.background)
        mixture = Mixture(
            self.components,
            covariance_type=self.covariance,
            reg_covar=_VARIANCE_FLOOR,
            max_iter=300,
            means_init=starting_centres(found.prototypes, self.components),
            random_state=0,  # of scikit-learn's own start, which means_init overrides
        )
        with _unconverged_is_fine():
            mixture.fit(found.values)
        membership = mixture.predict_proba(found.values)
        return maps_of_clusters(found, membership, mixture.means_, measurement.images)

    @classmethod
    def grid(cls) -> tuple[Self, ...]:
        """Return 3, 5 or 6 components, two shapes of covariance, two background thresholds."""
        choices = product((3, 5, 6), ("tied", "full"), (0.05, 0.2))
        return tuple(cls(k, c, b) for k, c, b in choices)


@dataclass(frozen=True)
class FuzzyCMeans:
    """Memberships by distance to the means, ``d^(-2/(fuzziness - 1))`` [1]_.

    Raises
    ------
    InvalidInput
        If a setting is out of range.

    References
    ----------
    .. [1] Bezdek, Ehrlich, Full. Comput Geosci 1984;10:191.
    """

    name: ClassVar[str] = "fuzzy-c-means"
    title: ClassVar[str] = "Fuzzy c-means"

    clusters: int = 3
    fuzziness: float = 2.0
    background: float = 0.1

    def __post_init__(self) -> None:
        """Check the settings."""
        check_clustering(self.clusters, self.background)
        if not self.fuzziness > 1:
            raise InvalidInput(f"fuzziness must be above 1, got {self.fuzziness}; 2 is usual")

    def estimate(
        self, measurement: MeasurementLike, operator: ForwardModel, cohort: Tensor
    ) -> Tensor:
        """Return the memberships; see `Baseline.estimate`."""
        try:
            from skfuzzy.cluster import cmeans
        except ImportError as error:
            raise MissingInput(
                "fuzzy c-means needs the package scikit-fuzzy, it is missing; install "
                "bmapest_ray[baselines]"
            ) from error
        found = clustering_features(measurement, operator, cohort, self.clusters, self.background)
        values = found.values.T
        start = _memberships(found.values, starting_centres(found.prototypes, self.clusters))
        centres, membership, *_ = cmeans(
            values, self.clusters, self.fuzziness, error=1e-4, maxiter=500, init=start.T
        )
        return maps_of_clusters(found, membership.T, centres, measurement.images)

    @classmethod
    def grid(cls) -> tuple[Self, ...]:
        """Return 3 or 4 clusters, three degrees of fuzziness, two background thresholds."""
        return tuple(cls(k, m, b) for k, m, b in product((3, 4), (1.6, 2.0, 2.5), (0.1, 0.2)))


def _memberships(values: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return memberships at a fuzziness of 2, shape `(voxel, cluster)`."""
    from scipy.spatial.distance import cdist

    closeness = 1 / np.maximum(cdist(values, centres), 1e-6) ** 2
    return np.asarray(closeness / closeness.sum(axis=1, keepdims=True))
