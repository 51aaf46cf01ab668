"""``bmapest bench real``: settings, a real scan, another simulator, whole volumes; resumable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from bmapest_ray.base.errors import require_choice
from bmapest_ray.cli.held import Held
from bmapest_ray.cli.real_independent import fit_independent, independent_text, measured
from bmapest_ray.cli.real_template import template_rows, template_text, write_picture
from bmapest_ray.cli.real_tune import best_mixture, write_tuning
from bmapest_ray.cli.real_volume import fit_volume, volume_text

PARTS = ("tune", "template", "independent", "volume")


@dataclass(frozen=True)
class RealBench:
    """What ``bmapest bench real`` is asked for.

    Parameters
    ----------
    cohort
        Anatomy spec of the BrainWeb maps.
    protocol
        Taken to have made the MNI152 image.
    splits
        Which subjects may be used for what.
    out, work
        Folder of the tables, and of finished parts.
    """

    cohort: str
    protocol: str
    splits: Path
    out: Path
    work: Path

    def run(self, part: str, subjects: int) -> Path:
        """Run one part, or ``all``, and write the table of all that is held."""
        require_choice("part", part, (*PARTS, "all"))
        self.out.mkdir(parents=True, exist_ok=True)
        for name in PARTS if part == "all" else (part,):
            self._run(name, subjects)
        path = self.out / "real.md"
        path.write_text("".join(self._text()), "utf-8")
        return path

    @cached_property
    def _held(self) -> Held:
        return Held(self.out / "real.json")

    @cached_property
    def _tuning(self) -> dict[str, Any]:
        return write_tuning(self.cohort, self.splits, self.out)

    def _run(self, part: str, subjects: int) -> None:
        from bmapest_ray.cli.inversion_table import report_subjects

        chosen = report_subjects(self.splits)[:subjects]
        if part == "tune":
            _ = self._tuning
        elif part == "template":
            self._template()
            write_picture(self.work, self.out / "real.png")
        else:
            fit = fit_independent if part == "independent" else fit_volume
            for subject in chosen:
                key = self._start(part) + subject
                self._held.get(key, partial(fit, self.cohort, subject, self.work))

    def _template(self) -> dict[str, dict[str, Any]]:
        mixture = best_mixture(self._tuning)
        start = self._start("template")
        return template_rows(self.cohort, self.protocol, mixture, self._held, start, self.work)

    def _start(self, part: str) -> str:
        """Return how keys start of what this version measures; other rows are left alone."""
        from bmapest_ray.scan.settings import RULES

        what = f"{measured()} " if part == "independent" else ""
        return f"{part} rules {RULES} {what}"

    def _text(self) -> Iterator[str]:
        yield "# Real scans\n\nWritten by `bmapest bench real --cohort bids:DIR`.\n\n"
        if self._held.keys(self._start("template")):
            yield from template_text(self._template(), self.protocol)
        for name, text in (("independent", independent_text), ("volume", volume_text)):
            rows: list[dict[str, Any]] = [
                self._held.get(key, dict) for key in self._held.keys(self._start(name))
            ]
            if rows:
                yield from text(rows)
