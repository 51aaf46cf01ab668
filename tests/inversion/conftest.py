"""Keeps torch to one thread: more threads than cores only slow small tensors down."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)
