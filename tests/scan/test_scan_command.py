"""``bmapest estimate`` on files: what it writes, that names stay out, bad input, a BIDS dataset."""

import gzip
import json
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scan_phantom import head_fractions

from bmapest_ray.anatomy.bids_io import write_maps
from bmapest_ray.anatomy.nifti import load_volume
from bmapest_ray.cli.entry import run_safely

PLANTED = ("Zyxwdoe", "Qvjane", "19700203", "MRN4711", "StMaryzz")
AFFINE = np.diag([6.0, 6.0, 6.0, 1.0])
KNOBS = ("--setting", "lines=32", "--setting", "sample=1000", "--setting", "sweeps=0")


T1_WEIGHTED, T2_WEIGHTED = (230.0, 320.0, 105.0), (210.0, 150.0, 500.0)


def write_scan(folder: Path, greys: tuple[float, float, float] = T1_WEIGHTED) -> Path:
    """Write an image that carries names and dates wherever a file can."""
    fraction = head_fractions()
    image = np.einsum("t,tzyx->zyx", greys, fraction)
    rng = np.random.default_rng(0)
    image = np.hypot(image + rng.normal(0, 4, image.shape), rng.normal(0, 4, image.shape))
    nifti = nibabel.Nifti1Image(image.transpose(2, 1, 0).astype(np.float32), AFFINE)
    nifti.header["descrip"] = b"Zyxwdoe^Qvjane 19700203"
    nifti.header["db_name"] = b"MRN4711"
    nifti.header["aux_file"] = b"StMaryzz"
    nifti.header["intent_name"] = b"Qvjane"
    nifti.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, b"Zyxwdoe^Qvjane MRN4711"))
    path = folder / "Zyxwdoe_Qvjane_19700203_T1w.nii.gz"
    nibabel.save(nifti, path)
    sidecar = {"RepetitionTime": 0.6, "EchoTime": 0.015, "PatientName": "Zyxwdoe^Qvjane"}
    sidecar |= {
        "PatientBirthDate": "19700203",
        "InstitutionName": "StMaryzz",
        "PatientID": "MRN4711",
    }
    (folder / "Zyxwdoe_Qvjane_19700203_T1w.json").write_text(json.dumps(sidecar))
    return path


def write_cohort(folder: Path) -> Path:
    fraction = head_fractions()
    for number, shift in enumerate((-1, 0, 1)):
        write_maps(np.roll(fraction, shift, axis=3), AFFINE, folder, f"c{number}")
    return folder


def every_text(folder: Path) -> str:
    """Return all bytes under a folder, uncompressed, as text, with the names of files."""
    texts = []
    for path in sorted(folder.rglob("*")):
        texts.append(path.name)
        if path.is_file():
            content = path.read_bytes()
            content = gzip.decompress(content) if path.suffix == ".gz" else content
            texts.append(content.decode("latin-1"))
    return "\n".join(texts)


def test_maps_are_written_and_no_name_goes_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    image, cohort = write_scan(tmp_path / "in"), write_cohort(tmp_path / "cohort")
    out = tmp_path / "out"
    words = ["estimate", "--image", f"{image}=se_t1w", "--cohort", f"bids:{cohort}"]
    code = run_safely([*words, "--out", str(out), *KNOBS, "--json"])
    shown = capfd.readouterr()
    assert code == 0, shown.err
    answer = json.loads(shown.out)
    shown_text = shown.err + shown.out.replace(str(tmp_path), "")
    for planted in PLANTED:
        assert planted not in every_text(out)
        assert planted not in shown_text
    white = load_volume(out / "sub-scan/anat/sub-scan_label-WM_probseg.nii.gz")
    assert np.allclose(white.affine, AFFINE)
    assert np.abs(white.data - head_fractions()[1]).mean() < 0.03
    truth = head_fractions()[1].sum() * 0.216
    assert answer["volumes_ml"]["WM"] == pytest.approx(truth, rel=0.15)
    assert not (out / ".bmapest-work").exists()
    provenance = json.loads((out / "sub-scan/anat/sub-scan_desc-fit_provenance.json").read_text())
    assert provenance["images"][0]["acquisition"] == {"RepetitionTime": 0.6, "EchoTime": 0.015}


def test_a_protocol_that_did_not_make_the_image_is_flagged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image, cohort = write_scan(tmp_path, T2_WEIGHTED), write_cohort(tmp_path / "cohort")
    words = ["estimate", "--image", f"{image}=se_t1w", "--cohort", f"bids:{cohort}", *KNOBS]
    assert run_safely([*words, "--out", str(tmp_path / "out"), "--json"]) == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["warnings"][0].startswith("MISFIT")
    report = (tmp_path / "out" / "sub-scan.html").read_text()
    assert "MISFIT" in report
    assert "The protocol explains the images." not in report


def test_brightness_alone_does_not_prove_a_protocol(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image = write_scan(tmp_path, T2_WEIGHTED)
    words = ["estimate", "--image", f"{image}=se_t1w", *KNOBS, "--out", str(tmp_path / "out")]
    assert run_safely([*words, "--json"]) == 0
    sentence = "one image without a cohort: brightness alone"
    assert any(s.startswith(sentence) for s in json.loads(capfd.readouterr().out)["warnings"])
    report = (tmp_path / "out" / "sub-scan.html").read_text()
    assert f'class="answer">{sentence}' in report
    assert "The protocol explains the images." not in report


def test_a_bids_dataset_needs_a_protocol_and_one_image_each(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bids" / "sub-01" / "anat").mkdir(parents=True)
    form = ["estimate", str(tmp_path / "bids"), str(tmp_path / "out")]
    assert run_safely([*form, "group"]) == 2
    assert "BIDS_DIR OUT_DIR participant" in capfd.readouterr().err
    assert run_safely([*form, "participant"]) == 2
    assert "--protocol" in capfd.readouterr().err
    (tmp_path / "p.yaml").write_text("T1w: mprage\n")
    assert run_safely([*form, "participant", "--protocol", str(tmp_path / "p.yaml")]) == 2
    assert "one T1w image" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--image", "a.nii=mprage"], "--out"),
        (["--out", "OUT"], "at least one image"),
        (["--image", "a.nii", "--out", "OUT"], "FILE=PROTOCOL"),
        (["--image", "a.nii=mprage", "--out", "OUT", "--fix", "t3"], "nuisance"),
        (["--image", "a.nii=mprage", "--out", "OUT", "--subject", "Jane Doe"], "letters"),
        (["--image", "a.nii=mprage", "--out", "OUT", "--setting", "lines=x"], "name=number"),
        (["--image", "none.nii=mprage", "--out", "OUT"], "there is none"),
    ],
)
def test_bad_words_are_one_sentence(
    words: list[str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [str(tmp_path / "out") if word == "OUT" else word for word in words]
    assert run_safely(["estimate", *words]) == 2
    error = capfd.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert sys.exc_info()[0] is None
