"""What both exact engines hold: chains, fields as columns, and one encoder per chain."""

from __future__ import annotations

import torch

from bmapest_ray.simulate.chain import ChainModel
from bmapest_ray.simulate.encode import Encoder
from bmapest_ray.simulate.operator import Channel, make_channels
from bmapest_ray.simulate.voxels import to_columns
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.table import TissueTable


class EncodedOperator:
    """Chains and an object, ready to be encoded column by column.

    Parameters
    ----------
    models
        One per chain.
    table, fields
        The object.
    dtype
        complex64 or complex128.
    device
        Where to compute.
    memory_budget_gb
        Bound on temporary arrays.
    """

    engine = "exact"

    def __init__(
        self,
        models: tuple[ChainModel, ...],
        table: TissueTable,
        fields: Fields,
        dtype: torch.dtype,
        device: torch.device | str,
        memory_budget_gb: float,
    ) -> None:
        self.device = torch.device(device)
        self.dtype = dtype
        self.real_dtype = torch.float64 if dtype == torch.complex128 else torch.float32
        self.models = models
        self.table = table
        self.fields = fields
        self.tissues = len(table.names)
        self.matrix = models[0].grid.matrix
        self.n_coils = fields.n_coils
        self.memory_budget_gb = memory_budget_gb
        names = tuple(name for model in models for name in model.table.images)
        self.channels: tuple[Channel, ...] = make_channels(names, fields.n_coils)
        self._b0_hz = to_columns(fields.b0_hz).to(self.device)
        self._b1 = to_columns(fields.b1).to(self.device)
        coils = fields.coils
        self._coils = None if coils is None else to_columns(coils).to(self.device, dtype)
        self._encoders = [Encoder(m.table, m.hearings, m.grid, dtype, self.device) for m in models]
