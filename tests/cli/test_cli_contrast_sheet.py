"""What the eye sees on the contact sheet, in numbers: which tissue is bright in which contrast."""

from functools import cache

import numpy as np
import pytest

from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.cli.contrast_sheet import magnitudes, region_means
from bmapest_ray.figures.contact_sheet import CAPTION, GAP, contact_sheet


@cache
def slice_of_the_average():
    return load_slice(open_anatomy("mni152"), "mni152", SliceSpec.parse("below-top:75"), 32)


@cache
def means_of(name):
    """Mean magnitude of GM, WM and CSF in the first image of a preset."""
    truth = slice_of_the_average()
    image = next(iter(magnitudes(name, truth).values()))
    return region_means(image, truth.fraction)


@pytest.mark.parametrize(
    ("name", "order"),
    [("mprage", "WM GM CSF"), ("gre_t1w", "WM GM CSF"), ("tse_t2w", "CSF GM WM")],
)
def test_weightings_order_the_tissues_of_the_average_head(name, order):
    means = means_of(name)
    assert sorted(means, key=means.get, reverse=True) == order.split()


def test_fluid_attenuation_darkens_csf():
    plain, nulled = means_of("tse_t2w"), means_of("flair_tse")
    assert nulled["CSF"] < 0.5 * min(nulled["GM"], nulled["WM"])
    assert nulled["CSF"] < 0.25 * plain["CSF"]


def test_clinical_double_inversion_leaves_grey_matter_bright():
    means = means_of("dir_tse")
    assert means["GM"] > 1.8 * max(means["WM"], means["CSF"])


def test_a_contact_sheet_shows_each_image_in_its_place_with_anterior_up():
    dark, corner = np.zeros((4, 4)), np.zeros((4, 4))
    corner[3, 0] = 1.0  # anterior left
    sheet = contact_sheet({"a": dark, "b": corner, "c": corner}, columns=2, tile=40)
    assert sheet.size == (2 * (40 + GAP) + GAP, 2 * (40 + GAP + CAPTION) + GAP)
    pixels = np.asarray(sheet.convert("L"))
    left = 40 + 2 * GAP
    assert pixels[GAP + 2, left + 2] > 200
    assert pixels[GAP + 37, left + 2] < 60
    assert pixels[GAP + 20, GAP + 20] == 0
