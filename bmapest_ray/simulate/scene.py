"""What is simulated: a protocol and the object it images."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bmapest_ray.base.digests import digest
from bmapest_ray.sequence.protocol import Chain, Protocol
from bmapest_ray.simulate.cache import CACHE_VERSION
from bmapest_ray.simulate.chain import HEAD, ChainModel, MeanTissue, prepare_chain
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.mixing import Mixing
from bmapest_ray.tissue.table import TissueTable

NODE_TOLERANCE = 1e-6
"""Largest error of the interpolation in time within a readout."""


@dataclass(frozen=True)
class Scene:
    """A protocol and the object it images, without the fractions.

    Parameters
    ----------
    protocol
        What is played.
    acquisition
        Matrix and field of view of the images.
    fields
        B0, B1 and coils on the object's grid.
    table
        Tissue properties.
    mixing
        How fractions make a signal.
    grid
        The object's voxels; None is the acquisition's, finer ones make honest data.
    """

    protocol: Protocol
    acquisition: VoxelGrid
    fields: Fields
    table: TissueTable
    mixing: Mixing = Mixing.COMPARTMENTS
    grid: VoxelGrid | None = None

    @property
    def voxels(self) -> VoxelGrid:
        """The object's grid."""
        return self.grid or self.acquisition

    def model(self, chain: Chain, mean: MeanTissue = HEAD) -> ChainModel:
        """Build, import and plan one chain, for the mean of a head where its graph is for one."""
        return prepare_chain(
            chain,
            self.protocol,
            self.acquisition,
            self.voxels,
            self.table,
            self.fields,
            self.mixing,
            tolerance=NODE_TOLERANCE,
            mean=mean,
        )

    def factor_key(self, chain: Chain, tolerance: float, dtype: torch.dtype) -> str:
        """Digest of all that decides the low-rank factors of a chain."""
        return digest(
            {
                "version": CACHE_VERSION,
                "chain": chain.digest(self.protocol.scanner, self.protocol.accuracy),
                "matrix": self.acquisition.matrix,
                "fov_m": self.acquisition.fov_m,
                "b0_hz": self.fields.b0_hz,
                "b1": self.fields.b1,
                "table": self.table.digest,
                "tolerance": tolerance,
                "dtype": str(dtype),
            }
        )
