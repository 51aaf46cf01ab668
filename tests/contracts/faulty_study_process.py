"""A driver of pretended jobs on a Ray cluster and PostgreSQL, in a process that tests disturb.

usage: faulty_study_process.py OUT LOG RAY_ADDRESS POSTGRES_URL MLFLOW_URI|none TRIALS SECONDS
Resumes where OUT is a study already.
"""

import sys
from pathlib import Path
from typing import Any

import fake_job

from bmapest_ray.compute.factory import make_runner
from bmapest_ray.study.config import StudyConfig
from bmapest_ray.study.loading import parse_study
from bmapest_ray.study.run import run_study

DRAWS = 8


def jobs_of(trials: int) -> int:
    """Return the number of jobs of the study."""
    return 2 * DRAWS * (trials + 1)


def study(trials: int, compute: dict[str, Any]) -> StudyConfig:
    """Return the study; its proposals depend on their numbers alone."""
    return parse_study(
        {
            "name": "disturbed",
            "question": "What survives?",
            "protocols": ["t1inv[0]", "t1inv"],
            "noise": {"snr": 50, "reference": "t1inv[3]", "draws": DRAWS},
            "search": {
                "sampler": "random",
                "space": {"inversion.settings.damping": {"low": 0.0, "high": 1.0}},
                "n_trials": trials,
            },
            "compute": compute,
            "output": {"maps": False},
            "tracking": {"mlflow": False},
        }
    )


if __name__ == "__main__":
    out, log, ray, database, mlflow, trials, seconds = sys.argv[1:]
    config = study(
        int(trials),
        {"address": ray, "actors": 3, "num_gpus": 0.5, "storage": database, "lease_s": 3.0},
    )
    tracker = None
    if mlflow != "none":
        from bmapest_ray.tracking.mlflow_tracker import MlflowTracker

        tracker = MlflowTracker(mlflow, images=False)
    runner = make_runner(config.compute, fake_job.WORK, {"log": log, "seconds": float(seconds)})
    try:
        known = Path(out, "study.json").exists()
        result = run_study(config, Path(out), runner=runner, resume=known, tracker=tracker)
    finally:
        runner.shutdown()
    if tracker is not None:
        tracker.close(0.0)
        Path(log, "tracking.txt").write_text(tracker.problem)
