"""Diagonal blocks of a linear model: its metric per voxel, and how well they tell tissues apart."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from bmapest_ray.inversion.ports import LinearModel

_BLOCKS: WeakKeyDictionary[LinearModel, Tensor] = WeakKeyDictionary()


def weighted_blocks(model: LinearModel, weights: Tensor) -> Tensor:
    """Diagonal blocks of ``A^H diag(weights) A``, ``(tissue, tissue, y, x)``.

    Exact where the weights of all channels agree, or where the model offers
    ``weighted_normal_blocks(weights)``; otherwise the mean weight stands for all channels.
    """
    exact = getattr(model, "weighted_normal_blocks", None)
    if exact is not None:
        return torch.as_tensor(exact(weights))
    return normal_blocks(model) * weights.mean()


def normal_blocks(model: LinearModel) -> Tensor:
    """Diagonal blocks of ``A^H A``, ``(..., tissue, tissue, y, x)``, built once per model."""
    blocks = _BLOCKS.get(model)
    if blocks is None:
        blocks = _BLOCKS[model] = model.normal_blocks()
    return blocks


def weakest_share(model: LinearModel) -> float:
    """Least over largest singular value of a voxel's response, median over the voxels."""
    blocks = normal_blocks(model).double().movedim((-4, -3), (-2, -1))
    energies = torch.linalg.eigvalsh(blocks).clamp_min(0.0)
    return float((energies[..., 0] / energies[..., -1].clamp_min(1e-300)).sqrt().median())
