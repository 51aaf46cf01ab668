"""From clusters of voxels to tissues, by the known signals of the tissues."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.baselines.baseline import as_maps, check_inputs
from bmapest_ray.baselines.signals import Features, make_features
from bmapest_ray.inversion.ports import ForwardModel, MeasurementLike

_TINY = 1e-12
_SUM_WEIGHT = 1e3
"""Weight of the equation "shares sum to 1", against 1 for an image."""
_PAIRS = tuple(combinations(range(len(TISSUES)), 2))

_Real = NDArray[np.float64]


def check_clustering(clusters: int, background: float) -> None:
    """Check the settings that all clusterings share.

    Raises
    ------
    InvalidInput
        If there are fewer clusters than tissues, more than tissues and pairs of them, or the
        threshold is outside [0, 1).
    """
    most = len(TISSUES) + len(_PAIRS)
    if not len(TISSUES) <= clusters <= most or not 0 <= background < 1:
        raise InvalidInput(
            f"a clustering needs {len(TISSUES)} to {most} clusters and background in [0, 1), got "
            f"{clusters} and {background}"
        )


def clustering_features(
    measurement: MeasurementLike,
    operator: ForwardModel,
    cohort: Tensor,
    clusters: int,
    background: float,
) -> Features:
    """Check the inputs and return the features, of more voxels than there are clusters.

    Raises
    ------
    InvalidInput
        As `check_inputs`, and if hardly any voxel is head.
    """
    check_inputs(measurement, cohort)
    features = make_features(measurement, operator, cohort, background)
    count = int(features.inside.sum())
    if count <= clusters:
        raise InvalidInput(
            f"{clusters} clusters need more voxels in the head, got {count}; lower background"
        )
    return features


def starting_centres(prototypes: _Real, clusters: int) -> _Real:
    """Return the known signals of pure tissues, then of half and half mixtures of two.

    Parameters
    ----------
    prototypes
        Shape `(tissue, image)`.

    Returns
    -------
    NDArray
        Shape `(cluster, image)`.
    """
    mixtures = [(prototypes[a] + prototypes[b]) / 2 for a, b in _PAIRS]
    return np.stack([*prototypes, *mixtures][:clusters])


def tissues_of_clusters(centres: _Real, prototypes: _Real) -> _Real:
    """Return the share of each tissue in each cluster, shape `(cluster, tissue)`.

    Every tissue gets one cluster of its own, so that the sum of distances between centres and
    tissue signals is smallest. A cluster left over is a mixture: the fit of its centre by shares of
    the tissue signals that are not negative and sum to 1.

    Parameters
    ----------
    centres, prototypes
        Shapes `(cluster, image)` and `(tissue, image)`.
    """
    from scipy.optimize import linear_sum_assignment, nnls
    from scipy.spatial.distance import cdist

    model = np.vstack([prototypes.T, np.full(len(prototypes), _SUM_WEIGHT)])
    share = np.array([nnls(model, [*centre, _SUM_WEIGHT])[0] for centre in centres])
    share /= share.sum(axis=1, keepdims=True)
    clusters, tissues = linear_sum_assignment(cdist(centres, prototypes))
    share[clusters] = np.eye(len(prototypes))[tissues]
    return share


def maps_of_clusters(features: Features, membership: _Real, centres: _Real, like: Tensor) -> Tensor:
    """Add up the memberships `(voxel, cluster)` of each tissue's clusters to maps.

    A voxel is filled with tissue as far as its brightness says, so that the rim of the head fades.
    """
    share = membership * _filled(features.values, membership @ centres)
    fraction = np.zeros((len(features.prototypes), *features.inside.shape))
    fraction[:, features.inside] = (share @ tissues_of_clusters(centres, features.prototypes)).T
    return as_maps(fraction, like)


def _filled(seen: _Real, pure: _Real) -> _Real:
    """Return how much of each voxel is tissue, shape `(voxel, 1)`: the least-squares scale."""
    above, below = (seen * pure).sum(axis=1), (pure**2).sum(axis=1)
    return np.asarray(np.clip(above / np.maximum(below, _TINY), 0, 1)[:, None])
