"""One fit of a scan whose truth is known, in memory: what settings are chosen and checked with."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.scan.cohort_prior import VolumeCohort, spatial_prior
from bmapest_ray.scan.estimate import ScanFit, fit_scan, make_head
from bmapest_ray.scan.response import Response
from bmapest_ray.scan.settings import ScanSettings
from bmapest_ray.scan.synthetic import KnownScan
from bmapest_ray.scan.workplace import Workplace


@dataclass(frozen=True, eq=False)
class Trial:
    """A scan with its truth, ready to be fitted.

    Parameters
    ----------
    known
        The scan.
    mask
        Voxels that are fitted, `(z, y, x)`.
    cohort
        The prior, or none.
    response
        Of the protocols.
    """

    known: KnownScan
    mask: NDArray[np.bool_]
    cohort: VolumeCohort | None
    response: Response

    def fit(self, settings: ScanSettings) -> ScanFit:
        """Fit the scan."""
        scan = self.known.scan
        head, level = make_head(
            scan, self.mask, spatial_prior(self.cohort, self.mask, settings.floor)
        )
        with tempfile.TemporaryDirectory() as folder:
            place = Workplace(Path(folder), "trial")
            return fit_scan(scan, head, level, self.response, settings, place, _silent)

    def error(self, fraction: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the mean absolute error of maps inside the mask, `(tissue,)`."""
        off = np.abs(fraction - self.known.truth)[:, self.mask]
        return off.mean(1, dtype=np.float64)  # type: ignore[no-any-return]


def _silent(stage: str, done: int, total: int) -> None:
    """Take no notice."""
