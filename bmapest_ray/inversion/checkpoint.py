"""Checkpoints of a solve: written atomically, refused for another problem, exact on resume."""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from bmapest_ray.base.errors import SolveError
from bmapest_ray.inversion.progress import Progress
from bmapest_ray.inversion.result import Status, Step

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """Where and how often the state of a solve is written.

    Parameters
    ----------
    path
        File; its folder is created.
    every
        Outer iterations between two writes.
    """

    path: Path
    every: int = 1

    def due(self, progress: Progress) -> bool:
        """Whether to write after this iteration."""
        return progress.iteration % self.every == 0 or not bool(progress.open.any())

    def write(self, progress: Progress, problem_digest: str) -> None:
        """Write the state; a reader sees the old file or the new one, never half of one.

        Several processes may write: one that was taken for dead may live on for a while.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "format": FORMAT,
            "problem": problem_digest,
            "x": progress.x,
            "iteration": progress.iteration,
            "open": progress.open,
            "status": [None if status is None else str(status) for status in progress.status],
            "message": progress.message,
            "history": [[dataclasses.astuple(s) for s in item] for item in progress.history],
            "extra": progress.extra,
            "seconds": progress.elapsed,
        }
        partial = self.path.with_name(f".tmp-{uuid.uuid4().hex}-{self.path.name}")
        try:
            torch.save(content, partial)
            partial.replace(self.path)
        finally:
            partial.unlink(missing_ok=True)

    def read(self, problem_digest: str) -> Progress | None:
        """Return the stored state, or None if there is none.

        Raises
        ------
        SolveError
            If the file cannot be read or belongs to another problem.
        """
        if not self.path.is_file():
            return None
        content = self._load()
        if content.get("format") != FORMAT or content.get("problem") != problem_digest:
            msg = (
                f"a checkpoint must belong to the same data, start and settings, but {self.path} "
                "does not; remove it or name another file"
            )
            raise SolveError(msg)
        return Progress(
            x=content["x"],
            iteration=content["iteration"],
            open=content["open"],
            status=[None if status is None else Status(status) for status in content["status"]],
            message=content["message"],
            history=[[Step(*step) for step in item] for item in content["history"]],
            extra=content["extra"],
            seconds=content["seconds"],
        )

    def _load(self) -> dict[str, Any]:
        try:
            content = torch.load(self.path, weights_only=True)
        except (OSError, RuntimeError, ValueError, LookupError, EOFError, UnpicklingError) as error:
            msg = f"the checkpoint {self.path} cannot be read ({error}); remove it"
            raise SolveError(msg) from error
        return content if isinstance(content, dict) else {}
