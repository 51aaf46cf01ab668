import numpy as np
import pytest
from brainweb_phantom import GRID, labels, minc, write_gz
from scipy.ndimage import gaussian_filter

from bmapest_ray.anatomy.bids import BidsAnatomy
from bmapest_ray.anatomy.brainweb import BrainwebAnatomy, export_bids
from bmapest_ray.anatomy.brainweb_files import find_files
from bmapest_ray.anatomy.brainweb_formats import read_bytes_volume
from bmapest_ray.anatomy.catalog import open_anatomy
from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.base.tissues import TISSUES

MEMBERS = {"GM": (2,), "WM": (3,), "CSF": (1, 8)}


def one_hot(tissue):
    return np.isin(labels(), MEMBERS[tissue]).astype(np.float32)


def averaged(data):
    z, y, x = (n // 2 for n in data.shape)
    return data.reshape(z, 2, y, 2, x, 2).mean((1, 3, 5))


def crisp_folder(folder, name="subject04_crisp_v.mnc.gz"):
    folder.mkdir(exist_ok=True)
    write_gz(folder / name, minc(labels(), signed=False, cut_tail=True))
    return folder


def fuzzy_folder(folder, subject="04"):
    """Fractions in the form's raw bytes; vessels with their one level of background."""
    for model, members in (("gry", (2,)), ("wht", (3,)), ("csf", (1,)), ("ves", (8,))):
        levels = np.where(np.isin(labels(), members), 255, model == "ves").astype(np.uint8)
        levels[:, 0, 0] = 0
        write_gz(folder / f"subject{subject}_{model}.i8.gz", (levels + np.uint8(128)).tobytes())
    return folder


def test_crisp_labels_become_the_blurred_average(tmp_path):
    volume = BrainwebAnatomy(crisp_folder(tmp_path)).volume("sub-04")
    expected = np.stack([averaged(gaussian_filter(one_hot(t), 0.5)) for t in TISSUES])
    assert expected[0, 0, 0, 15] > 0.1  # the stray voxel, far from the brain
    np.testing.assert_array_equal(volume.fraction[0, 0, 0, 15], 0)
    expected[0, :2, :2, 14:] = 0
    np.testing.assert_allclose(volume.fraction, expected, atol=2e-6)
    assert volume.fraction[2, 5, 7, 11] > 0.2  # the vessel counts as CSF


def test_world_coordinates_survive_the_averaging(tmp_path):
    volume = BrainwebAnatomy(crisp_folder(tmp_path)).volume("04")
    mass = one_hot("WM")
    fine = [
        start + 0.5 * float((mass * np.indices(mass.shape)[axis]).sum() / mass.sum())
        for start, axis in zip(GRID.start_mm, (2, 1, 0), strict=True)
    ]
    white = volume.fraction[1]
    index = [float((white * np.indices(white.shape)[a]).sum() / white.sum()) for a in (2, 1, 0)]
    np.testing.assert_allclose(volume.affine @ [*index, 1], [*fine, 1], atol=1e-4)
    assert fine[0] != pytest.approx(fine[1])  # a swapped axis would show


def test_fuzzy_models_are_averaged_without_blur(tmp_path):
    volume = BrainwebAnatomy(fuzzy_folder(tmp_path), GRID).volume("04")
    expected = np.stack([averaged(one_hot(t)) for t in TISSUES])
    expected[0, :2, :2, 14:] = 0
    np.testing.assert_allclose(volume.fraction, expected, atol=1e-2 / 2)
    assert volume.fraction[2, 1, 1, 1] == 0  # the vessels' background level is gone
    assert volume.fraction.sum(0).max() <= 1 + 1e-6


def test_fuzzy_is_preferred_where_no_subject_lacks_it(tmp_path):
    anatomy = BrainwebAnatomy(fuzzy_folder(crisp_folder(tmp_path)), GRID)
    assert anatomy.label == "BrainWeb, fuzzy models (1 subjects)"
    fuzzy = anatomy.digest("04")
    crisp_folder(tmp_path, "subject05_crisp.mnc.gz")
    assert anatomy.label == "BrainWeb, crisp models (2 subjects)"
    assert anatomy.digest("04") != fuzzy
    assert anatomy.digest("04") == anatomy.digest("05")
    fuzzy_folder(tmp_path, "06")
    with pytest.raises(InvalidInput, match="subject 06"):
        anatomy.volume("04")


def test_a_folder_per_subject_and_the_best_format_are_found(tmp_path):
    crisp_folder(tmp_path / "subject42", "subject42_crisp.mnc.gz")
    write_gz(tmp_path / "subject42" / "subject42_crisp.i8.gz", b"")
    write_gz(tmp_path / "subject42_skull_v.mnc.gz", b"")
    write_gz(tmp_path / "subject42_crisp.mnc.gz.part", b"")
    assert {m: p.name for m, p in find_files(tmp_path)["42"].items()} == {
        "crisp": "subject42_crisp.mnc.gz"
    }


def test_open_anatomy_knows_brainweb(tmp_path):
    anatomy = open_anatomy(f"brainweb:{crisp_folder(tmp_path)}")
    assert open_anatomy(anatomy.spec) == anatomy
    assert anatomy.subjects == ("04",)
    with pytest.raises(InvalidInput, match="must be one of 04, got '4'"):
        anatomy.volume("4")
    with pytest.raises(InvalidInput, match="name a folder as brainweb:DIR"):
        open_anatomy("brainweb")
    with pytest.raises(MissingInput, match="is none"):
        open_anatomy(f"brainweb:{tmp_path / 'nowhere'}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInput, match="bmapest fetch brainweb"):
        open_anatomy(f"brainweb:{tmp_path / 'empty'}")


def test_files_without_a_brain_are_refused(tmp_path):
    content = minc(np.where(labels() > 0, 7, 0).astype("u1"), signed=False)
    write_gz(tmp_path / "subject04_crisp.mnc.gz", content)
    with pytest.raises(InvalidInput, match=r"GM \+ WM > 0\.5"):
        BrainwebAnatomy(tmp_path).volume("04")


def test_exported_maps_open_as_bids(tmp_path):
    anatomy = BrainwebAnatomy(crisp_folder(tmp_path / "raw"))
    done = []
    paths = export_bids(anatomy, tmp_path / "bids", on_subject=done.append)
    assert done == ["04"]
    assert len(paths) == 3
    copy = BidsAnatomy(tmp_path / "bids").volume("04")
    np.testing.assert_array_equal(copy.fraction, anatomy.volume("04").fraction)
    np.testing.assert_array_equal(copy.affine, anatomy.volume("04").affine)


@pytest.fixture
def raw_files(brainweb_dir):
    folder = brainweb_dir / "brainweb_raw"
    if not folder.is_dir():
        pytest.skip(f"no original BrainWeb files: {folder} is missing")
    return folder


@pytest.mark.slow
def test_original_crisp_file_gives_the_known_maps(raw_files, brainweb_dir):
    """The 14 maps were made from the same labels and rounded to 8 bits."""
    volume = open_anatomy(f"brainweb:{raw_files}").volume("04")
    known = open_anatomy(f"bids:{brainweb_dir / 'brainweb14'}").volume("04")
    np.testing.assert_array_equal(volume.affine, known.affine)
    error = np.abs(volume.fraction - known.fraction)
    assert (error > 1.5 / 255).sum() <= 10  # voxels at the rim of the head, of 21 million
    assert np.sqrt((error**2).mean()) < 1e-3


@pytest.mark.slow
def test_original_fuzzy_files_reach_from_zero_to_nearly_one(raw_files):
    skull = read_bytes_volume(raw_files / "subject04_skull_v.mnc.gz", crisp=False)
    assert skull.commonest_level() == 0
    planes = [skull.plane(z) for z in range(0, 362, 20)]
    assert min(p.min() for p in planes) == 0
    assert max(p.max() for p in planes) == pytest.approx(0.996, abs=2e-3)
    vessels = read_bytes_volume(raw_files / "subject04_vessels.mnc.gz", crisp=False)
    assert vessels.commonest_level() == 1  # nearly all background, with a few voxels of level 0
    assert vessels.levels.min() == 0
