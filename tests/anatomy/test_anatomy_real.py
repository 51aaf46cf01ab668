"""The anatomies that studies use, against numbers known from elsewhere."""

import subprocess
import sys

import nibabel
import numpy as np
import pytest
import torch

from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
from bmapest_ray.anatomy.cohort import cohort_mean, leave_one_out
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.errors import InvalidInput

MIDDLE = SliceSpec("below-top", 75)


def psnr(estimate, truth):
    return -10 * torch.log10(((estimate - truth) ** 2).mean((1, 2)))


def test_mni152_is_a_whole_head_in_the_unit_range():
    anatomy = open_anatomy("mni152")
    assert "group average" in anatomy.label
    assert anatomy.subjects == ("mni152",)
    volume = anatomy.volume("mni152")
    assert volume.fraction.min() >= 0
    assert volume.fraction.sum(0).max() <= 1 + 1e-6
    assert nibabel.aff2axcodes(volume.affine) == ("R", "A", "S")
    litres = volume.fraction.sum((1, 2, 3), dtype=float) / 1e6
    assert litres == pytest.approx([1.01, 0.67, 0.22], abs=0.02)
    brain = volume.fraction[:2].sum(0)
    cerebellum = np.linalg.solve(volume.affine, [30, -70, -45, 1])[:3].round().astype(int)
    mirrored = np.linalg.solve(volume.affine, [30, 70, -45, 1])[:3].round().astype(int)
    assert brain[tuple(cerebellum[::-1])] > 0.5  # posterior and low
    assert brain[tuple(mirrored[::-1])] == 0  # nothing at the mirrored, anterior place


def test_mni152_slice_is_narrower_in_front():
    maps = load_slice(open_anatomy("mni152"), "mni152", MIDDLE)
    assert maps.fraction.shape == (3, 64, 64)
    assert maps.fraction.sum(0).max() <= 1 + 1e-6
    width = maps.head.sum(1)
    rows = torch.nonzero(width).flatten()
    third = len(rows) // 3
    assert width[rows[-third:]].sum() < 0.95 * width[rows[:third]].sum()
    with pytest.raises(InvalidInput, match="did you mean 'mni152'"):
        open_anatomy("mni152").volume("mni")


def test_mni152_is_read_without_importing_nilearn():
    code = (
        "import sys; from bmapest_ray.anatomy.catalog import open_anatomy; "
        "open_anatomy('mni152').digest('mni152'); print({'nilearn', 'sklearn'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


@pytest.fixture(scope="module")
def brains(brainweb_dir):
    anatomy = open_anatomy(f"bids:{brainweb_dir / 'brainweb14'}")
    assert len(anatomy.subjects) == 14
    return anatomy, {s: load_slice(anatomy, s, MIDDLE) for s in anatomy.subjects}


def mean_over(brains, score):
    return torch.stack([score(maps) for maps in brains[1].values()]).mean(0).tolist()


def test_floors_of_brainweb_are_those_of_twenty_subjects(brains):
    """PSNR of GM, WM and CSF, published for all 20 subjects; these are 14 of them."""
    zero = mean_over(brains, lambda m: psnr(torch.zeros(3, 64, 64), m.fraction))
    assert zero == pytest.approx([7.68, 8.91, 13.91], abs=0.3)
    anatomy = brains[0]
    others = mean_over(
        brains,
        lambda m: psnr(
            cohort_mean(leave_one_out(anatomy, m.subject, MIDDLE), m.subject), m.fraction
        ),
    )
    assert others == pytest.approx([14.22, 14.89, 17.66], abs=0.3)


def hard_labels(maps):
    background = 1 - maps.fraction.sum(0, keepdim=True)
    labels = torch.cat([background, maps.fraction]).argmax(0)
    return torch.stack([(labels == k).float() for k in (1, 2, 3)])


def test_perfect_hard_labels_reach_the_known_psnr(brains):
    hard = mean_over(brains, lambda m: psnr(hard_labels(m), m.fraction))
    assert hard == pytest.approx([16.53, 18.32, 18.66], abs=0.45)  # CSF: 14 subjects, 1 mm maps
