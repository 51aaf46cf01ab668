"""Robust designs against nominal ones, each held against the optimum of every scenario."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bmapest_ray.cli.held import Held
    from bmapest_ray.design.optimise import Optimised
    from bmapest_ray.design.regret import RegretStudy
    from bmapest_ray.design.setting import DesignSetting
    from bmapest_ray.study.design_config import DesignStudy

STUDY = Path("studies/design.yaml")
MATRIX, BUDGET_S, DWELL_S = 16, 10.0, 60e-6
CANDIDATE = "t2prep[2],t1inv[1],t2star[0]"
MORE = "t2prep[0,2],t1inv[0,1]"
LOSS = math.log(1.1)
"""Log variance that a guarded robust design may lose in the nominal case."""


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    name: str
    candidate: str
    budget_s: float
    unknown: bool
    guarded: bool


CASES = (
    Case(
        "known to the inversion, nominal loss at most 10 %",
        CANDIDATE,
        BUDGET_S,
        unknown=False,
        guarded=True,
    ),
    Case(f"the same, `{MORE}` in 34.7 s", MORE, 34.7, unknown=False, guarded=True),
    Case("unknown to it", CANDIDATE, BUDGET_S, unknown=True, guarded=False),
    Case("unknown, nominal loss at most 10 %", CANDIDATE, BUDGET_S, unknown=True, guarded=True),
)


def regret_rows(store: Held) -> list[str]:
    """Return the section of the table, one row per case."""
    found = [_pieces(store, case) for case in CASES]
    rows = [_row(case, mine, found) for case, mine in zip(CASES, found, strict=True)]
    head = _HEAD.format(matrix=MATRIX, candidate=CANDIDATE, budget=BUDGET_S)
    return [head, *rows, _MEANING]


def nominal_design(store: Held) -> tuple[RegretStudy, list[float]]:
    """Return the study of the first case and the values of its nominal design."""
    held = store.get(_key("nominal", CASES[0]), partial(_nominal, CASES[0]))
    return study_of(CASES[0]), list(held["values"])


@dataclass(frozen=True)
class _Pieces:
    """What is known of a case: log variances, of the two designs under every scenario."""

    alike: tuple[str, float, bool]
    nominal: float
    cost: float
    reached: list[list[float]]
    optimum: list[float]


def _pieces(store: Held, case: Case) -> _Pieces:
    nominal = store.get(_key("nominal", case), partial(_nominal, case))
    robust = store.get(_key("robust", case), partial(_robust, case, nominal))
    cost = store.get(_key("cost", case), partial(_cost, case, robust))["value"]
    points = (tuple(nominal["values"]), tuple(robust["values"]))
    under = [
        store.get(_key(f"under {one.name}", case), partial(_under, case, number, points))
        for number, one in enumerate(study_of(case).scenarios)
    ]
    reached, optimum = [u["reached"] for u in under], [u["optimum"] for u in under]
    alike = (case.candidate, case.budget_s, case.unknown)
    return _Pieces(alike, nominal["objective"], cost, reached, optimum)


def _row(case: Case, mine: _Pieces, every: list[_Pieces]) -> str:
    """Return a row; a scenario's optimum is the best that any case found for it."""
    alike = [one.optimum for one in every if one.alike == mine.alike]
    optimum = [min(values) for values in zip(*alike, strict=True)]
    regrets = [
        [value - best for value in values]
        for values, best in zip(mine.reached, optimum, strict=True)
    ]
    mean = [sum(column) / len(regrets) for column in zip(*regrets, strict=True)]
    worst = [max(column) for column in zip(*regrets, strict=True)]
    cells = (
        case.name,
        f"{mean[0]:.3f} ({worst[0]:.3f})",
        f"{mean[1]:.3f} ({worst[1]:.3f})",
        f"{mean[1] / mean[0]:.2f}",
        f"{math.expm1(mine.cost - mine.nominal):+.1%}",
    )
    return f"| {' | '.join(cells)} |"


def _key(what: str, case: Case) -> str:
    plain = asdict(case)
    if what == "nominal":
        plain["unknown"] = plain["guarded"] = False
    kind = f"{'unknown' if plain['unknown'] else 'known'}{' guarded' if plain['guarded'] else ''}"
    return f"regret {what}: {case.candidate} {case.budget_s:g} s {MATRIX} {kind}"


@cache
def study_of(case: Case) -> RegretStudy:
    """Return the designs of a case, judged on the MNI152 average."""
    from bmapest_ray.design.optimise import Effort
    from bmapest_ray.design.regret import RegretStudy
    from bmapest_ray.design.robust import Ranges

    job = replace(_study().job(case.candidate, DWELL_S, case.budget_s, 0), effort=Effort(3, 20))
    loss = LOSS if case.guarded else None
    return RegretStudy(job, _setting(), Ranges(), unknown=case.unknown, most_loss=loss)


@cache
def _setting() -> DesignSetting:
    return replace(_study().circumstances().setting(), columns=2)


def _study() -> DesignStudy:
    """Return the shipped study on a coarse head."""
    from bmapest_ray.study.design_config import load_design

    known = load_design(STUDY)
    return known.model_copy(update={"head": known.head.model_copy(update={"matrix": MATRIX})})


def _told(found: Optimised) -> dict[str, Any]:
    return {"values": list(found.values), "objective": found.objective}


def _nominal(case: Case) -> dict[str, Any]:
    return _told(study_of(case).nominal())


def _robust(case: Case, nominal: dict[str, Any]) -> dict[str, Any]:
    study = study_of(case)
    return _told(study.robust(nominal["values"], nominal["objective"]))


def _cost(case: Case, robust: dict[str, Any]) -> dict[str, Any]:
    return {"value": study_of(case).value(robust["values"])}


def _under(case: Case, number: int, points: tuple[tuple[float, ...], ...]) -> dict[str, Any]:
    study = study_of(case)
    reached, optimum = study.compare(study.scenarios[number], points)
    return {"reached": reached, "optimum": optimum}


_HEAD = """## What a design regrets

T1 and T2 of all tissues 10 % and B1 20 % up or down (four corners that balance every pair). Regret
is the logarithm of the variance over that of the optimum found again for the scenario, mean (worst)
over scenarios; 0.1 is 5 % of a standard deviation. The robust design has the least mean logarithm
over nominal case and scenarios, from the nominal design on. `{candidate}` in {budget:g} s
on a {matrix} x {matrix} grid, free as in `studies/design.yaml`. Where the inversion does not know
the scenario, B1, T1 and T2 are unknowns of every voxel, known to these widths beforehand.

| scenario is | nominal design | robust design | ratio | robust in the nominal case |
|---|---|---|---|---|"""

_MEANING = """
All values are predictions. An inversion that knows the scenario loses little with the nominal
design, and the robust one wins back a fifth of that: the optimum follows B1 by its flip angles, as
far down as up, and the design that is best on the mean stays in the middle, with more contrasts and
time as well. Half of the regret would take a design whose optimum does not move. What an inversion
does not know costs far more than noise; there a robust design regrets less than half even when it
may lose no more than 10 % of nominal variance, and almost nothing if it may lose more.
"""
