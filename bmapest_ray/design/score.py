"""Score protocols: predicted standard deviations per tissue, and per square root of scan time."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bmapest_ray.design.fisher import Bound, bound
from bmapest_ray.design.setting import DesignSetting
from bmapest_ray.design.signals import chain_signals
from bmapest_ray.sequence.protocol import Protocol


@dataclass(frozen=True, eq=False)
class ProtocolScore:
    """What a protocol promises.

    Parameters
    ----------
    name
        Of the protocol.
    images
        How many it measures.
    scan_time_s
        Pauses and dummy cycles included.
    rf_energy_t2_s
        Integral of the squared B1 over all pulses.
    bound
        Covariance at every design voxel.
    """

    name: str
    images: int
    scan_time_s: float
    rf_energy_t2_s: float
    bound: Bound

    @property
    def std(self) -> tuple[float, ...]:
        """Root mean variance per tissue."""
        return tuple(float(v) for v in self.bound.std)

    @property
    def worst_std(self) -> tuple[float, ...]:
        """Standard deviation in the worst voxel per tissue."""
        return tuple(float(v) for v in self.bound.worst_std)

    @property
    def mean_variance(self) -> float:
        """Mean over voxels, then over tissues."""
        return float(self.bound.variance.mean())

    @property
    def std_root_s(self) -> tuple[float, ...]:
        """Standard deviation after one second of scanning: times the root of the scan time."""
        return tuple(s * self.scan_time_s**0.5 for s in self.std)


def score_protocol(protocol: Protocol, setting: DesignSetting) -> ProtocolScore:
    """Predict how well a protocol measures the fractions.

    Raises
    ------
    InvalidInput
        If it breaks a limit of its scanner or does not identify the tissues.
    """
    grid = setting.acquisition
    with torch.no_grad():
        signals = [chain_signals(chain, protocol, setting).at() for chain in protocol.chains]
        found = bound(signals, setting)
    return ProtocolScore(
        name=protocol.name,
        images=sum(len(s.tissues) for s in signals),
        scan_time_s=protocol.scan_time_s(grid.matrix, grid.fov_m),
        rf_energy_t2_s=protocol.rf_energy_t2_s(grid.matrix, grid.fov_m),
        bound=found,
    )
