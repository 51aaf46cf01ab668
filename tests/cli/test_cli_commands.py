"""The commands as a user runs them, on the default anatomy with small matrices."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.cli import main
from bmapest_ray.study.store import load_results

ISSUE_KEYS = {
    "status", "seconds", "setup_seconds", "total_seconds", "iterations", "protocol",
    "scan_time_s", "data", "scores", "files",
}  # fmt: skip
SCORES = {"psnr_db", "ssim", "dice", "dice_paper", "soft_dice", "mae", "volume_error"}

STUDY = """
name: small
question: Which of two protocols is better?
anatomy: {slices: ["below-top:75", "below-top:80"], matrix: 16}
protocols: ["t2prep[0:2]", "t1inv,t2prep"]
noise: {snr: 100, reference: "t1inv[3]"}
inversion: {start: uniform, settings: {max_iterations: 8}}
search: {n_trials: 2, space: {inversion.settings.inner_iterations: [4, 8]}}
compute: {runner: local}
tracking: {mlflow: false}
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Operators that the tests of this module share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _shared_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BMAPEST_CACHE", str(cache))


def told(words: list[str], capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What a command says in JSON, which must be all that it says on stdout."""
    assert main([*words, "--json"]) == 0
    return dict(json.loads(capfd.readouterr().out))


def refuse_nan(token: str) -> float:
    raise AssertionError(f"{token} is no JSON")


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "small.yaml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def finished(study_file: Path, cache: Path) -> Path:
    """A study's folder, run once for the module."""
    out = study_file.parent / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BMAPEST_CACHE", str(cache))
        assert main(["run", str(study_file), "--out", str(out)]) == 0
    return out


def test_invert_tells_all_that_it_should_and_recovers_the_maps(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["invert", "--matrix", "16", "--signal", "complex", "--out", str(tmp_path), "--json"]
    assert main(words) == 0
    out = json.loads(capfd.readouterr().out, parse_constant=refuse_nan)
    assert set(out) >= ISSUE_KEYS
    assert out["status"] == "CONVERGED"
    assert set(out["scores"]) == set(TISSUES)
    for scores in out["scores"].values():
        assert set(scores) == SCORES
        assert scores["psnr_db"] > 50
    assert out["seconds"] <= out["total_seconds"]
    assert out["data"]["snr"] is None
    for tissue in TISSUES:
        estimate, truth = (nibabel.load(out["files"][f"{p}{tissue}"]) for p in ("", "truth_"))
        assert np.allclose(estimate.affine, truth.affine)
        assert np.abs(estimate.get_fdata() - truth.get_fdata()).max() < 0.02
    assert Path(out["files"]["panel"]).stat().st_size > 1000


def test_simulate_writes_k_space_and_images_that_agree(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from bmapest_ray.simulate.reconstruct import images_of

    words = ["simulate", "--matrix", "16", "--protocol", "t1inv[0],t2prep[1]", "--snr", "50"]
    out = told([*words, "--out", str(tmp_path)], capfd)
    data = np.load(out["files"]["kspace"])
    assert data["kspace"].shape == (2, 16, 16)
    assert data["contrasts"].tolist() == out["contrasts"] == ["t1inv[0]", "t2prep[1]"]
    assert (data["sigma"] > 0).all()
    images = images_of(torch.from_numpy(data["kspace"])).numpy()
    magnitude = nibabel.load(next(p for p in out["files"]["images"] if "acq-t2prep1_part-mag" in p))
    assert np.allclose(magnitude.get_fdata()[:, :, 0].T, np.abs(images[1]), rtol=1e-4, atol=1e-4)


def test_noise_repeats_with_its_seed_and_changes_with_another(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["simulate", "--matrix", "16", "--protocol", "t2prep[1]", "--snr", "50"]
    spaces = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        out = told([*words, "--seed", seed, "--out", str(tmp_path / name)], capfd)
        spaces.append(np.load(out["files"]["kspace"])["kspace"])
    assert np.array_equal(spaces[0], spaces[1])
    assert not np.array_equal(spaces[0], spaces[2])


def test_run_ends_with_the_table_and_the_paths(
    study_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["run", str(study_file), "--out", str(tmp_path / "o"), "-o", "search.space={}"]
    assert main(words) == 0
    captured = capfd.readouterr()
    assert "Which of two protocols is better?" in captured.out
    assert "n = 1: no test" in captured.out
    assert captured.out.index("t1inv,t2prep") < captured.out.index("t2prep[0:2]")
    for name in ("maps", "results", "report.html"):
        assert str(tmp_path / "o" / name) in captured.out
        assert (tmp_path / "o" / name).exists()
    assert "4/4 jobs" in captured.err


def test_a_finished_study_resumed_runs_nothing_again(
    study_file: Path, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.glob("jobs/*/*.json")}
    capfd.readouterr()
    out = told(["run", str(study_file), "--out", str(finished), "--resume"], capfd)
    assert set(out["jobs"]) == {"SKIPPED"}
    assert {p: p.stat().st_mtime_ns for p in finished.glob("jobs/*/*.json")} == before
    assert out["status"] == "FINISHED"
    best, worst = out["protocols"]
    assert (best["label"], worst["label"]) == ("t1inv,t2prep", "t2prep[0:2]")
    assert out["test"] == "n = 1: no test"


def test_a_folder_with_results_is_not_overwritten(
    study_file: Path, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(study_file), "--out", str(finished)]) == 2
    assert "add --resume" in capfd.readouterr().err


def test_report_is_made_from_the_folder_alone(
    finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("report.html", "report.md"):
        (finished / name).unlink()
    capfd.readouterr()
    assert main(["report", str(finished), "--compare", "t2prep[0:2]", "t1inv,t2prep"]) == 0
    out = capfd.readouterr().out
    assert "t1inv,t2prep is ahead of t2prep[0:2] by" in out
    assert "n = 1: no test" in out
    page = (finished / "report.html").read_text()
    assert 'id="maps"' in page
    assert "Which of two protocols is better?" in page


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")
def test_mlflow_is_rebuilt_from_the_folder_alone_and_only_once(
    finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from bmapest_ray.tracking.mlflow_setup import default_uri, open_client

    capfd.readouterr()
    for _ in range(2):
        out = told(["study", "rebuild", str(finished)], capfd)
        assert "notes" not in out
        client = open_client(default_uri(finished))
        (experiment,) = (e for e in client.search_experiments() if e.name == "small")
        runs = client.search_runs([experiment.experiment_id], max_results=100)
        levels = [run.data.tags["bmapest.level"] for run in runs]
        assert [levels.count(level) for level in ("study", "trial", "job")] == [1, 6, 12]
        assert {run.info.status for run in runs} == {"FINISHED"}


def test_dry_run_counts_and_writes_nothing(
    study_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = told(["run", str(study_file), "--out", str(tmp_path / "o"), "--dry-run"], capfd)
    assert out["jobs"] == 2 * 2 * 2 + 2 * 2  # search: protocols x trials x slices; report
    assert out["runner"] == "local"
    assert out["protocols"]["t1inv,t2prep"]["scan_time_s"] > 80
    assert out["estimate"]["source"] == "measured rates"
    assert out["estimate"]["wall_seconds"] > 0
    assert not (tmp_path / "o").exists()


def test_dry_run_takes_times_of_earlier_studies(
    study_file: Path, finished: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    words = ["run", str(study_file), "--out", str(finished.parent / "next"), "--dry-run"]
    cost = told(words, capfd)["estimate"]
    assert cost["source"] == "jobs of earlier studies"
    frame = load_results(finished)
    seconds = frame[frame["protocol"] == "t1inv,t2prep"].drop_duplicates("job_id")["seconds"]
    assert cost["seconds_per_job"]["t1inv,t2prep"] == pytest.approx(seconds.median())
    assert main(words) == 0
    assert "of one worker, by jobs of earlier studies" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--protocol", "t1inf"], "did you mean 't1inv'?"),
        (["--subject", "7"], "must be one of mni152"),
        (["--anatomy", "bids:/nowhere"], "needs a folder"),
        (["--solver", "gauss-newtom"], "did you mean 'gauss-newton'?"),
        (["--snr", "0"], "greater than 0"),
        (["--matrix", "63"], "even"),
        (["--start", "cohort"], "needs subjects other than"),
        (["--b0", "nothing.nii.gz"], "must be none, analytic, paper or a file"),
        (["--mixing", "averag"], "did you mean 'average'?"),
        (["--slice", "top"], "below-top:MM"),
    ],
)
def test_bad_input_of_invert(
    words: list[str], hint: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["invert", *words, "--out", str(tmp_path), "--json"]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert hint in captured.err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["-o", "anatomy.slice=z:1"], "did you mean 'slices'?"),
        (["-o", "anatomy.subjects=[nobody]"], "must be one of mni152"),
        (["-o", "inversion.solver=adm"], "did you mean 'adam'?"),
        (
            ["-o", "tracking.mlflow=http://127.0.0.1:9"],
            "tracking.mlflow must name an MLflow server",
        ),
        (["-o", "protocols=[]"], "protocols"),
        (["--out", "/proc/nowhere"], "must be writable"),
        (["--runner", "slurm"], "compute.runner"),
    ],
)
def test_bad_input_of_run(
    words: list[str], hint: str, study_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(study_file), *words]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert hint in captured.err.splitlines()[-1]
    assert "Traceback" not in captured.err


def test_a_study_that_is_not_there_is_named_with_the_closest(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(["run", "quikstart"]) == 2
    assert "did you mean 'quickstart'?" in capfd.readouterr().err
