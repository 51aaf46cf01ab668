"""A job's id: equal for equal content, different for anything that decides a result."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bmapest_ray.anatomy.bids_io import write_maps
from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.study.loading import parse_study
from bmapest_ray.study.plan import make_plan, one_job
from bmapest_ray.study.spec import JobSpec
from bmapest_ray.study.status import JobStatus, Retry, Stage

BASE: dict[str, Any] = {
    "name": "ids",
    "question": "?",
    "protocols": ["t1inv,t2prep[1]"],
    "noise": {"snr": 100},
}


def job(**sections: Any) -> JobSpec:
    raw = dict(BASE)
    for name, section in sections.items():
        inner = raw.get(name)
        raw[name] = {**inner, **section} if isinstance(inner, dict) else section
    return one_job(parse_study(raw))


@pytest.fixture(scope="module")
def base() -> JobSpec:
    return job()


@pytest.mark.parametrize(
    "change",
    [
        {"anatomy": {"slices": ["below-top:76"]}},
        {"anatomy": {"matrix": 66}},
        {"anatomy": {"fov_mm": 220}},
        {"protocols": ["t1inv,t2prep[2]"]},
        {"fields": {"b0": "none"}},
        {"fields": {"b1": "none"}},
        {"mixing": "average"},
        {"signal": "complex"},
        {"noise": {"snr": 99}},
        {"noise": {"reference": "t1inv[3]"}},
        {"noise": {"seed": 1}},
        {"noise": {"snr": None}},
        {"data": {"mixing": "average"}},
        {"data": {"tissue": "T1=+5%"}},
        {"data": {"matrix": 128}},
        {"data": {"engine": "exact"}},
        {"data": {"b0": "none"}},
        {"inversion": {"solver": "adam"}},
        {"inversion": {"settings": {"damping": 0.1}}},
        {"inversion": {"prior": "tv"}},
        {"inversion": {"prior": "tv", "prior_settings": {"strength": 7.0}}},
        {"inversion": {"parametrisation": "softmax"}},
        {"inversion": {"constraints": "box"}},
        {"inversion": {"tolerance": 1e-3}},
    ],
    ids=str,
)
def test_everything_that_decides_a_result_changes_the_id(
    base: JobSpec, change: dict[str, Any]
) -> None:
    assert job(**change).id != base.id


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"question": "another?"},
        {"compute": {"runner": "local"}},
        {"tracking": {"mlflow": False}},
        {"search": {"n_trials": 3}},
        {"anatomy": {"cohort": ["mni152"]}},
    ],
    ids=str,
)
def test_what_decides_nothing_does_not(base: JobSpec, change: dict[str, Any]) -> None:
    assert job(**change).id == base.id


def test_places_and_names_do_not_count_but_content_does(base: JobSpec) -> None:
    moved = dataclasses.replace(base.anatomy, source="bids:/elsewhere")
    assert dataclasses.replace(base, anatomy=moved).id == base.id
    renamed = dataclasses.replace(base.protocol, name="my favourite")
    assert dataclasses.replace(base, protocol=renamed).id == base.id
    edited = dataclasses.replace(base.anatomy, content="0" * 64)
    assert dataclasses.replace(base, anatomy=edited).id != base.id
    assert dataclasses.replace(base, schema=base.schema + 1).id != base.id


def test_noise_free_jobs_do_not_depend_on_seed_or_draws() -> None:
    free = job(noise={"snr": None})
    assert job(noise={"snr": None, "seed": 7}).id == free.id
    plan = make_plan(parse_study({**BASE, "noise": {"draws": 5}}))
    assert [spec.id for spec in plan.jobs("t1inv,t2prep[1]", {})] == [free.id]


@pytest.fixture(scope="module")
def brains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("brains")
    for number in range(1, 5):
        fraction = np.full((3, 4, 8, 8), 0.05 * number, dtype=np.float32)
        write_maps(fraction, np.eye(4), folder, f"{number:02d}")
    return folder


def test_the_cohort_leaves_the_subject_out_and_its_content_counts(brains: Path) -> None:
    anatomy = {"source": f"bids:{brains}", "subjects": ["02"]}
    spec = job(anatomy=anatomy)
    assert spec.solve.start == "cohort"
    assert [name for name, _ in spec.solve.cohort] == ["01", "03", "04"]
    fewer = job(anatomy={**anatomy, "cohort": ["01", "02", "03"]})
    assert [name for name, _ in fewer.solve.cohort] == ["01", "03"]
    assert fewer.id != spec.id
    alone = job(anatomy={**anatomy, "cohort": ["01"]})
    assert (alone.solve.start, alone.solve.cohort) == ("uniform", ())
    uniform = job(anatomy=anatomy, inversion={"start": "uniform"})
    assert uniform.solve.cohort == ()


def test_splits_name_subjects(brains: Path, tmp_path: Path) -> None:
    splits = tmp_path / "splits.yaml"
    splits.write_text('tune: ["01"]\nreport: ["02", "03"]\n')
    study = {
        **BASE,
        "anatomy": {"source": f"bids:{brains}", "subjects": "report", "splits": str(splits)},
        "search": {"tune_subjects": "tune", "space": {"inversion.settings.damping": [0.0, 1.0]}},
    }
    plan = make_plan(parse_study(study))
    assert (plan.subjects, plan.tune_subjects) == (("02", "03"), ("01",))
    searched = plan.jobs("t1inv,t2prep[1]", {"inversion.settings.damping": 1.0}, Stage.SEARCH)
    assert [spec.anatomy.subject for spec in searched] == ["01"]
    assert searched[0].solve.solver.damping == 1.0


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"protocols": ["t1inf"]}, InvalidInput, "did you mean 't1inv'"),
        (
            {"protocols": ["t1inv", "t1inv"], "noise": {"reference": "t1inv"}},
            InvalidInput,
            "'t1inv' twice",
        ),
        ({"anatomy": {"subjects": ["42"]}}, InvalidInput, "a subject of mni152"),
        ({"anatomy": {"subjects": "tune"}}, InvalidInput, "anatomy.subjects"),
        ({"anatomy": {"slices": ["top:3"]}}, InvalidInput, "kind of a slice"),
        ({"inversion": {"solver": "gaus-newton"}}, InvalidInput, "did you mean 'gauss-newton'"),
        ({"inversion": {"settings": {"dampin": 1}}}, InvalidInput, "did you mean 'damping'"),
        ({"inversion": {"settings": {"damping": "x"}}}, InvalidInput, "settings.damping is wrong"),
        ({"inversion": {"settings": {"damping": -1}}}, InvalidInput, "damping must be at least 0"),
        ({"inversion": {"start": "cohort"}}, InvalidInput, "use start 'uniform'"),
        ({"inversion": {"start": "/nowhere"}}, MissingInput, "holds none of subject mni152"),
        ({"fields": {"b0": "/nowhere.nii.gz"}}, MissingInput, "fields.b0 must be"),
        ({"tissue_table": "paper-7t"}, InvalidInput, "did you mean 'paper-3t'"),
        ({"mixing": "averag"}, InvalidInput, "did you mean 'average'"),
        ({"noise": {"reference": "t1inv[9]"}}, InvalidInput, "0..3"),
        ({"search": {"objective": {"score": "psnr"}}}, InvalidInput, "did you mean 'psnr_db'"),
        (
            {"search": {"space": {"inversion.settings.damping": {"low": -1.0, "high": 1.0}}}},
            InvalidInput,
            "damping must be at least 0",
        ),
    ],
    ids=str,
)
def test_a_plan_refuses_what_cannot_run(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        job(**change)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_job_is_one_job() -> None:
    with pytest.raises(InvalidInput, match="got 2 combinations"):
        job(anatomy={"slices": ["below-top:60", "below-top:75"]})


def test_who_may_retry_what() -> None:
    assert JobStatus.LOST.who_may_retry is Retry.RUNNER
    assert JobStatus.FAILED.who_may_retry is Retry.USER
    assert JobStatus.DIVERGED.who_may_retry is Retry.NOBODY
    assert [s for s in JobStatus if s.is_final] == ["DONE", "DIVERGED", "FAILED"]
