"""Phantoms of the wider ecosystem: what is read, and what is refused."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.io import savemat

from bmapest_ray.anatomy.phantom import Phantom, make_part
from bmapest_ray.anatomy.phantom_catalog import is_phantom, open_phantom
from bmapest_ray.anatomy.phantom_json import mapped
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.errors import InvalidInput, MissingInput

SHAPE = (12, 10, 3)
AFFINE = np.array([[2.0, 0, 0, -12], [0, 2, 0, -10], [0, 0, 4, 5], [0, 0, 0, 1]])


def maps(**changes: object) -> dict[str, object]:
    pd = np.zeros(SHAPE)
    pd[2:9, 3:8] = 0.5
    found = {"PD_map": pd, "T1_map": np.full(SHAPE, 1.2), "T2_map": np.full(SHAPE, 0.08)}
    return {**found, "D_map": np.full(SHAPE, 0.9), "FOV": np.array([0.024, 0.02, 0.012]), **changes}


def written(folder: Path, **changes: object) -> str:
    config = {
        "units": {"T1": "s", "ADC": "10^-3 mm^2/s"},
        "tissues": {
            "gm": {"density": "head.nii.gz[0]", "T1": 1.5, "T2": 0.09, "dB0": "head.nii.gz[2]"},
            "fat": {
                "density": "head.nii.gz[1]", "T1": 0.37, "T2": 0.12,
                "dB0": {"file": "head.nii.gz[2]", "func": "x - 440"}, "B1+": [0.9],
            },
        },
        **changes,
    }  # fmt: skip
    data = np.zeros((*SHAPE, 3), dtype=np.float32)
    data[2:9, 3:8, :, 0], data[9, 3:8, :, 1], data[..., 2] = 0.8, 1.0, 10.0
    nibabel.save(nibabel.Nifti1Image(data, AFFINE), folder / "head.nii.gz")
    (folder / "head.json").write_text(json.dumps(config))
    return f"mrzero:{folder / 'head.json'}"


def test_arrays_of_an_npz_become_maps_in_si_units(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **maps())
    phantom = open_phantom(f"maps:{tmp_path / 'a.npz'}")
    (part,) = phantom.parts
    assert part.density.shape == SHAPE[::-1]
    assert part.density[1, 4, 5] == np.float32(0.5)
    assert float(part.properties["diffusivity_m2_per_s"][0, 4, 5]) == pytest.approx(0.9e-9)
    assert np.diag(phantom.affine)[:3] == pytest.approx([2, 2, 4])
    assert phantom.affine @ [5.5, 4.5, 1, 1] == pytest.approx([0, 0, 0, 1])  # the middle


def test_one_array_of_a_mat_file_holds_five_maps(tmp_path: Path) -> None:
    found = maps()
    rows = [found["PD_map"], found["T1_map"], found["T2_map"], np.full(SHAPE, 20.0), np.ones(SHAPE)]
    savemat(tmp_path / "a.mat", {"phantom": np.stack(rows, -1)})
    (part,) = open_phantom(f"maps:{tmp_path / 'a.mat'}").parts
    assert float(part.properties["b0_hz"][0, 4, 5]) == 20
    assert float(part.properties["t2_s"][0, 4, 5]) == pytest.approx(0.08)


def test_a_mrzero_phantom_keeps_its_tissues_apart(tmp_path: Path) -> None:
    gm, fat = open_phantom(written(tmp_path)).parts
    assert (gm.name, fat.name) == ("gm", "fat")
    assert fat.properties["t1_s"] == 0.37
    assert float(fat.properties["b0_hz"][0, 0, 0]) == -430
    assert fat.properties["b1"] == pytest.approx(0.9)
    assert gm.density[0, 4, 5] == np.float32(0.8)


def test_a_slice_averages_densities_and_keeps_their_sum() -> None:
    density = np.random.default_rng(0).random((2, 32, 32)).astype(np.float32)
    density[:, :4] = density[:, -4:] = density[:, :, :4] = density[:, :, -4:] = 0
    density[0] = 0
    density[:, 4, 4] = density[:, -5, -5] = 1
    phantom = Phantom((make_part("a", density, {"t1_s": 1.0, "t2_s": 0.1}),), np.eye(4))
    plane = phantom.slice(SliceSpec.parse("index:1"), 8, 32.0)
    assert plane.density.shape == (1, 16, 16)
    assert float(plane.density.sum()) * 4 == pytest.approx(float(density[1].sum()), rel=1e-3)
    with pytest.raises(InvalidInput, match="no protons"):
        phantom.slice(SliceSpec.parse("index:9"), 8, 32.0)


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('true')", "x.__class__", "x ** 9", "x if x else x", "[x]", "open", "",
     "lambda: 1", "x" + " + x" * 100, "1/0", "True", "(" * 190],
)  # fmt: skip
def test_a_mapping_is_arithmetic_and_nothing_else(text: str) -> None:
    with pytest.raises(InvalidInput, match="arithmetic"):
        mapped(text, np.ones((2, 2, 2), dtype=np.float32))
    values = np.array([[[1.0, 3.0]]], dtype=np.float32)
    assert mapped("-(x - x_min) / 2 + x_max * x_mean", values).ravel() == pytest.approx([6.0, 5.0])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"T1_map": np.full(SHAPE, 1200.0)}, "T1 in seconds"),
        ({"T1_map": np.full(SHAPE, np.nan)}, "all 0"),
        ({"T1_map": np.array([None, {}], dtype=object)}, "plain numbers"),
        ({"PD_map": np.full(SHAPE, np.inf)}, "PD"),
        ({"T2_map": np.zeros((2, 2))}, "shape of PD"),
    ],
)
def test_bad_maps_are_refused(tmp_path: Path, changes: dict[str, object], match: str) -> None:
    np.savez(tmp_path / "a.npz", **maps(**changes))
    with pytest.raises(InvalidInput, match=match):
        open_phantom(f"maps:{tmp_path / 'a.npz'}")


@pytest.mark.parametrize(
    ("tissue", "error", "match"),
    [
        ({"density": "../head.nii.gz[0]"}, InvalidInput, "beside it"),
        ({"density": "other.nii.gz[0]"}, MissingInput, "other.nii.gz"),
        ({"density": "head.nii.gz[7]"}, InvalidInput, "one of 3"),
        ({"density": "head.nii.gz"}, InvalidInput, "FILE"),
        ({"density": "head.nii.gz[0]", "T1": {"file": "head.nii.gz[0]", "func": "exit()"}},
         InvalidInput, "arithmetic"),
        ({"density": "head.nii.gz[0]", "T1": None, "T2": [1]}, InvalidInput, "T2"),
    ],
)  # fmt: skip
def test_bad_tissues_are_refused(
    tmp_path: Path, tissue: dict[str, object], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        open_phantom(written(tmp_path, tissues={"gm": tissue}))


def test_specs_of_phantoms_are_told_from_anatomies() -> None:
    assert is_phantom("maps:a.npz")
    assert is_phantom("mrzero:a.json")
    assert not is_phantom("bids:DIR")
    assert not is_phantom("maps:")
