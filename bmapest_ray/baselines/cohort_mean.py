"""The mean of the other subjects: what is known before any measurement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.baselines.baseline import TUNING_EVALUATIONS, as_maps, check_inputs
from bmapest_ray.inversion.ports import ForwardModel, MeasurementLike


@dataclass(frozen=True)
class CohortMean:
    """The mean map of the training subjects, optionally smoothed.

    Raises
    ------
    InvalidInput
        If the smoothing is negative.
    """

    name: ClassVar[str] = "cohort-mean"
    title: ClassVar[str] = "Cohort mean"

    smoothing_px: float = 0.0
    """Standard deviation of a Gaussian, in pixels: few subjects make a grainy mean."""

    def __post_init__(self) -> None:
        """Check the smoothing."""
        if not self.smoothing_px >= 0:
            raise InvalidInput(f"smoothing_px must be at least 0, got {self.smoothing_px}")

    def estimate(
        self,
        measurement: MeasurementLike,
        operator: ForwardModel,  # noqa: ARG002 - the point is to ignore it
        cohort: Tensor,
    ) -> Tensor:
        """Return the mean; see `Baseline.estimate`."""
        check_inputs(measurement, cohort)
        from scipy.ndimage import gaussian_filter

        mean = cohort.double().mean(0).cpu().numpy()
        smooth = gaussian_filter(mean, (0, self.smoothing_px, self.smoothing_px))
        return as_maps(smooth, measurement.images)

    @classmethod
    def grid(cls) -> tuple[Self, ...]:
        """Return smoothing from 0 to 1.1 pixels."""
        return tuple(cls(step / 10) for step in range(TUNING_EVALUATIONS))
