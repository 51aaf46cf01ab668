"""What a study will cost: rows that follow a law are scaled by it."""

from dataclasses import replace

import pytest

from bmapest_ray.study.cost import CUDA_CONTEXT_GB, CostModel, JobCost, estimate, size_of
from bmapest_ray.study.loading import parse_study
from bmapest_ray.study.plan import make_plan

ROWS = [
    JobCost(
        "gauss-newton", "compartments", matrix, contrasts, 2 + 100 * size, 3 + contrasts, 1 + size
    )
    for matrix, contrasts in ((32, 4), (64, 4), (64, 12), (32, 12))
    for size in (size_of(contrasts, matrix),)
]
STUDY = {
    "name": "s",
    "question": "How long?",
    "anatomy": {"matrix": 64},
    "protocols": ["t1inv", "t2prep[0:2]"],
    "noise": {"snr": 50, "reference": "t1inv[3]", "draws": 3},
    "search": {"space": {"inversion.settings.damping": {"low": 0.0, "high": 1.0}}, "n_trials": 5},
    "compute": {"actors": 2},
}


def test_a_law_is_found_and_extended() -> None:
    model = CostModel(ROWS)
    assert model.seconds("gauss-newton", "compartments", 20, 128) == pytest.approx(
        (2 + 100 * size_of(20, 128), 23.0), rel=1e-6
    )
    assert model.seconds("adam", "compartments", 20, 128) is None
    assert model.worker_gb([0.5, 0.25]) == pytest.approx(1.75)
    assert model.worker_gb([0.1] * 20) == pytest.approx(1.8)  # a worker keeps eight operators
    assert model.gpu_gb([0.5]) == pytest.approx(CUDA_CONTEXT_GB + 0.5)


def test_a_study_costs_its_jobs_and_setting_up_on_every_worker() -> None:
    plan = make_plan(parse_study(STUDY))
    found = estimate(plan, CostModel(ROWS), {}, trials=5)
    sizes = [size_of(4, 64), size_of(2, 64)]
    each = [2 + 100 * size for size in sizes]
    assert list(found.seconds_per_job.values()) == pytest.approx(each)
    jobs, setup = 3 * (5 + 1), (3 + 4) + (3 + 2)
    assert found.worker_seconds == pytest.approx(jobs * sum(each) + 2 * setup)
    assert found.wall_seconds == pytest.approx((found.worker_seconds or 0) / 2)
    assert 0 < found.num_gpus <= 1


def test_earlier_jobs_go_before_the_law_and_nothing_is_made_up() -> None:
    plan = make_plan(parse_study(STUDY))
    digest = plan.protocols["t1inv"].info.digest
    found = estimate(plan, CostModel(ROWS), {digest: 7.0}, trials=0)
    assert found.seconds_per_job["t1inv"] == 7.0
    assert found.source == "jobs of earlier studies and measured rates"
    unknown = [replace(row, solver="adam") for row in ROWS]
    lost = estimate(plan, CostModel(unknown), {digest: 7.0}, trials=0)
    assert lost.seconds_per_job["t2prep[0:2]"] is None
    assert lost.worker_seconds is None
    assert lost.wall_seconds is None
