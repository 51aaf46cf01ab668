"""Whether a fit can be believed: what it had to assume, in sentences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.scan.estimate import ScanFit

MISFIT_Z = 3.5
MISFIT_RELATIVE = 0.12
_OTHER_SHARE = 0.15
_QUADRATURE = 0.1
_SURE = 0.5
_PHYSICS = ("offset", "t1", "t2", "pd")


@dataclass(frozen=True)
class NuisanceLine:
    """One fitted nuisance of the report.

    Parameters
    ----------
    name
        E.g. ``t1 GM`` or ``offset mprage CSF``.
    value, spread
        Estimate and its standard deviation, relative.
    prior_spread
        Standard deviation before the scan was seen; 0 was fixed.
    """

    name: str
    value: float
    spread: float
    prior_spread: float

    @property
    def learnt(self) -> float:
        """Share of the prior variance that the scan took away; near 0 is not identified."""
        return 1 - (self.spread / self.prior_spread) ** 2 if self.prior_spread else 0.0

    @property
    def z(self) -> float:
        """How many prior standard deviations the estimate lies from the expectation."""
        return abs(self.value) / self.prior_spread if self.prior_spread else 0.0


def nuisance_lines(fit: ScanFit) -> list[NuisanceLine]:
    """Return all nuisances but the terms of fields, which are drawn as maps."""
    layout, names = fit.model.layout, fit.model.response.names
    found = fit.nuisances
    parts = [layout.split(x) for x in (found.vector, found.spread, found.prior_spread)]
    labels = {
        "scale": list(names),
        "offset": [f"{name} {tissue}" for name in names for tissue in TISSUES],
        **{name: list(TISSUES) for name in ("t1", "t2", "pd")},
    }
    lines = []
    for name, places in labels.items():
        values = [part[name].flatten().tolist() for part in parts]
        for place, value, spread, prior in zip(places, *values, strict=True):
            lines.append(NuisanceLine(f"{name} {place}", value, spread, prior))
    return lines


def misfit(fit: ScanFit) -> list[str]:
    """Return why the protocol does not fit the images; nothing where it does."""
    reasons = []
    strained = [
        line
        for line in nuisance_lines(fit)
        if line.name.split()[0] in _PHYSICS and line.z > MISFIT_Z
    ]
    if strained:
        worst = max(strained, key=lambda line: line.z)
        reasons.append(
            f"MISFIT: {worst.name} had to move {worst.z:.1f} standard deviations from what is "
            "published; check that the protocol is the one that made the image"
        )
    for name, relative in zip(
        fit.model.response.names, fit.nuisances.level.relative.tolist(), strict=True
    ):
        if relative > MISFIT_RELATIVE:
            reasons.append(
                f"MISFIT: {name} is off by {relative:.0%} of its intensity in the typical voxel "
                "(residual map); check the protocol, the mask and the alignment of the prior"
            )
    return reasons


def unproven(fit: ScanFit) -> list[str]:
    """Return why a fit without a misfit does not show that the protocol is the right one.

    Tissues whose brightness is swapped fit one image as well as the true ones.
    """
    if fit.with_cohort or len(fit.model.response.names) > 1:
        return []
    return [
        "one image without a cohort: brightness alone tells the tissues apart, so that a wrong "
        "protocol may pass; give --cohort or a second image"
    ]


def warnings_of(fit: ScanFit) -> list[str]:
    """Return what a reader of the maps must know, a misfit first."""
    found = misfit(fit)
    share = float(fit.other[fit.mask].mean())
    if share > _OTHER_SHARE:
        found.append(
            f"{share:.0%} of the masked volume looks like none of the three tissues; a mask of "
            "the brain would help"
        )
    if fit.model.response.quadrature > _QUADRATURE:
        found.append(
            f"up to {fit.model.response.quadrature:.0%} of a signal is out of phase with the "
            "other tissues and is left out"
        )
    found += unproven(fit)
    found += fit.scan.notes
    unsure = [
        line.name
        for line in nuisance_lines(fit)
        if 0 < line.prior_spread < 1 and line.learnt < _SURE
    ]
    if unsure:
        found.append(f"the scan says little about {', '.join(unsure)}: the prior decides there")
    return found


def bias_field(fit: ScanFit, contrast: int) -> np.ndarray:
    """Return the fitted relative bias of a contrast, `(z, y, x)`, 1 outside the mask."""
    from bmapest_ray.scan.nuisances import BIAS_DEGREE, polynomials

    z, y, x = np.nonzero(fit.mask)
    place = torch.from_numpy(np.stack([x, y, z], 1)).float()
    low, high = place.amin(0), place.amax(0)
    coefficients = fit.model.layout.split(fit.nuisances.vector)["bias"][contrast].float()
    out = np.ones(fit.mask.shape, dtype=np.float32)
    values = []
    for chunk in torch.split(place, 200_000):
        where = 2 * (chunk - low) / (high - low).clamp_min(1) - 1
        values.append(torch.exp(polynomials(where, BIAS_DEGREE)[:, 1:] @ coefficients))
    out[fit.mask] = torch.cat(values).numpy()
    return out
