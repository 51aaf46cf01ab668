"""A driver in a process of its own, for tests that kill it: runs a study of pretended jobs.

usage: study_driver_process.py OUT LOG local|ray SECONDS_PER_JOB [--resume]
"""

import sys
from pathlib import Path

import fake_job

from bmapest_ray.compute.factory import make_runner
from bmapest_ray.study.config import ComputeConfig
from bmapest_ray.study.loading import parse_study
from bmapest_ray.study.run import run_study


def main() -> None:
    out, log, kind, seconds, *rest = sys.argv[1:]
    config = parse_study(
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
            "output": {"maps": True},
        }
    )
    state = {"log": log, "seconds": float(seconds)}
    runner = make_runner(ComputeConfig.model_validate(config.compute), fake_job.WORK, state)
    try:
        run_study(config, Path(out), runner=runner, resume="--resume" in rest)
    finally:
        runner.shutdown()


if __name__ == "__main__":
    main()
