"""A real job, small: simulated, inverted, scored, written and read back."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bmapest_ray.anatomy.bids_io import read_maps, write_maps
from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.compute.local import LocalRunner
from bmapest_ray.inversion.result import Step
from bmapest_ray.metrics.scorecard import scorecard
from bmapest_ray.study.cache import JobCache, Remembered
from bmapest_ray.study.data import simulate_data
from bmapest_ray.study.job import WORK, run_job, thin
from bmapest_ray.study.loading import parse_study
from bmapest_ray.study.plan import one_job
from bmapest_ray.study.run import run_study
from bmapest_ray.study.spec import JobSpec
from bmapest_ray.study.status import JobStatus
from bmapest_ray.study.store import load_jobs, load_results

MATRIX = 16


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> JobCache:
    return JobCache(folder=tmp_path_factory.mktemp("operators"))


def job(**sections: Any) -> JobSpec:
    raw = {
        "name": "small",
        "question": "?",
        "anatomy": {"matrix": MATRIX},
        "protocols": ["t2prep"],
        "fields": {"b0": "none", "b1": "none"},
    }
    return one_job(parse_study({**raw, **sections}))


def test_noise_free_maps_are_recovered_and_the_result_says_how(cache: JobCache) -> None:
    result = run_job(job(signal="complex"), cache)
    assert result.status is JobStatus.DONE
    assert all((row["psnr_db"] or 0) > 60 for row in result.scores.values())
    assert result.data["summary"] == "simulated with the model that is fitted, noise-free"
    assert result.history[0]["iteration"] == 0
    assert result.history[-1]["objective"] < 1e-6 * result.history[0]["objective"]
    assert result.scan_time_s == pytest.approx(41.2, abs=1.0)
    assert result.maps.shape == result.truth.shape == (3, MATRIX, MATRIX)
    again = run_job(job(signal="complex"), cache)
    assert again.setup_seconds == 0.0
    np.testing.assert_array_equal(again.maps, result.maps)


def test_the_noise_is_what_the_reference_says(cache: JobCache) -> None:
    noise = {"snr": 20, "reference": "t2prep[0]"}
    spec, free = job(noise=noise), job()
    noisy, clean = simulate_data(spec, cache), simulate_data(free, cache)
    assert clean.sigma is None
    assert noisy.sigma is not None
    reference = simulate_data(job(protocols=["t2prep[0]"]), cache)
    level = float(reference.images.abs().max()) / 20
    torch.testing.assert_close(noisy.sigma, torch.full((4,), level))
    drawn = torch.view_as_real(noisy.images - clean.images) / level
    assert float(drawn.std()) == pytest.approx(1.0, abs=4 / math.sqrt(2 * drawn.numel()))
    assert float(drawn.mean()) == pytest.approx(0.0, abs=4 / math.sqrt(drawn.numel()))
    same = simulate_data(job(noise=noise), cache)
    assert torch.equal(same.images, noisy.images)
    other = simulate_data(job(noise={**noise, "seed": 1}), cache)
    assert not torch.equal(other.images, noisy.images)


def test_a_shared_reference_gives_every_protocol_the_same_noise_level(cache: JobCache) -> None:
    noise = {"snr": 20, "reference": "t2prep[0]"}
    levels = [
        simulate_data(job(protocols=[p], noise=noise), cache).sigma for p in ("t2prep", "t2prep[3]")
    ]
    assert levels[0] is not None
    assert levels[1] is not None
    assert float(levels[0][0]) == pytest.approx(float(levels[1][0]))


@pytest.mark.parametrize("data", [{"tissue": "T2=+20%"}, {"matrix": 32}], ids=str)
def test_data_from_another_model_cost_accuracy_and_are_called_so(
    cache: JobCache, data: dict[str, Any]
) -> None:
    matched = run_job(job(), cache)
    result = run_job(job(data=data), cache)
    assert result.data["same_model"] is False
    assert "another model" in result.data["summary"]
    for tissue in ("GM", "WM", "CSF"):
        assert (result.scores[tissue]["mae"] or 0) > 3 * (matched.scores[tissue]["mae"] or 0)


def test_a_solve_that_diverges_is_a_result_without_scores(cache: JobCache) -> None:
    settings = {"learning_rate": 1e30, "max_iterations": 20}
    result = run_job(job(inversion={"solver": "sgd", "settings": settings}), cache)
    assert result.status is JobStatus.DIVERGED
    assert result.solver_status == "DIVERGED"
    assert result.scores == {}
    assert result.message


def test_a_start_is_read_from_a_folder(cache: JobCache, tmp_path: Path) -> None:
    truth = cache.truth(job().anatomy)
    write_maps(truth.fraction, truth.affine, tmp_path, "mni152")
    spec = job(inversion={"start": str(tmp_path), "settings": {"max_iterations": 1}})
    assert spec.solve.start_content
    assert torch.equal(cache.start(spec.anatomy, spec.solve), truth.fraction)
    coarse = dataclasses.replace(spec.anatomy, matrix=MATRIX - 2)
    with pytest.raises(InvalidInput, match="matrix of the study, 14, got 16"):
        cache.start(coarse, spec.solve)


def test_averaged_voxels_are_fitted_from_where_compartments_end(cache: JobCache) -> None:
    linear = run_job(job(signal="complex", data={"mixing": "average"}), cache)
    settings = {"max_iterations": 2}
    found = run_job(
        job(signal="complex", mixing="average", inversion={"settings": settings}), cache
    )
    for tissue, row in linear.scores.items():
        assert (found.scores[tissue]["psnr_db"] or 0) > (row["psnr_db"] or 0) + 3
    assert found.history[0]["objective"] < 0.2 * linear.history[0]["objective"]


def test_named_starts(cache: JobCache) -> None:
    spec = job(inversion={"start": "truth"})
    truth = cache.truth(spec.anatomy).fraction
    assert torch.equal(cache.start(spec.anatomy, spec.solve), truth)
    spec = job(inversion={"start": "ellipse"})
    inside = cache.start(spec.anatomy, spec.solve).sum(0) > 0
    assert 0.4 < inside.float().mean() < 0.6
    with pytest.raises(InvalidInput, match="must lie in"):
        job(inversion={"start": "constant:2"})
    with pytest.raises(MissingInput, match=r"ellipse, constant:VALUE, truth or a folder"):
        job(inversion={"start": "elipse"})


def test_maps_that_changed_since_the_plan_are_refused(cache: JobCache) -> None:
    spec = job()
    edited = dataclasses.replace(spec.anatomy, content="0" * 64)
    with pytest.raises(InvalidInput, match="has changed; start a new study"):
        run_job(dataclasses.replace(spec, anatomy=edited), cache)


def test_a_checkpoint_is_removed_when_its_job_is_done(cache: JobCache, tmp_path: Path) -> None:
    settings = {"max_iterations": 12}
    spec = job(inversion={"solver": "adam", "settings": settings})
    plain = run_job(spec, cache)
    kept = run_job(spec, cache, checkpoint_dir=tmp_path / "checkpoints")
    np.testing.assert_array_equal(plain.maps, kept.maps)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    (tmp_path / "file").touch()
    assert run_job(spec, cache, checkpoint_dir=tmp_path / "file" / "x").status is JobStatus.DONE


def test_a_study_writes_maps_from_which_its_scores_can_be_computed(tmp_path: Path) -> None:
    config = parse_study(
        {
            "name": "small",
            "question": "?",
            "anatomy": {"matrix": MATRIX, "slices": ["below-top:75", "below-top:60"]},
            "protocols": ["t2prep", "t2prep[0:2]"],
            "fields": {"b0": "none", "b1": "none"},
            "noise": {"snr": 50, "reference": "t2prep[0]"},
        }
    )
    out = tmp_path / "out"
    runner = LocalRunner(WORK, {"cache_dir": str(tmp_path / "operators")})
    result = run_study(config, out, runner=runner)
    assert [row.label for row in result.protocols] == ["t2prep", "t2prep[0:2]"]
    assert len(load_results(out)) == 2 * 2 * 3
    truths = {job.files["truth_GM"] for job in load_jobs(out)}
    assert len(truths) == 2  # one per slice, shared by protocols
    for record in load_jobs(out):
        folder = out / record.files["GM"].split("/sub-")[0]
        maps = read_maps(folder, "mni152")
        truth = read_maps(out / record.files["truth_GM"].split("/sub-")[0], "mni152", "truth")
        np.testing.assert_allclose(maps.affine, truth.affine)
        assert maps.fov_mm == pytest.approx(216.0)
        scores = scorecard(maps.fraction, truth)
        for tissue, row in scores.items():
            assert record.scores[tissue]["psnr_db"] == pytest.approx(row["psnr_db"], abs=1e-4)


@pytest.mark.parametrize("length", [0, 1, 2, 9, 10, 11, 501])
def test_a_thinned_curve_keeps_its_ends(length: int) -> None:
    history = [Step(iteration=i, objective=float(length - i)) for i in range(length)]
    kept = [int(row["iteration"]) for row in thin(history, most=10)]
    assert len(kept) == min(length, 10)
    assert kept == sorted(set(kept))
    if length:
        assert (kept[0], kept[-1]) == (0, length - 1)


def test_the_cache_forgets_what_was_used_longest_ago() -> None:
    remembered, made = Remembered(2), list[str]()

    def get(key: str) -> str:
        return remembered.get(key, lambda: made.append(key) or key)

    for key in ("a", "b", "a", "c", "a", "b"):
        assert get(key) == key
    assert made == ["a", "b", "c", "b"]


def test_a_spatial_prior_weighs_against_the_noise(cache: JobCache) -> None:
    noisy = {"noise": {"snr": 20}, "signal": "complex"}
    free = run_job(job(**noisy), cache)
    prior = {"prior": "tv", "prior_settings": {"strength": 100.0}}
    smooth = run_job(job(**noisy, inversion=prior), cache)
    roughness = [np.abs(np.diff(r.maps, axis=2)).sum() for r in (smooth, free)]
    assert roughness[0] < 0.5 * roughness[1]


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"inversion": {"prior": "tv"}}, "needs a noise level"),
        ({"inversion": {"prior": "cohort"}, "noise": {"snr": 20}}, "at least 2 subjects"),
        ({"inversion": {"prior": "tv", "prior_settings": {"strngth": 1.0}}}, "mean 'strength'"),
    ],
)
def test_a_prior_that_cannot_be_is_refused(
    cache: JobCache, sections: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidInput, match=told):
        run_job(job(**sections), cache)
