"""A driver in a process of its own, for tests that kill it: runs a study of pretended jobs.

usage: study_driver_process.py OUT LOG local|ray SECONDS_PER_JOB [--resume]
"""

import sys
from pathlib import Path

import fake_job

from bmapest_ray.compute.factory import make_runner
from bmapest_ray.study.config import StudyConfig
from bmapest_ray.study.loading import parse_study
from bmapest_ray.study.run import run_study


def study(kind: str) -> StudyConfig:
    """Return the study, on one of the runners."""
    return parse_study(
        {
            "name": "killed",
            "question": "Does it survive?",
            "protocols": ["t1inv[0]", "t1inv"],
            "noise": {"snr": 50, "reference": "t1inv[3]", "draws": 3},
            "search": {
                "space": {"inversion.settings.damping": {"low": 0.0, "high": 1.0}},
                "n_trials": 5,
            },
            "compute": {"runner": kind, "actors": 1, "num_cpus": 0.5},
        }
    )


def run(out: Path, log: Path, kind: str, seconds: float, *, resume: bool) -> None:
    """Run the study in this process."""
    config = study(kind)
    state = {"log": str(log), "seconds": seconds}
    runner = make_runner(config.compute, fake_job.WORK, state)
    try:
        run_study(config, out, runner=runner, resume=resume)
    finally:
        runner.shutdown()


if __name__ == "__main__":
    out, log, kind, seconds, *rest = sys.argv[1:]
    run(Path(out), Path(log), kind, float(seconds), resume="--resume" in rest)
