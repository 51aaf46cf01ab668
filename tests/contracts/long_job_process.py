"""One long inversion on a Ray cluster, driven from a process of its own.

usage: long_job_process.py OUT LOG RAY_ADDRESS
Every iteration adds a line ``node iteration`` to LOG/iterations.txt.
"""

import sys
import time
from pathlib import Path
from typing import Any

from bmapest_ray.compute.factory import make_runner
from bmapest_ray.inversion.drive import Snapshot
from bmapest_ray.study.cache import JobCache
from bmapest_ray.study.config import StudyConfig
from bmapest_ray.study.job import run_job
from bmapest_ray.study.loading import parse_study
from bmapest_ray.study.result import JobResult
from bmapest_ray.study.run import run_study
from bmapest_ray.study.spec import JobSpec

ITERATIONS = 80


def study(compute: dict[str, Any]) -> StudyConfig:
    """Return a study of one job that takes `ITERATIONS` steps of Adam."""
    return parse_study(
        {
            "name": "long",
            "question": "Does a long inversion go on elsewhere?",
            "anatomy": {"matrix": 16},
            "protocols": ["t1inv[0],t1inv[3]"],
            "noise": {"snr": 50},
            "inversion": {
                "solver": "adam",
                "start": "uniform",
                "settings": {
                    "max_iterations": ITERATIONS,
                    "gradient_tolerance": 0.0,
                    "decrease_tolerance": 0.0,
                    "noise_tolerance": 0.0,
                    "signs": "none",
                },
            },
            "compute": compute,
            "tracking": {"mlflow": False},
        }
    )


def work(spec: JobSpec, state: dict[str, Any]) -> JobResult:
    """Run a job as `bmapest_ray.study.job.work` does, slowly, and log where and how far it is."""
    import ray

    inside = ray.is_initialized() and "log" in state
    node = ray.get_runtime_context().get_node_id() if inside else "here"

    def look(snapshot: Snapshot) -> None:
        if inside:
            with Path(state["log"], "iterations.txt").open("a") as log:
                log.write(f"{node} {snapshot.step.iteration}\n")
            time.sleep(0.05)

    return run_job(spec, JobCache(), state.get("checkpoint_dir"), look)


if __name__ == "__main__":
    out, log, address = sys.argv[1:]
    config = study({"address": address, "actors": 1, "num_gpus": 0.5, "retries": 2})
    state = {"log": log, "checkpoint_dir": str(Path(out, "checkpoints"))}
    runner = make_runner(config.compute, "long_job_process:work", state)
    try:
        run_study(config, Path(out), runner=runner)
    finally:
        runner.shutdown()
