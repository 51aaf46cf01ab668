"""Data with tissues that the fit does not know: fat around the head, fat and a lesion inside."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scan_phantom import blurred_cohort, head_fractions
from test_scan_fit import silent

from bmapest_ray.anatomy.phantom import Phantom, make_part
from bmapest_ray.scan.cohort_prior import spatial_prior
from bmapest_ray.scan.estimate import ScanFit, fit_scan, make_head
from bmapest_ray.scan.images import Scan
from bmapest_ray.scan.response import joined, response_of
from bmapest_ray.scan.settings import ScanSettings
from bmapest_ray.scan.workplace import Workplace
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.simulate.phantom_images import phantom_images
from bmapest_ray.tissue.table import PAPER_3T

MATRIX, FOV_M, BRAIN = 64, 0.216, 48
PROTOCOLS = ("se_t1w", "tse_t2w")
RELAXATION = ("t1_s", "t2_s", "t2dash_s", "diffusivity_m2_per_s")
FAT = {"t1_s": 0.37, "t2_s": 0.12, "t2dash_s": 0.05, "diffusivity_m2_per_s": 0.1e-9}
LESION = {"t1_s": 1.2, "t2_s": 0.25, "t2dash_s": 0.2, "diffusivity_m2_per_s": 1.2e-9}
SETTINGS = ScanSettings(sample=1500, sweeps=1, lines=MATRIX)


@cache
def head() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return brain fractions `(tissue, z, y, x)`, and where fat and the lesion are."""
    edge = (MATRIX - BRAIN) // 2
    brain = np.pad(head_fractions(BRAIN)[:, BRAIN // 2], [(0, 0), (edge, edge), (edge, edge)])
    y, x = np.mgrid[:MATRIX, :MATRIX] - (MATRIX - 1) / 2
    radius = np.hypot(x, 0.9 * y)
    fat = (radius > 25) & (radius < 28) | (np.hypot(x - 4, y - 5) < 2.5)
    lesion = np.hypot(x + 7, y + 4) < 2.5
    return brain[:, None], fat[None], lesion[None]


def phantom(*, extras: bool) -> Phantom:
    brain, fat, lesion = head()
    parts = []
    free = 1 - (fat | lesion) * float(extras)
    for t, tissue in enumerate(PAPER_3T.names):
        values = {name: float(getattr(PAPER_3T, name)[t]) for name in RELAXATION}
        parts.append(
            make_part(tissue, (PAPER_3T.pd[t] * brain[t] * free).astype(np.float32), values)
        )
    if extras:
        parts.append(make_part("fat", fat.astype(np.float32), dict(FAT)))
        parts.append(make_part("lesion", 0.9 * lesion.astype(np.float32), dict(LESION)))
    return Phantom(tuple(parts), np.diag([216 / MATRIX] * 3 + [1.0]))


def fitted(folder: Path, *, extras: bool) -> ScanFit:
    images = []
    for number, name in enumerate(PROTOCOLS):
        clean = phantom_images(phantom(extras=extras), parse_protocol(name), MATRIX, FOV_M)[0]
        sigma = float(clean.abs().max()) / 60
        noise = np.random.default_rng(number).normal(0, sigma, (2, MATRIX, MATRIX))
        images.append(np.abs(clean.numpy() + noise[0] + 1j * noise[1])[None])
    affine = phantom(extras=extras).affine
    brain, fat, _ = head()
    whole = brain.sum(0) + fat > 0.3
    scan = Scan(np.stack(images).astype(np.float32), affine, np.ones(whole.shape, dtype=bool))
    cohort = blurred_cohort(brain)
    seen, level = make_head(scan, whole, spatial_prior(cohort, whole))
    response = joined(
        [response_of(parse_protocol(n), PAPER_3T, MATRIX, FOV_M).only("", n) for n in PROTOCOLS]
    )
    place = Workplace(folder, "k" * 20)
    return fit_scan(scan, seen, level, response, SETTINGS, place, silent)


def test_the_three_tissues_stay_right_beside_fat_and_a_lesion(tmp_path: Path) -> None:
    brain, fat, lesion = head()
    with_more, without = (fitted(tmp_path / str(extras), extras=extras) for extras in (True, False))
    inside = (brain.sum(0) > 0.99) & ~fat & ~lesion
    errors = [
        np.abs(f.fraction - brain)[:, inside].mean(1, dtype=float) for f in (with_more, without)
    ]
    assert errors[0].max() < 0.03
    assert errors[0] == pytest.approx(errors[1], abs=0.01)
    assert with_more.other[fat].mean() > 0.8
    assert with_more.other[lesion].mean() > 0.8
    assert with_more.fraction.sum(0)[fat].mean() < 0.1
    assert with_more.other[inside].mean() < 0.02
