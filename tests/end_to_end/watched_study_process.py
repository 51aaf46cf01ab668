"""A study on Ray in a process of its own, which says where Prometheus finds its metrics.

usage: watched_study_process.py FOLDER, with FOLDER/study.yaml; writes FOLDER/port and FOLDER/out
"""

import sys
from pathlib import Path

from bmapest_ray.cli import main
from bmapest_ray.compute.ray_session import import_ray, secure_token
from bmapest_ray.study.files import replace_text


def run(folder: Path) -> int:
    """Start Ray, tell its port, and run the study as ``bmapest run`` does."""
    secure_token()
    ray = import_ray()
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
        object_store_memory=128 * 1024**2,
    )  # fmt: skip
    replace_text(folder / "port", str(ray.nodes()[0]["MetricsExportPort"]))
    try:
        return main(["run", str(folder / "study.yaml"), "--out", str(folder / "out")])
    finally:
        ray.shutdown()


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1])))
