"""Rigid registration: a known motion is found between images of unlike contrast."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from scan_phantom import head_fractions

from bmapest_ray.anatomy.bids_io import write_maps
from bmapest_ray.anatomy.catalog import open_anatomy
from bmapest_ray.anatomy.nifti import Volume
from bmapest_ray.scan.images import Scan, read_scan
from bmapest_ray.scan.register import rigid_to
from bmapest_ray.scan.request import onto_cohort

SPACING_MM = 6.0


def turned(angle_deg: float, shift_mm: tuple[float, float, float]) -> np.ndarray:
    """Return a motion of the world about the z axis."""
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    motion = np.eye(4)
    motion[:2, :2] = [[c, -s], [s, c]]
    motion[:3, 3] = shift_mm
    return motion


def centred() -> np.ndarray:
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    affine[:3, 3] = -SPACING_MM * 11.5
    return affine


def shown(greys: tuple[float, float, float]) -> np.ndarray:
    return np.tensordot(np.array(greys), head_fractions(), 1).astype(np.float32)


@pytest.mark.parametrize(("shift", "from_centres"), [((5.0, -4.0, 3.0), False), ((90, 0, 0), True)])
def test_a_known_motion_is_undone(shift: tuple[float, float, float], from_centres: bool) -> None:
    motion = turned(6.0, shift)
    fixed = Volume(shown((0.6, 1.0, 0.3)), centred())
    moving = Volume(shown((0.7, 0.5, 1.0)), motion @ centred())
    found = rigid_to(fixed, moving, from_centres=from_centres) @ motion
    corners = np.array([[60.0, 60, 0, 1], [-60, 60, 30, 1], [0, -60, -60, 1]]).T
    off = np.linalg.norm((found @ corners - corners)[:3], axis=0)
    assert off.max() < 0.5 * SPACING_MM
    assert np.allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-9)


def test_images_of_a_scan_are_laid_on_the_first(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.nii", "b.nii")]
    away = turned(0.0, (9.0, 0.0, 0.0)) @ centred()
    for path, affine in zip(paths, (centred(), away), strict=True):
        image = nibabel.Nifti1Image(shown((0.6, 1.0, 0.3)).transpose(2, 1, 0), affine)
        nibabel.save(image, path)
    apart, together = (read_scan(paths, register=flag).images for flag in (False, True))
    error, before = (np.abs(i[1] - i[0])[4:-4, 4:-4, 4:-4].mean() for i in (together, apart))
    assert error < 0.3 * before


def test_a_scan_is_laid_on_its_cohort(tmp_path: Path) -> None:
    for number in range(3):
        write_maps(np.roll(head_fractions(), number - 1, axis=3), centred(), tmp_path, f"c{number}")
    motion = turned(4.0, (40.0, -20.0, 0.0))
    covered = np.ones(head_fractions().shape[1:], dtype=bool)
    scan = Scan(shown((400.0, 600.0, 200.0))[None], motion @ centred(), covered)
    anatomy = open_anatomy(f"bids:{tmp_path}")
    found = onto_cohort(scan, anatomy, list(anatomy.subjects)) @ motion
    corners = np.array([[60.0, 60, 0, 1], [-60, 60, 30, 1], [0, -60, -60, 1]]).T
    assert np.linalg.norm((found @ corners - corners)[:3], axis=0).max() < 0.5 * SPACING_MM
