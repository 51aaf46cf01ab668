"""Factors that voxels contribute while a state is heard: decay and precession at time nodes."""

from __future__ import annotations

import torch

from bmapest_ray.simulate.hearing import Profile


def precession(b0_hz: torch.Tensor, time_s: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return ``exp(-2 pi i t B0)``, shape ``(node, ...)`` for B0 of shape ``(...)``.

    Evaluated in double precision: the phases reach hundreds of radians.
    """
    phase = -2 * torch.pi * time_s.reshape(-1, *[1] * b0_hz.ndim) * b0_hz.double()
    return torch.polar(torch.ones_like(phase), phase).to(dtype)


def decay(
    profile: Profile,
    t2_s: torch.Tensor,
    t2dash_s: torch.Tensor,
    diffusivity_m2_per_s: torch.Tensor,
) -> torch.Tensor:
    """Return ``exp(-t/T2 - |tau + t|/T2' - D (b - b_centre))``, shape ``(node, ...)``."""

    def column(values: object) -> torch.Tensor:
        tensor = torch.as_tensor(values, dtype=t2_s.dtype, device=t2_s.device)
        return tensor.reshape(-1, *[1] * t2_s.ndim)

    time = column(profile.nodes.time_s)
    tau = column(abs(profile.tau_s + profile.nodes.time_s))
    change = column(profile.attenuation_s_per_m2)
    return torch.exp(-time / t2_s - tau / t2dash_s - change * diffusivity_m2_per_s)


def to_columns(values: torch.Tensor) -> torch.Tensor:
    """Return ``(..., y, x)`` as ``(..., x, y)``, contiguous."""
    return values.transpose(-1, -2).contiguous()
