"""Priors, posterior, verdict and honest data from the command line."""

import json
from pathlib import Path

import nibabel as nib
import pytest

from bmapest_ray.cli import main

SMALL = ["invert", "--matrix", "16", "--protocol", "t2prep", "--signal", "complex", "--b0", "none",
         "--b1", "none", "--json"]  # fmt: skip


def told(capfd: pytest.CaptureFixture[str], out: Path, *words: str, snr: str = "50") -> dict:
    assert main([*SMALL, "--snr", snr, "--out", str(out), *words]) == 0
    return json.loads(capfd.readouterr().out)


def test_a_matched_fit_is_ok_and_its_spread_is_written(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("--prior", "tv", "--prior-setting", "strength=2", "--posterior")
    result = told(capfd, tmp_path, *words)
    assert result["fit"] == "OK"
    assert (result["prior"], result["prior_settings"]) == ("tv", {"strength": 2})
    path = Path(result["files"]["std_CSF"])
    assert path.name == "sub-mni152_label-CSF_desc-std_probseg.nii.gz"
    values = nib.load(path).get_fdata()
    assert 0 < values.max() < 1
    assert (
        "standard deviation"
        in path.with_name("sub-mni152_label-CSF_desc-std_probseg.json").read_text()
    )


def test_data_of_another_model_are_named_and_do_not_fit(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    result = told(capfd, tmp_path, "--data-tissue", "T2=-20%", snr="100")
    assert result["fit"] == "MISFIT"
    assert not result["data"]["same_model"]
    assert "another model" in result["data"]["summary"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--prior", "cohrt"], "did you mean 'cohort'"),
        (["--prior", "tv"], "needs a noise level"),
        (["--prior", "tv", "--prior-setting", "strength"], "must look like"),
        (["--data-tissue", "T9=+5%"], "T9"),
        (["--data-mixing", "averag"], "did you mean 'average'"),
    ],
)
def test_wrong_knobs_end_with_a_sentence(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], named: str
) -> None:
    assert main([*SMALL, "--out", str(tmp_path), *words]) == 2
    assert named in capfd.readouterr().err
