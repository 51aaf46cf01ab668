"""Images, sidecars and masks: what is refused, in one sentence each, and what is understood."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from bmapest_ray.anatomy.nifti import Volume
from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.scan.head import neighbour_mean, otsu
from bmapest_ray.scan.image_spec import ImageSpec
from bmapest_ray.scan.images import onto_grid, read_image, read_scan
from bmapest_ray.scan.noise_level import noise_sigma
from bmapest_ray.scan.response import Response, response_of
from bmapest_ray.scan.sidecar import check_field_strength, complete, read_sidecar
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.protocol import Chain, Contrast, Protocol
from bmapest_ray.tissue.table import PAPER_3T


def ramp(shape: tuple[int, int, int] = (6, 7, 8)) -> np.ndarray:
    """Return a volume `(x, y, z)` that is linear in its indices."""
    x, y, z = np.indices(shape)
    return (1 + x + 10.0 * y + 100.0 * z).astype(np.float32)


def write(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
    return path


def one_sentence(error: pytest.ExceptionInfo[Exception]) -> bool:
    text = str(error.value)
    return "\n" not in text and ". " not in text.replace(".nii", "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: np.where(d == d[3, 3, 3], np.nan, d), "finite"),
        (lambda d: d - 50, "magnitude"),
        (lambda d: d * 0 + 3, "show something"),
        (lambda d: d * (np.arange(8) != 4), "slice 4"),
        (lambda d: np.stack([d, d], -1), "3-D"),
        (lambda d: d + 1j, "complex"),
        (
            lambda d: np.zeros(d.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]),
            "colour",
        ),
    ],
)
def test_a_bad_image_is_refused_in_one_sentence(change, words, tmp_path: Path) -> None:
    data = change(ramp())
    kind = data.astype(np.float32) if data.dtype.kind == "f" else data
    with pytest.raises(InvalidInput, match=words) as error:
        read_image(write(tmp_path / "image.nii.gz", kind))
    assert one_sentence(error)


def test_a_missing_or_broken_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match="there is none"):
        read_image(tmp_path / "none.nii.gz")
    (tmp_path / "text.nii.gz").write_text("no image")
    with pytest.raises(InvalidInput, match="readable"):
        read_image(tmp_path / "text.nii.gz")


def test_images_on_other_grids_are_interpolated_in_the_world(tmp_path: Path) -> None:
    first = write(tmp_path / "a.nii.gz", ramp())
    shifted = np.eye(4)
    shifted[:3, 3] = [0.5, -0.5, 0.25]
    coarse = np.diag([-1.0, 1.0, 1.0, 1.0])
    coarse[0, 3] = 5.0
    for affine, data in ((shifted, ramp()), (coarse, ramp()[::-1])):
        scan = read_scan([first, write(tmp_path / "b.nii.gz", np.ascontiguousarray(data), affine)])
        x, y, z, _ = np.linalg.inv(affine) @ [3, 3, 3, 1]
        x = 5 - x if affine[0, 0] < 0 and data is not None and affine is coarse else x
        expected = 1 + x + 10 * y + 100 * z
        assert scan.images[1][3, 3, 3] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shift", [(2, 0, -1), (-3, 1, 0), (0, 0, 0), (20, 0, 0)])
def test_a_whole_shift_copies_what_interpolation_gives(shift: tuple[int, int, int]) -> None:
    affine = np.eye(4)
    affine[:3, 3] = shift
    volume = Volume(ramp().transpose(2, 1, 0), np.eye(4))
    copied = onto_grid(volume, (5, 9, 4), affine)
    affine[2, 3] -= 2e-3  # too much for a copy; a voxel is 100 more than the one below it
    values, inside = onto_grid(volume, (5, 9, 4), affine)
    assert np.array_equal(copied[1], inside)
    away = np.abs(copied[0] - values)[inside & (copied[0] >= 200)]
    assert away.max(initial=0) < 0.21


def test_images_far_apart_are_refused(tmp_path: Path) -> None:
    away = np.eye(4)
    away[0, 3] = 100
    paths = [write(tmp_path / "a.nii", ramp()), write(tmp_path / "b.nii", ramp(), away)]
    with pytest.raises(InvalidInput, match="overlap") as error:
        read_scan(paths)
    assert one_sentence(error)


def test_an_image_must_name_its_protocol() -> None:
    assert ImageSpec.parse("a=b.nii=mp2rage:inv2") == ImageSpec(Path("a=b.nii"), "mp2rage", "inv2")
    for text in ("a.nii", "=mprage", "a.nii="):
        with pytest.raises(InvalidInput, match="FILE=PROTOCOL"):
            ImageSpec.parse(text)


FIELDS = {"RepetitionTime": 2.0, "EchoTime": 0.003, "InversionTime": 1.0, "FlipAngle": 8}


def with_sidecar(folder: Path, **content: object) -> Path:
    (folder / "x_T1w.json").write_text(json.dumps(content))
    return folder / "x_T1w.nii.gz"


def test_a_sidecar_completes_the_protocol(tmp_path: Path) -> None:
    image = with_sidecar(tmp_path, **FIELDS, PatientName="Doe^Jane", PatientBirthDate="19700101")
    fields = read_sidecar(image)
    assert fields == {k: float(v) for k, v in FIELDS.items()}
    known = dict(complete(parse_protocol("mprage"), fields, image).contrasts[0].parameters)
    assert known["repetition_time_s"] == 2.0
    assert known["inversion_time_s"] == 1.0
    assert known["flip_angle_deg"] == 8.0


def test_the_echo_time_of_a_turbo_spin_echo_is_met_by_a_multiple_of_the_spacing(
    tmp_path: Path,
) -> None:
    image = with_sidecar(tmp_path, RepetitionTime=4.0, EchoTime=0.092)
    done = complete(parse_protocol("tse_t2w"), read_sidecar(image), image)
    known = dict(done.contrasts[0].parameters)
    assert known["echo_time_s"] / known["echo_spacing_s"] == pytest.approx(7)


def test_missing_fields_and_bad_values_are_named(tmp_path: Path) -> None:
    image = with_sidecar(tmp_path, RepetitionTime=2.0, EchoTime=0.003)
    with pytest.raises(InvalidInput, match="InversionTime, FlipAngle") as error:
        complete(parse_protocol("mprage"), read_sidecar(image), image)
    assert one_sentence(error)
    with pytest.raises(InvalidInput, match="positive number"):
        read_sidecar(with_sidecar(tmp_path, RepetitionTime="2"))
    with pytest.raises(InvalidInput, match="tesla"):
        check_field_strength({"MagneticFieldStrength": 30000.0}, 3.0, image)
    (tmp_path / "x_T1w.json").write_text("{")
    with pytest.raises(InvalidInput, match="JSON"):
        read_sidecar(image)


def test_the_noise_of_air_and_of_a_stripped_head_is_found() -> None:
    rng = np.random.default_rng(0)
    axis = np.linspace(-1, 1, 48)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    head = x**2 + y**2 + z**2 < 0.5
    clean = np.where(head, 100 + 20 * x, 0)
    real, imaginary = rng.normal(0, 3, (2, *clean.shape))
    image = np.hypot(clean + real, imaginary).astype(np.float32)
    assert noise_sigma(image, head) == pytest.approx(3, rel=0.05)
    stripped = np.where(head, image, 0).astype(np.float32)
    assert noise_sigma(stripped, head) == pytest.approx(3, rel=0.25)


def test_neighbours_and_thresholds() -> None:
    fraction = np.zeros((3, 3, 3, 3), dtype=np.float32)
    fraction[1, 0, 1, 1], fraction[1, 1, 1, 0] = 0.6, 0.9
    mask = np.zeros((3, 3, 3), dtype=bool)
    mask[1, 1, 1] = True
    assert neighbour_mean(fraction, mask) == pytest.approx(np.array([[0, 0.25, 0]]))
    assert 0 < otsu(np.r_[np.zeros(50), np.full(50, 10.0)].astype(np.float32)) < 10


def test_the_response_of_a_spin_echo_is_its_closed_form() -> None:
    contrast = Contrast(
        "se", "spin_echo", (("echo_time_s", 0.03), ("repetition_time_s", 1.0)), pause_s=0.0
    )
    protocol = Protocol("se", (Chain((contrast,)),))
    found = response_of(protocol, PAPER_3T, 16, 0.2)
    t1, t2 = PAPER_3T.column("t1_s"), PAPER_3T.column("t2_s")
    zero = torch.zeros(3, dtype=torch.float64)
    weights, slope = Response.b1_weights(torch.ones(1, dtype=torch.float64))
    signal = torch.einsum("vn,nct->t", weights, found.at(zero, zero))
    steady = 1 - 2 * torch.exp(-(1.0 - 0.015) / t1) + torch.exp(-1.0 / t1)
    expected = steady * torch.exp(-0.03 / t2)
    ratio = signal / signal[1] / (expected / expected[1])
    assert ratio[0] == pytest.approx(1, abs=0.02)
    step = 1e-3
    ends = [
        Response.b1_weights(torch.tensor([1 + s], dtype=torch.float64))[0] for s in (step, -step)
    ]
    assert torch.allclose((ends[0] - ends[1]) / (2 * step), slope, atol=1e-3)
    assert found.quadrature < 0.05
