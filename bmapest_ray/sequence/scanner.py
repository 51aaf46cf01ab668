"""Hardware limits as data: what a scanner's gradients, transmitter and receiver can do."""

from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final

from bmapest_ray.base.errors import InvalidInput, require_choice
from bmapest_ray.base.units import GYROMAGNETIC_RATIO_HZ_PER_T

RF_RASTER_S: Final = 1e-6
ADC_RASTER_S: Final = 1e-7


@dataclass(frozen=True)
class Scanner:
    """The limits a sequence is built within.

    Parameters
    ----------
    name
        What people call it; not part of any digest.
    max_gradient_t_per_m, max_slew_t_per_m_s
        Per axis.
    rf_dead_time_s, rf_ringdown_s
        Silence needed before and after an RF pulse.
    adc_dead_time_s
        Silence needed before and after a receive window.
    gradient_raster_s
        Gradient corners and block borders lie on multiples of this.
    field_t
        Main field; a label that tells which tissue table a protocol is meant for.
    """

    name: str = field(metadata={"digest": False})
    max_gradient_t_per_m: float
    max_slew_t_per_m_s: float
    rf_dead_time_s: float = 100e-6
    rf_ringdown_s: float = 20e-6
    adc_dead_time_s: float = 20e-6
    gradient_raster_s: float = 10e-6
    field_t: float = 3.0

    def __post_init__(self) -> None:
        """Settle the types, which are content, and refuse limits that no hardware has."""
        for limit in fields(self):
            if limit.name != "name":
                object.__setattr__(self, limit.name, float(getattr(self, limit.name)))
        positive = ("max_gradient_t_per_m", "max_slew_t_per_m_s", "gradient_raster_s", "field_t")
        for key in positive:
            if not getattr(self, key) > 0:
                raise InvalidInput(f"{key} must be positive, got {getattr(self, key)}; correct it")
        for key in ("rf_dead_time_s", "rf_ringdown_s", "adc_dead_time_s"):
            if not 0 <= getattr(self, key) < 0.01:
                raise InvalidInput(
                    f"{key} must be in [0, 0.01) s, got {getattr(self, key)}; correct it"
                )

    @property
    def max_gradient_hz_per_m(self) -> float:
        """Gradient limit for protons [Hz/m]."""
        return self.max_gradient_t_per_m * GYROMAGNETIC_RATIO_HZ_PER_T

    @property
    def max_slew_hz_per_m_s(self) -> float:
        """Slew-rate limit for protons [Hz/m/s]."""
        return self.max_slew_t_per_m_s * GYROMAGNETIC_RATIO_HZ_PER_T

    def pulseq_limits(self) -> Any:  # noqa: ANN401 - pypulseq has no types
        """Return these limits as `pypulseq.Opts`."""
        import pypulseq

        return pypulseq.Opts(
            max_grad=self.max_gradient_hz_per_m,
            max_slew=self.max_slew_hz_per_m_s,
            rf_dead_time=self.rf_dead_time_s,
            rf_ringdown_time=self.rf_ringdown_s,
            adc_dead_time=self.adc_dead_time_s,
            grad_raster_time=self.gradient_raster_s,
            block_duration_raster=self.gradient_raster_s,
            rf_raster_time=RF_RASTER_S,
            adc_raster_time=ADC_RASTER_S,
            gamma=GYROMAGNETIC_RATIO_HZ_PER_T,
            B0=self.field_t,
        )


PAPER_SCANNER: Final = Scanner("paper", max_gradient_t_per_m=0.028, max_slew_t_per_m_s=150.0)
"""The limits of BMapEst (arXiv 2404.14739)."""

SCANNERS: Final = MappingProxyType(
    {
        scanner.name: scanner
        for scanner in (
            PAPER_SCANNER,
            Scanner("clinical-3t", max_gradient_t_per_m=0.045, max_slew_t_per_m_s=200.0),
            Scanner(
                "clinical-1.5t", max_gradient_t_per_m=0.033, max_slew_t_per_m_s=125.0, field_t=1.5
            ),
            Scanner("high-performance-3t", max_gradient_t_per_m=0.08, max_slew_t_per_m_s=200.0),
            Scanner("as-imported", 0.1, 250.0, 0.0, 0.0, 0.0),
        )
    }
)
"""The shipped scanners by name.

The clinical ones are typical whole-body machines, no product.

`as-imported` judges `.seq` files of others: wide limits and no dead times.
"""


def scanner_named(name: str) -> Scanner:
    """Return a shipped scanner.

    Raises
    ------
    InvalidInput
        Names the closest one.
    """
    return SCANNERS[require_choice("scanner", name, SCANNERS)]
