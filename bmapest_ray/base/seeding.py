"""Random numbers by purpose: the same purpose and keys give the same numbers everywhere."""

import hashlib
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def seed_of(purpose: str, *keys: str | int) -> int:
    """Return the seed of a purpose, in [0, 2**32), the range that NumPy and Optuna accept.

    Parameters
    ----------
    purpose
        What the numbers are for, e.g. ``"noise"``; different purposes never share numbers.
    keys
        What tells draws of one purpose apart, e.g. the subject and the user's seed.
    """
    text = json.dumps([purpose, *keys], ensure_ascii=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def generator(purpose: str, *keys: str | int, device: str = "cpu") -> "torch.Generator":
    """Return a generator seeded by `seed_of(purpose, *keys)` on a device.

    Draw on the CPU and move the result where numbers must not depend on the device.
    """
    import torch

    return torch.Generator(device=device).manual_seed(seed_of(purpose, *keys))
