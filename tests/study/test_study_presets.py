"""Presets put settings under a study; what only BMapEst does is a switch each."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.inversion.settings import PAPER_SOLVER
from bmapest_ray.study.cache import JobCache
from bmapest_ray.study.job import run_job
from bmapest_ray.study.loading import load_study, parse_study, studies_folder
from bmapest_ray.study.plan import make_plan, one_job
from bmapest_ray.study.programme import searched
from bmapest_ray.tissue.table import PAPER_3T

STUDY = {"name": "small", "question": "?", "anatomy": {"matrix": 16}, "protocols": ["t1inv[0]"]}
EXPERIMENTS = sorted(path.stem for path in (studies_folder() / "paper").glob("*.yaml"))


def test_paper_preset_sets_every_switch() -> None:
    job = one_job(parse_study({**STUDY, "preset": "paper", "inversion": {"start": "uniform"}}))
    assert job.solve.solver == PAPER_SOLVER
    assert job.solve.start == "uniform", "what the study says stands above the preset"
    assert job.noise.snr is None
    assert job.model.mixing == "average"
    assert (job.model.b0.choice, job.model.b1.choice) == ("paper", "paper")
    assert (job.model.sequence_fov_m, job.model.voxel_fov_m) == (0.2, 0.192)
    assert job.data.is_same_model(job.model)
    strong = PAPER_3T.with_diffusivity_times(1e5).diffusivity_m2_per_s
    assert job.model.tissue_table.diffusivity_m2_per_s == strong
    accuracy = job.protocol.accuracy
    assert (accuracy.probes, accuracy.min_state_mag) == ("mean-of-maps", 1e-3)
    assert (accuracy.min_latent_signal, accuracy.min_emitted_signal) == (1e-2, 1e-2)


def test_unknown_preset_names_the_closest() -> None:
    with pytest.raises(InvalidInput, match=r"preset must be .*'papr'; did you mean 'paper'"):
        parse_study({**STUDY, "preset": "papr"})


def test_paper_preset_runs(tmp_path: Path) -> None:
    settings = {"start": "uniform", "settings": {"max_iterations": 5}}
    job = one_job(parse_study({**STUDY, "preset": "paper", "inversion": settings}))
    result = run_job(job, JobCache(folder=tmp_path))
    objective = [step["objective"] for step in result.history]
    assert objective[-1] < objective[0]
    assert result.maps.min() >= 0
    assert result.maps.max() <= 1


def test_thirteen_experiments_in_two_versions() -> None:
    assert len(EXPERIMENTS) == 26
    for name in EXPERIMENTS:
        study = load_study(f"paper/{name}")
        assert study.name == name
        assert study.anatomy.subjects == "report"
        assert study.mixing == ("average" if name.endswith("-paper") else "compartments")


def test_tune_subjects_are_never_reported(brainweb_dir: Path) -> None:
    source = f"anatomy.source=bids:{brainweb_dir / 'brainweb14'}"
    plan = make_plan(load_study("paper/sequences-2-best", [source]))
    assert plan.tune_subjects == ("04", "05", "06", "18")
    assert len(plan.subjects) == 10
    assert not set(plan.subjects) & set(plan.tune_subjects)
    assert len(searched(plan)) == 12  # as many as every baseline has


@pytest.mark.parametrize("tissue", [0, 2])
def test_single_tissue_is_found_where_the_others_are_known(tissue: int, tmp_path: Path) -> None:
    inversion = {
        "parametrisation": "single-tissue",
        "parametrisation_settings": {"tissue": tissue},
        "start": "uniform",
    }
    job = one_job(parse_study({**STUDY, "protocols": ["t2prep"], "inversion": inversion}))
    result = run_job(job, JobCache(folder=tmp_path))
    others = [t for t in range(3) if t != tissue]
    np.testing.assert_array_equal(result.maps[others], result.truth[others])
    assert np.abs(result.maps[tissue] - result.truth[tissue]).max() < 5e-3


def test_unknown_parametrisation_setting_is_refused() -> None:
    inversion = {"parametrisation": "single-tissue", "parametrisation_settings": {"tisue": 1}}
    with pytest.raises(InvalidInput, match="did you mean 'tissue'"):
        one_job(parse_study({**STUDY, "inversion": inversion}))


def test_fft_scale_scales_the_objective_by_the_pixels(tmp_path: Path) -> None:
    inversion = {"start": "uniform", "settings": {"max_iterations": 1}}
    job = one_job(parse_study({**STUDY, "preset": "paper", "inversion": inversion}))
    plain = replace(job.solve.solver, fft="orthonormal")
    cache = JobCache(folder=tmp_path)
    unnormalised = run_job(job, cache)
    orthonormal = run_job(replace(job, solve=replace(job.solve, solver=plain)), cache)
    ratio = unnormalised.history[0]["objective"] / orthonormal.history[0]["objective"]
    assert ratio == pytest.approx(16 * 16, rel=1e-4)
    torch.testing.assert_close(
        torch.tensor(unnormalised.maps), torch.tensor(orthonormal.maps), atol=1e-4, rtol=0
    )
