"""Where a fit keeps what is done, so that it goes on after any kind of stop."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bmapest_ray.scan.estimation import NuisanceFit
from bmapest_ray.scan.sweep import BlockMaps
from bmapest_ray.scan.voxels import NoiseLevel

_MAPS = ("mean", "deviation", "other", "residual", "slope", "variance")
_FIT = ("vector", "covariance", "centre", "prior_spread")
_LEVEL = ("noise", "relative")


class Workplace:
    """Finished parts of one fit, in a folder named by the digest of all that decides the fit.

    Parameters
    ----------
    folder
        Parent of the folder; parts of fits with other inputs in it are dropped.
    key
        Digest of inputs and settings.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / key[:16]
        if folder.is_dir():
            for other in folder.iterdir():
                if other != self.folder:
                    shutil.rmtree(other)
        self.folder.mkdir(parents=True, exist_ok=True)

    def arrays(
        self, name: str, make: Callable[[], dict[str, NDArray[Any]]]
    ) -> dict[str, NDArray[Any]]:
        """Return arrays that are made once."""
        path = self.folder / f"{name}.npz"
        if not path.exists():
            self._save(path, make())
        with np.load(path) as found:
            return {key: found[key] for key in found.files}

    def nuisances(self, make: Callable[[], NuisanceFit]) -> NuisanceFit:
        """Return the nuisances, fitted once."""

        def fitted() -> dict[str, NDArray[Any]]:
            fit = make()
            numbers = {name: getattr(fit, name).numpy() for name in _FIT}
            numbers |= {name: getattr(fit.level, name).numpy() for name in _LEVEL}
            return numbers | {"shares": fit.shares.numpy(), "history": np.array(fit.history)}

        found = self.arrays("nuisances", fitted)
        level = NoiseLevel(*(torch.from_numpy(found[name]) for name in _LEVEL))
        shares = torch.from_numpy(found["shares"])
        vector, covariance, centre, spread = (torch.from_numpy(found[name]) for name in _FIT)
        history = tuple(found["history"].tolist())
        return NuisanceFit(vector, covariance, centre, spread, level, shares, history)

    def has_block(self, sweep: int, number: int) -> bool:
        """Say whether a block of a sweep is done."""
        return self._block_path(sweep, number).exists()

    def keep_block(self, sweep: int, number: int, maps: BlockMaps) -> None:
        """Store a finished block."""
        self._save(self._block_path(sweep, number), {name: getattr(maps, name) for name in _MAPS})

    def block(self, sweep: int, number: int) -> BlockMaps:
        """Return a finished block."""
        with np.load(self._block_path(sweep, number)) as found:
            return BlockMaps(*(found[name] for name in _MAPS))

    def mean_of(self, sweep: int, number: int) -> NDArray[np.float32]:
        """Return the mean fractions of a finished block, `(voxel, tissue)`."""
        with np.load(self._block_path(sweep, number)) as found:
            mean: NDArray[np.float32] = found["mean"]
            return mean

    def clear(self) -> None:
        """Remove everything once the results are written."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()

    def _block_path(self, sweep: int, number: int) -> Path:
        return self.folder / f"sweep-{sweep}-block-{number}.npz"

    def _save(self, path: Path, arrays: dict[str, NDArray[Any]]) -> None:
        temporary = path.with_name(f".{os.getpid()}-{path.name}")
        np.savez(temporary, **arrays)  # type: ignore[arg-type]
        temporary.replace(path)
