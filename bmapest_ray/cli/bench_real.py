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
                key = _start(part) + subject
                self._held.get(key, partial(fit, self.cohort, subject, self.work))

    def _template(self, rules: int | None = None) -> dict[str, dict[str, Any]]:
        mixture, start = best_mixture(self._tuning), _start("template", rules)
        return template_rows(self.cohort, self.protocol, mixture, self._held, start, self.work)

    def _text(self) -> Iterator[str]:
        yield "# Real scans\n\nWritten by `bmapest bench real --cohort bids:DIR`.\n\n"
        if (rules := self._newest("template")) is not None:
            yield from template_text(self._template(rules), self.protocol)
            yield from _older(rules)
        for name, text in (("independent", independent_text), ("volume", volume_text)):
            if (rules := self._newest(name)) is not None:
                keys = self._held.keys(_start(name, rules))
                yield from text([self._held.get(key, dict) for key in keys])
                yield from _older(rules)

    def _newest(self, part: str) -> int | None:
        """Return the newest rules of the fit that rows of a part are held of."""
        from bmapest_ray.scan.settings import RULES

        held = (r for r in range(RULES, 0, -1) if self._held.keys(_start(part, r)))
        return next(held, None)


def _start(part: str, rules: int | None = None) -> str:
    """Return how keys start that were measured in one way, by the present rules of the fit."""
    from bmapest_ray.scan.settings import RULES

    what = f"{measured()} " if part == "independent" else ""
    return f"{part} rules {rules or RULES} {what}"


def _older(rules: int) -> Iterator[str]:
    """Say that a section was not measured again since the fit changed."""
    from bmapest_ray.scan.settings import RULES

    if rules != RULES:
        yield f"Made by rules {rules} of the fit; the present ones are {RULES}.\n\n"
