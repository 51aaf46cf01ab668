"""Fixtures that several rooms share."""

import os
from pathlib import Path

import pytest

from bmapest_ray.base.threads import limit_threads

limit_threads(1)  # more torch threads than free cores is many times slower on small tensors

_REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def brainweb_dir() -> Path:
    """Folder that holds `brainweb14` (the only place that says where real test data are)."""
    folder = Path(os.environ.get("BMAPEST_TEST_DATA", _REPOSITORY / "../shared/data")).resolve()
    if not (folder / "brainweb14").is_dir():
        pytest.skip(f"no BrainWeb maps: {folder} holds no brainweb14; set BMAPEST_TEST_DATA")
    return folder
