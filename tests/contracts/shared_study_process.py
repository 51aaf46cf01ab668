"""A driver in a process of its own, one of several on one study of pretended jobs.

usage: shared_study_process.py OUT LOG POSTGRES_URL SECONDS_PER_JOB [join]
"""

import os
import sys
import time
from pathlib import Path

import fake_job

from bmapest_ray.compute.local import LocalRunner
from bmapest_ray.study.config import StudyConfig
from bmapest_ray.study.loading import parse_study
from bmapest_ray.study.run import run_study

TRIALS, DRAWS = 6, 4
JOBS = 2 * TRIALS * DRAWS + 2 * DRAWS


def study(url: str) -> StudyConfig:
    """Return the study, its search on PostgreSQL."""
    return parse_study(
        {
            "name": "shared",
            "question": "Do two drivers help each other?",
            "protocols": ["t1inv[0]", "t1inv"],
            "noise": {"snr": 50, "reference": "t1inv[3]", "draws": DRAWS},
            "search": {
                "sampler": "tpe",
                "space": {"inversion.settings.damping": {"low": 0.0, "high": 1.0}},
                "n_trials": TRIALS,
            },
            "compute": {"runner": "local", "storage": url, "lease_s": 1.5},
            "output": {"maps": False},
            "tracking": {"mlflow": False},
        }
    )


def wait_for(path: Path) -> None:
    """Wait until a file is there."""
    while not path.exists():
        time.sleep(0.02)


if __name__ == "__main__":
    out, log, url, seconds, *join = sys.argv[1:]
    runner = LocalRunner(fake_job.WORK, {"log": log, "seconds": float(seconds)})
    config = study(url)
    Path(log, f"ready-{os.getpid()}").touch()
    wait_for(Path(out, "study.json") if join else Path(log, "go"))
    run_study(config, Path(out), runner=runner, resume=bool(join))
