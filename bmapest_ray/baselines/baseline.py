"""What every baseline is: frozen settings with one method, and a stated grid to tune over."""

from __future__ import annotations

from typing import ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.inversion.ports import ForwardModel, MeasurementLike

TUNING_EVALUATIONS = 12
"""Settings in every baseline's grid: all are tuned with the same effort."""

Images = NDArray[np.float64]


@runtime_checkable
class Baseline(Protocol):
    """A way to tissue maps without solving the inverse problem.

    A baseline is a frozen dataclass of its settings, so it can be compared, hashed and digested.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    def estimate(
        self, measurement: MeasurementLike, operator: ForwardModel, cohort: Tensor
    ) -> Tensor:
        """Estimate maps.

        Parameters
        ----------
        measurement
            Images of shape `(channel, y, x)`, complex or magnitude.
        operator
            Knows the signal of every tissue under B0, B1 and coils.
        cohort
            Maps of the training subjects, without the subject under test; shape
            `(subject, tissue, y, x)`.

        Returns
        -------
        Tensor
            Shape `(tissue, y, x)`, float32 in [0, 1], sum over tissues <= 1.
        """
        ...

    @classmethod
    def grid(cls) -> tuple[Self, ...]:
        """Return the `TUNING_EVALUATIONS` settings that are compared on the tune subjects."""
        ...


def check_inputs(measurement: MeasurementLike, cohort: Tensor) -> None:
    """Check that images and cohort belong together.

    Raises
    ------
    InvalidInput
        If the cohort is empty, shapes differ or numbers are not finite.
    """
    images = measurement.images
    if cohort.ndim != 4 or not len(cohort) or cohort.shape[-2:] != images.shape[-2:]:
        raise InvalidInput(
            "a baseline needs the maps of at least one training subject on the grid of the images "
            f"{tuple(images.shape[-2:])}, got the shape {tuple(cohort.shape)}; stack the slices"
        )
    if images.ndim != 3:
        raise InvalidInput(
            f"a baseline takes images of shape (channel, y, x), got {tuple(images.shape)}; pass "
            "one item of a batch"
        )
    if not (bool(torch.isfinite(images).all()) and bool(torch.isfinite(cohort).all())):
        raise InvalidInput("a baseline needs finite images and maps, got NaN or infinity")


def as_maps(fraction: NDArray[np.floating], like: Tensor) -> Tensor:
    """Clip fractions `(tissue, y, x)` to [0, 1], scale sums above 1 to 1, move beside `like`."""
    clipped = np.clip(np.asarray(fraction, dtype=np.float64), 0, 1)
    clipped /= np.maximum(clipped.sum(axis=0), 1)
    return torch.from_numpy(clipped).to(device=like.device, dtype=torch.float32)
