"""Images with their phase: read, freed of what is smooth, and fitted with the signs that it gives.

The inversion recovery here has its time where magnitudes of WM and GM are alike and their signs
are not: what a magnitude image cannot show.
"""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from scan_phantom import SIZE, head_fractions, made_up_response, prior_of
from test_scan_fit import SETTINGS, silent

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.cli.estimate_bids import participants
from bmapest_ray.scan.cohort_prior import spatial_prior
from bmapest_ray.scan.components import simplex_components
from bmapest_ray.scan.estimate import fit_scan, make_head
from bmapest_ray.scan.image_spec import ImageSpec, with_phases
from bmapest_ray.scan.images import Scan, read_scan
from bmapest_ray.scan.mrd import added_in_phase
from bmapest_ray.scan.nuisances import Layout, SignalModel
from bmapest_ray.scan.phase import is_smooth, real_part
from bmapest_ray.scan.response import Response
from bmapest_ray.scan.verdict import warnings_of
from bmapest_ray.scan.voxels import moments_of
from bmapest_ray.scan.workplace import Workplace
from bmapest_ray.tissue.table import PAPER_3T

RESPONSE = made_up_response(2, ((0.6, 2.0, 0.003), (4.5, 4.5, 0.09)))
SNR, SCALE = 60.0, 900.0
KNOWN = replace(SETTINGS, fixed=("bias", "offset", "t1", "t2", "pd", "b1"), sweeps=0)
AFFINE = np.diag([6.0, 6.0, 6.0, 1.0])


def coil_phase() -> np.ndarray:
    """Return a phase of more than a turn across the head, no polynomial, `(z, y, x)`."""
    axis = np.linspace(-1, 1, SIZE)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return 3 * x - 2 * y**2 + 1.2 * np.exp(-((x - 0.3) ** 2 + y**2 + z**2) / 0.3) + 2


def shown(fraction: np.ndarray) -> np.ndarray:
    """Return the complex images of the head with noise, `(contrast, z, y, x)`."""
    zero = torch.zeros(3, dtype=torch.float64)
    weight, _ = Response.b1_weights(torch.ones(1, dtype=torch.float64))
    pure = RESPONSE.at(zero, zero) * PAPER_3T.column("pd")
    signal = torch.einsum("n,nct->ct", weight[0], pure).numpy()
    image = SCALE * np.einsum("ct,tzyx->czyx", signal, fraction)
    sigma = np.abs(image).max((1, 2, 3), keepdims=True) / SNR
    noise = sigma * np.random.default_rng(0).standard_normal((2, *image.shape))
    return np.asarray(image * np.exp(1j * coil_phase()) + noise[0] + 1j * noise[1])


def write(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(data.transpose(2, 1, 0), affine), path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with magnitudes, and a phase in radians and in scanner units."""
    folder, images = tmp_path_factory.mktemp("complex"), shown(head_fractions())
    for name, image in zip(("ir", "se"), images, strict=True):
        write(folder / f"{name}.nii", np.abs(image).astype(np.float32))
    turn = np.angle(images[0]) / np.pi
    write(folder / "rad.nii", (turn * np.pi).astype(np.float32))
    write(folder / "units.nii", np.round(turn * 4095).astype(np.int16))
    return folder


def posterior_error(scan: Scan, contrasts: int) -> float:
    """Return the mean error of the posterior of some contrasts, nuisances known, no cohort."""
    chosen = replace(scan, images=scan.images[:contrasts])
    fraction = head_fractions()
    mask, parts = fraction.sum(0) > 0.5, simplex_components()
    head, level = make_head(chosen, mask, spatial_prior(None, mask))
    response = replace(
        RESPONSE, names=RESPONSE.names[:contrasts], values=RESPONSE.values[:contrasts]
    )
    model = SignalModel(response, Layout(contrasts, 3), tuple(scan.signed))
    vector = torch.zeros(model.layout.total, dtype=torch.float64)
    vector[model.layout.places()["scale"]] = float(np.log(SCALE))
    sure = replace(level, relative=torch.full((contrasts,), 0.005))
    found = moments_of(head.voxels(slice(None), parts), model, vector, sure, parts)
    return float(np.abs(found.mean.numpy().T - fraction[:, mask]).mean())


@pytest.mark.parametrize(("contrasts", "share"), [(1, 0.5), (2, 0.6)])
def test_signs_tell_what_magnitudes_hide(contrasts: int, share: float, files: Path) -> None:
    paths = [files / "ir.nii", files / "se.nii"]
    signed = read_scan(paths, [files / "units.nii", None])
    assert list(signed.signed) == [0]
    white = head_fractions()[1] > 0.9
    if signed.signed[0][white].mean() < 0:  # a fit finds this out, below
        signed.signed[0].__imul__(-1)
    blind = posterior_error(read_scan(paths), contrasts)
    assert posterior_error(signed, contrasts) < share * blind


def test_a_fit_finds_which_way_up_an_image_is(files: Path, tmp_path: Path) -> None:
    fraction = head_fractions()
    mask, fits = fraction.sum(0) > 0.5, []
    for sign in (1, -1):
        scan = read_scan([files / "ir.nii", files / "se.nii"], [files / "units.nii", None])
        scan.signed[0].__imul__(sign)
        head, level = make_head(scan, mask, prior_of(fraction, mask))
        place = Workplace(tmp_path / str(sign), "k" * 20)
        fits.append(fit_scan(scan, head, level, RESPONSE, KNOWN, place, silent))
    assert np.array_equal(fits[0].fraction, fits[1].fraction)
    assert np.abs(fits[0].fraction - fraction)[:, mask].mean() < 0.02
    assert any("scanner units" in note for note in warnings_of(fits[0]))
    white = fraction[1] > 0.9
    assert abs(fits[0].residual[0][white].mean()) < 3.0  # of 72: the residual has signs too


def test_what_is_smooth_is_taken_out_and_signs_are_left(files: Path) -> None:
    true = (shown(head_fractions())[0] * np.exp(-1j * coil_phase())).real
    real, across = real_part(shown(head_fractions())[0].astype(np.complex64), AFFINE)
    both = [np.abs(sign * real - true).mean() for sign in (1, -1)]
    assert min(both) < 0.02 * np.abs(true).mean()
    assert is_smooth(across)
    first, second = (
        read_scan([files / "ir.nii"], [files / name]).signed[0] for name in ("rad.nii", "units.nii")
    )
    assert np.abs(first - second)[np.abs(true) > 20].max() < 0.2
    random = np.exp(2j * np.pi * np.random.default_rng(0).random(true.shape))
    assert not is_smooth(real_part((true * random).astype(np.complex64), AFFINE)[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p * 0, "must vary"),
        (lambda p: p / np.pi * 180, "radians or in scanner units"),
        (lambda p: np.where(p > 3, np.nan, p), "finite"),
        (lambda p: p[:-1], "grid of its magnitude"),
        (lambda p: np.random.default_rng(0).uniform(-3, 3, p.shape), "smooth but for signs"),
    ],
)
def test_a_bad_phase_is_refused_in_one_sentence(change, words, files: Path, tmp_path: Path) -> None:
    angle = change(np.angle(shown(head_fractions())[0]))
    path = write(tmp_path / "phase.nii", angle.astype(np.float32))
    with pytest.raises(InvalidInput, match=words) as error:
        read_scan([files / "ir.nii"], [path])
    assert "\n" not in str(error.value)


def test_a_phase_names_the_image_it_belongs_to(tmp_path: Path) -> None:
    images = [ImageSpec.parse(text) for text in ("a.nii=mprage", "b.nii=mp2rage:inv1")]
    joined = with_phases(images, [ImageSpec.parse("p.nii=mp2rage:inv1")])
    assert [spec.phase for spec in joined] == [None, Path("p.nii")]
    for text in ("p.nii=mp2rage", "p.nii=tse_t2w"):
        with pytest.raises(InvalidInput, match="name the protocol of one image"):
            with_phases(images, [ImageSpec.parse(text)])
    with pytest.raises(InvalidInput, match="once with --phase"):
        with_phases(joined, [ImageSpec.parse("q.nii=mp2rage:inv1")])
    anat = tmp_path / "sub-01/anat"
    anat.mkdir(parents=True)
    (tmp_path / "p.yaml").write_text("T1w: mprage\n")
    for part in ("mag", "phase"):
        (anat / f"sub-01_part-{part}_T1w.nii.gz").touch()
    arguments = (str(tmp_path), "out", "participant")
    (spec,) = participants(arguments, [], tmp_path / "p.yaml")[0]["01"]
    assert spec.path.name == "sub-01_part-mag_T1w.nii.gz"
    assert spec.phase == anat / "sub-01_part-phase_T1w.nii.gz"


def test_coils_are_added_with_one_phase_and_the_size_of_a_root_of_squares() -> None:
    true = (shown(head_fractions())[0] * np.exp(-1j * coil_phase())).real
    place = np.linspace(-1, 1, SIZE)
    weights = [np.exp(1j * place) * (1.5 + place), 2j - place, np.exp(2j * place)]
    seen = np.stack([(true * weight).astype(np.complex64) for weight in weights])
    added = added_in_phase(seen)
    root = np.sqrt((np.abs(seen) ** 2).sum(0))
    bright = root > 0.3 * root.max()
    assert np.abs(np.abs(added) - root)[bright].max() < 0.05 * root.max()
    real, _ = real_part(added, AFFINE)
    assert abs((np.sign(real) * np.sign(true))[bright].mean()) > 0.999
