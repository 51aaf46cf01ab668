from pathlib import Path

import numpy as np
import pytest

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.compute.factory import make_runner
from bmapest_ray.figures.job_panel import read_maps
from bmapest_ray.study.job import WORK
from bmapest_ray.study.loading import load_study
from bmapest_ray.study.records import TrialKey, TrialRecord
from bmapest_ray.study.run import run_study
from bmapest_ray.study.search_importance import importances
from bmapest_ray.study.showcase import Frames, make_showcase, read_showcase, std_files
from bmapest_ray.study.status import Stage, TrialStatus
from bmapest_ray.study.store import load_jobs, load_trials

STUDY = """
name: shown
question: How does a fit go?
anatomy: {matrix: 16}
protocols: [t1inv]
noise: {snr: 100, reference: "t1inv[3]"}
compute: {runner: local}
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shown")
    (folder / "study.yaml").write_text(STUDY)
    config = load_study(folder / "study.yaml")
    runner = make_runner(config.compute, WORK)
    run_study(config, folder / "out", runner=runner)
    runner.shutdown()
    return folder / "out"


def test_a_shown_job_ends_where_it_ended_before(study: Path) -> None:
    (job,), trials = load_jobs(study), load_trials(study)
    assert make_showcase(study, [job], trials) == [job.id]
    shown = read_showcase(study)[job.id]
    np.testing.assert_array_equal(shown.frames[-1], read_maps(job, study))
    assert shown.iterations[0] == 0
    assert shown.iterations[-1] == job.iterations
    assert shown.image.max() == 1
    assert shown.std is None
    assert std_files(study, job) == []
    assert make_showcase(study, [job], trials) == []


def test_deviations_are_added_when_they_are_asked_for(study: Path) -> None:
    (job,), trials = load_jobs(study), load_trials(study)
    assert make_showcase(study, [job], trials, deviations=True) == [job.id]
    shown = read_showcase(study)[job.id]
    assert shown.std is not None
    assert shown.std.shape == (3, 16, 16)
    assert [path.is_file() for path in std_files(study, job)] == [True] * 3
    maps, truth = read_maps(job, study), read_maps(job, study, "truth_")
    assert maps is not None
    assert truth is not None
    counted = shown.std > 0  # the errors are about as large as stated
    ratio = np.abs(maps - truth)[counted] / shown.std[counted]
    assert 0.1 < np.sqrt(np.mean(ratio**2)) < 2
    assert make_showcase(study, [job], trials, deviations=True) == []


def test_only_what_was_reported_can_be_shown(study: Path, tmp_path: Path) -> None:
    (job,) = load_jobs(study)
    (tmp_path / "study.yaml").write_text(STUDY)
    with pytest.raises(InvalidInput, match="only reported jobs"):
        make_showcase(tmp_path, [job], [])


def test_frames_stay_few_and_keep_both_ends() -> None:
    class Step:
        def __init__(self, iteration: int) -> None:
            self.iteration = iteration

    class Seen:
        def __init__(self, iteration: int) -> None:
            self.step = Step(iteration)

        def maps(self) -> object:
            import torch

            return torch.full((3, 2, 2), float(self.step.iteration))

    frames = Frames(most=4)
    for iteration in range(100):
        frames(Seen(iteration))  # type: ignore[arg-type]
        assert len(frames.kept) < 8
    kept = frames.thinned()
    assert len(kept) == 4
    assert kept[0][0] == 0
    assert kept[-1][0] >= 80
    assert all(maps[0, 0, 0] == iteration for iteration, maps in kept)


def test_a_setting_that_alone_decides_has_all_the_importance() -> None:
    config = load_study("quickstart").search
    random = np.random.default_rng(0)
    trials = []
    for number in range(60):
        damping = float(10 ** random.uniform(-6, 0))
        settings = {
            "inversion.settings.damping": damping,
            "inversion.settings.inner_iterations": int(random.integers(2, 21)),
            "inversion.settings.signs": ["none", "auto"][number % 2],
        }
        key = TrialKey("t1inv", Stage.SEARCH, number)
        value = float(-np.log10(damping))
        trials.append(TrialRecord(key, settings, (), TrialStatus.COMPLETE, value))
    shares = importances(trials, config)["t1inv"]
    assert next(iter(shares)) == "inversion.settings.damping"
    assert shares["inversion.settings.damping"] > 0.9
    assert importances(trials[:3], config) == {}
