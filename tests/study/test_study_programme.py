"""A programme tunes on some subjects, reports on others, and does nothing twice."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bmapest_ray.anatomy.bids_io import write_maps
from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.seeding import generator
from bmapest_ray.compute.local import LocalRunner
from bmapest_ray.study.baseline_job import WORK
from bmapest_ray.study.cache import JobCache
from bmapest_ray.study.experiments import make_cases
from bmapest_ray.study.job import run_job
from bmapest_ray.study.judgement import judge
from bmapest_ray.study.loading import load_study, studies_folder
from bmapest_ray.study.plan import Plan, make_plan
from bmapest_ray.study.programme import Case, collect, run_programme, searched
from bmapest_ray.study.status import JobStatus
from bmapest_ray.study.store import StudyStore

MATRIX = 16
SUBJECTS = ("04", "05", "20", "38", "41", "42", "44")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Smooth brains that differ, in a BIDS folder."""
    folder = tmp_path_factory.mktemp("cohort")
    maps = load_slice(open_anatomy("mni152"), "mni152", SliceSpec.parse("below-top:75"), MATRIX)
    for subject in SUBJECTS:
        wiggle = torch.rand(maps.fraction.shape, generator=generator("wiggle", subject))
        write_maps(maps.fraction * (0.7 + 0.3 * wiggle), maps.affine, folder, subject)
    return f"bids:{folder}"


def overrides(cohort: str) -> list[str]:
    return [
        f"anatomy.source={cohort}",
        "anatomy.subjects=['20', '38', '41']",
        "search.tune_subjects=['04', '05']",
        f"anatomy.matrix={MATRIX}",
        "anatomy.slices=['index:0']",
        "noise.reference=null",
    ]


def best(cohort: str, *more: str) -> Plan:
    settings = {"strength": [1.0, 1.0e4], "kernel": [0.03]}
    space = [f"search.space.inversion.prior_settings.{k}={v}" for k, v in settings.items()]
    return make_plan(load_study("paper/t1inv-single-best", [*overrides(cohort), *space, *more]))


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[LocalRunner]:
    runner = LocalRunner(WORK, {"cache_dir": str(tmp_path / "operators")})
    yield runner
    runner.shutdown()


class Idle(LocalRunner):
    """A runner that must not be needed."""

    def submit(self, task: object) -> None:
        raise AssertionError(f"{task} should have been done")


def test_settings_are_chosen_on_tune_subjects_and_nothing_runs_twice(
    cohort: str, runner: LocalRunner, tmp_path: Path
) -> None:
    plan = best(cohort)
    cases = (
        Case("t1inv-single", "best", plan, candidates=searched(plan)),
        Case("t1inv-single", "nnls", plan, "nnls", ({"ridge": 0.1}, {"ridge": 100.0})),
        Case("t1inv-single", "cohort-mean", plan, "cohort-mean"),
    )
    store = StudyStore(tmp_path / "out")
    inverted, nnls, mean = run_programme(cases, store, runner)
    assert inverted.settings == {
        "inversion.prior_settings.strength": 1.0, "inversion.prior_settings.kernel": 0.03
    }  # fmt: skip
    assert nnls.settings == {"ridge": 100.0}, "these brains are nearly their mean"
    assert (inverted.evaluations, mean.evaluations) == (2, 0)
    for result in (inverted, nnls, mean):
        assert [record.subject for record in result.records] == ["20", "38", "41"]
        assert all(record.status is JobStatus.DONE for record in result.records)
        assert {record.draw for record in result.records} == {1}, "noise that no tuning has seen"
    assert len({r.digests["anatomy"] for r in nnls.records}) == 3
    again = run_programme(cases, store, Idle(WORK))
    assert again == collect(cases, store) == (inverted, nnls, mean)


def test_baselines_see_the_data_of_the_inversion(
    cohort: str, runner: LocalRunner, tmp_path: Path
) -> None:
    plan = best(cohort)
    cases = (Case("e", "best", plan), Case("e", "nnls", plan, "nnls"))
    one, other = run_programme(cases, StudyStore(tmp_path / "out"), runner)
    for left, right in zip(one.records, other.records, strict=True):
        assert left.data == right.data
        assert left.digests == right.digests


def test_tuning_on_reported_subjects_is_refused(cohort: str) -> None:
    plan = best(cohort, "search.tune_subjects=null")
    with pytest.raises(InvalidInput, match="must not tune on subjects that it reports"):
        Case("e", "best", plan, candidates=searched(plan))


def test_networks_are_cross_fitted(cohort: str) -> None:
    cases = make_cases(["t1inv-single"], ["unet"], overrides(cohort))
    assert [case.method for case in cases] == ["unet-paper", "unet-strong"]
    for case in cases:
        for subject in case.plan.subjects:
            split = case.by_subject[subject]
            trained, validated = split["train"].split(","), split["validate"].split(",")
            assert subject not in trained + validated
            assert not set(trained) & set(validated)
            assert validated == ["04", "05"]


@pytest.mark.slow
def test_a_network_is_trained_once_for_its_fold(
    cohort: str, runner: LocalRunner, tmp_path: Path
) -> None:
    wider = [*overrides(cohort), "anatomy.subjects=['20', '38', '41', '42', '44']"]
    (case, _) = make_cases(["t1inv-single"], ["unet"], wider)
    short = {**case.candidates[0], "steps": 3, "validate_every": 1, "batch": 2}
    quick = Case(case.experiment, case.method, case.plan, case.baseline, (short,), case.by_subject)
    (result,) = run_programme([quick], StudyStore(tmp_path / "out"), runner)
    assert [record.status for record in result.records] == [JobStatus.DONE] * 5
    assert len(list((tmp_path / "operators" / "unet").glob("*.pt"))) == 2


def test_all_experiments_are_there_in_both_versions() -> None:
    names = {path.stem for path in (studies_folder() / "paper").glob("*.yaml")}
    from bmapest_ray.study.experiments import EXPERIMENTS

    assert names == {f"{name}-{version}" for name in EXPERIMENTS for version in ("paper", "best")}


def test_error_bars_are_those_of_the_prior_that_a_fit_ended_with(
    cohort: str, tmp_path: Path
) -> None:
    cache = JobCache(folder=tmp_path)
    std = []
    plan = best(cohort)
    (label,) = plan.protocols
    for kernel in (0.02, 0.2):  # which the prior of the first fit does not know
        job = plan.jobs(label, {"inversion.prior_settings.kernel": kernel})[0]
        found = judge(job, run_job(job, cache), cache, posterior=True).spread
        assert found is not None
        std.append(found.std)
    head = std[0].sum(0) > 0
    assert float(std[0][:, head].min()) > 0
    assert float(std[1][:, head].mean()) > 1.5 * float(std[0][:, head].mean())
