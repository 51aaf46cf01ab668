"""The committed table of what designs promise and what they achieve: resumable, piece by piece."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.cli.design_achieved import Trial, achieved, design_setting_of
from bmapest_ray.cli.inversion_table import report_subjects

if TYPE_CHECKING:
    from bmapest_ray.sequence.protocol import Protocol

SIX = "t1inv,t2prep,t2star,dir,flair,dwi"
SNR, REFERENCE = 100.0, "t1inv[3]"
PROTOCOLS = (
    "t1inv", "t2prep", "t1inv,t2prep", "t1inv[0,1,3],t2star[2]", "t1inv[0,3],t2prep[2]",
    "dir,t2prep", "flair,t1inv", "t2prep,t2star", "dir", "t1inv,dir", "flair,t2prep",
    "t1inv[1,3],t2prep[1,3]", "dir[0,2],t2star[3],t2prep[3]", "t1inv,flair[2],t2star",
)  # fmt: skip
"""Protocols whose predicted and achieved standard deviations are compared."""
BUDGETS_S = (60.0, 120.0, 240.0)


def write_design_table(anatomy: str, splits: Path, folder: Path, designs: list[Path]) -> None:
    """Do every piece that `folder` does not hold yet, then write ``design.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    store = _Store(folder / "design.json")
    subjects = report_subjects(splits)
    text = [_HEAD]
    text += _predicted(store, anatomy, subjects[0])
    text += _selected(store, anatomy, subjects[0])
    text += _confirmed(store, anatomy, subjects, designs)
    (folder / "design.md").write_text("\n".join(text) + "\n", encoding="utf-8")


class _Store:
    """Results by their key, on disk as soon as they are known."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}

    def get(self, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if key not in self._held:
            typer.echo(key, err=True)
            self._held[key] = make()
            self._path.write_text(json.dumps(self._held, indent=0, sort_keys=True) + "\n")
        found: dict[str, Any] = self._held[key]
        return found


# -- predicted against achieved --------------------------------------------------------------------


def _predicted(store: _Store, anatomy: str, subject: str) -> list[str]:
    rows, pairs = [], {"complex": [], "magnitude": []}  # type: ignore[var-annotated]
    for name in PROTOCOLS:
        found = {s: _pair(store, anatomy, subject, name, s) for s in pairs}
        simplex = store.get(
            f"achieved {name} complex simplex",
            partial(_achieved, anatomy, subject, name, "complex", "simplex"),
        )
        for signal, (predicted, reached) in found.items():
            pairs[signal].append((predicted, reached))
        cells = [f"{p:.4f} / {r:.4f}" for p, r in zip(*found["complex"], strict=True)]
        cells += [f"{p:.4f} / {r:.4f}" for p, r in zip(*found["magnitude"], strict=True)]
        cells.append(" ".join(f"{v**0.5:.3f}" for v in simplex["variance"]))
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    agreement = [_agreement(signal, pairs[signal]) for signal in pairs]
    return [_PREDICTED, *rows, "", *agreement, ""]


def _pair(
    store: _Store, anatomy: str, subject: str, name: str, signal: str
) -> tuple[list[float], list[float]]:
    predicted = store.get(
        f"predicted {name} {signal}", lambda: _scored(anatomy, subject, name, signal)
    )
    reached = store.get(
        f"achieved {name} {signal} none",
        lambda: _achieved(anatomy, subject, name, signal, "none"),
    )
    return predicted["std"], [math.sqrt(v) for v in reached["variance"]]


def _scored(anatomy: str, subject: str, name: str, signal: str) -> dict[str, Any]:
    from bmapest_ray.design.job import told
    from bmapest_ray.design.score import score_protocol
    from bmapest_ray.sequence.parse import parse_protocol
    from bmapest_ray.simulate.measurement import Signal

    setting = design_setting_of(anatomy, subject, SNR, REFERENCE)
    return dict(told(score_protocol(parse_protocol(name), replace(setting, signal=Signal(signal)))))


def _achieved(
    anatomy: str, subject: str, name: str, signal: str, constraints: str, draws: int = 3
) -> dict[str, Any]:
    from bmapest_ray.sequence.parse import parse_protocol

    setting = design_setting_of(anatomy, subject, SNR, REFERENCE)
    trial = Trial(anatomy, subject, signal, constraints, draws)
    return achieved(trial, parse_protocol(name), setting.sigma, setting.dwell_s)


def _agreement(signal: str, pairs: list[tuple[list[float], list[float]]]) -> str:
    """Say how the logarithms of predicted and achieved standard deviations agree per tissue."""
    import numpy as np

    words = []
    for place, tissue in enumerate(TISSUES):
        predicted = np.log([p[place] for p, _ in pairs])
        reached = np.log([r[place] for _, r in pairs])
        slope = float(np.polyfit(predicted, reached, 1)[0])
        correlation = float(np.corrcoef(predicted, reached)[0, 1])
        ratio = float(np.exp(np.mean(reached - predicted)))
        words.append(
            f"{tissue} correlation {correlation:.4f}, slope {slope:.3f}, mean ratio {ratio:.3f}"
        )
    return f"{signal}, {len(pairs)} protocols: {'; '.join(words)}.\n"


# -- choosing a subset -----------------------------------------------------------------------------


def _selected(store: _Store, anatomy: str, subject: str) -> list[str]:
    rows = []
    for budget_s in BUDGETS_S:
        one = store.get(f"selected {budget_s:g}", partial(_select, anatomy, subject, budget_s))
        best, found = one["exhaustive"], one["greedy"]
        excess = "" if best is None else f"{found['variance'] / best['variance'] - 1:+.1%}"
        exact = "not feasible" if best is None else f"{best['variance'] ** 0.5:.4f}"
        tried = "" if best is None else f"{best['tried']}"
        rows.append(
            f"| {budget_s:g} | {exact} | {tried} | {found['variance'] ** 0.5:.4f} | {excess} | "
            f"{found['bound'] ** 0.5:.4f} | {', '.join(found['names'])} |"
        )
    return [_SELECTED, *rows, ""]


def _select(anatomy: str, subject: str, budget_s: float) -> dict[str, Any]:
    from dataclasses import asdict

    from bmapest_ray.design.catalogue import make_catalogue
    from bmapest_ray.design.select import MAX_SUBSETS, count_maximal, exhaustive, greedy
    from bmapest_ray.design.voxels import DesignVoxels
    from bmapest_ray.sequence.parse import parse_protocol

    setting = design_setting_of(anatomy, subject, SNR, REFERENCE)
    some = setting.voxels
    two = DesignVoxels(some.b0_hz[2:8:3], some.b1[2:8:3], some.position_m[2:8:3],
                       some.fraction[:, 2:8:3])  # fmt: skip
    catalogue = make_catalogue(
        parse_protocol(SIX), replace(setting, voxels=two, columns=2), lines=8
    )
    feasible = count_maximal(catalogue, budget_s, MAX_SUBSETS) <= MAX_SUBSETS
    best = exhaustive(catalogue, budget_s) if feasible else None
    found = greedy(catalogue, budget_s)
    return {
        "exhaustive": None if best is None else asdict(best),
        "greedy": {**asdict(found), "names": catalogue.names(found.chosen)},
    }


# -- designs against the six sequences -------------------------------------------------------------


def _confirmed(store: _Store, anatomy: str, subjects: list[str], designs: list[Path]) -> list[str]:
    from bmapest_ray.sequence.parse import parse_protocol

    rows = []
    six = _errors(store, anatomy, subjects, parse_protocol(SIX), SIX)
    for path in designs:
        protocol = parse_protocol(str(path))
        rows.append(_row(store, anatomy, subjects, protocol, path, six))
    if not rows:
        return []
    mean = sum(six) / len(six)
    first = f"| six sequences | 277.8 | {mean**0.5:.4f} | 1 | 1 | |"
    return [_CONFIRMED, first, *rows, ""]


def _errors(
    store: _Store, anatomy: str, subjects: list[str], protocol: Protocol, name: str
) -> list[float]:
    """Return each subject's mean variance over tissues."""
    values = []
    for subject in subjects:
        found = store.get(
            f"confirmed {name} {protocol.digest[:12]} {subject}",
            partial(_confirm, anatomy, subject, protocol),
        )
        values.append(sum(found["variance"]) / len(found["variance"]))
    return values


def _confirm(anatomy: str, subject: str, protocol: Protocol) -> dict[str, Any]:
    setting = design_setting_of(anatomy, subject, SNR, REFERENCE)
    trial = Trial(anatomy, subject, "complex", "none", 1)
    return achieved(trial, protocol, setting.sigma, setting.dwell_s)


def _row(
    store: _Store,
    anatomy: str,
    subjects: list[str],
    protocol: Protocol,
    path: Path,
    six: list[float],
) -> str:
    from bmapest_ray.report.statistics import paired_test

    errors = _errors(store, anatomy, subjects, protocol, path.stem)
    seconds = protocol.scan_time_s(64, 0.216)
    ratio = sum(errors) / sum(six)
    logs = [math.log(a / b) for a, b in zip(errors, six, strict=True)]
    equal_time = ratio * seconds / 277.8
    cells = (
        f"[{path.stem}](../designs/{path.name})",
        f"{seconds:.2f}",
        f"{(sum(errors) / len(errors)) ** 0.5:.4f}",
        f"{ratio:.3f}",
        f"{equal_time:.4f} (1/{1 / equal_time:.1f})",
        paired_test(logs).sentence,
    )
    return f"| {' | '.join(cells)} |"


_HEAD = """# What designs promise and what they achieve

Written by `bmapest design table`. One physical noise level, fixed by SNR 100 of `t1inv[3]` on each
subject; BrainWeb slices `below-top:75`, 64 x 64, 216 mm, analytic B0 and B1. Data are made with the
very model that is fitted (noise is the only error). Designs are made on the MNI152 average and
confirmed on subjects of the split `report`, which no design saw.
"""

_PREDICTED = """## Predicted against achieved

Standard deviation of the fractions over the head, predicted / achieved (root mean square error of
three noise draws of one report subject, solved without constraints as the bound is about). Last
column: complex data solved on the simplex, as maps are made in practice, GM WM CSF.

| protocol | complex GM | WM | CSF | magnitude GM | WM | CSF | on the simplex |
|---|---|---|---|---|---|---|---|"""

_SELECTED = """## Best subset of the 24 contrasts of the six sequences

Each contrast a chain of its own with its pause of 10 s; root of the mean variance. The bound is one
that no choice within the budget can beat.

| budget [s] | exhaustive | tried | greedy with swaps | excess | bound | greedy chose |
|---|---|---|---|---|---|---|"""

_CONFIRMED = """## Designs against the six sequences

Mean variance over head pixels, then over tissues, of inversions with noise (complex, without
constraints), mean over ten report subjects; paired test of the log ratio per subject. At equal
time the design is repeated and averaged; each repetition is taken as played from equilibrium.

| protocol | scan [s] | root mean variance | variance ratio | at equal time | paired test |
|---|---|---|---|---|---|"""
