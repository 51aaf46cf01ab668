"""The committed table of how well a search finds the best: everything tried once, then replayed."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmapest_ray.cli.held import Held

if TYPE_CHECKING:
    from bmapest_ray.study.plan import Plan

SEEDS = 10
SHARE = 1 / 3
"""Part of the exhaustive search's inversions that a search may use."""


@dataclass(frozen=True)
class Kind:
    """A way of searching that is replayed."""

    name: str
    sampler: str
    pruner: str


KINDS = (
    Kind("TPE + Wilcoxon", "tpe", "wilcoxon"),
    Kind("TPE", "tpe", "none"),
    Kind("random + Wilcoxon", "random", "wilcoxon"),
    Kind("random", "random", "none"),
)


@dataclass(frozen=True)
class Replay:
    """One search with one seed."""

    best: float
    inversions: int
    trials: int


Table = Mapping[str, Sequence[float]]
"""Configuration -> value of each subject."""


def write_search_table(study: str, anatomy: str, folder: Path) -> None:
    """Try every configuration that `folder` does not hold yet, replay the searches, write."""
    from bmapest_ray.study.loading import load_study
    from bmapest_ray.study.plan import make_plan

    plan = make_plan(load_study(study, [f"anatomy.source={anatomy}"]))
    table = try_everything(plan, folder / "search.json")
    rows = {kind: [replay(plan, table, kind, seed) for seed in range(SEEDS)] for kind in KINDS}
    (folder / "search.md").write_text(page(plan, table, rows))


def key_of(settings: Mapping[str, Any]) -> str:
    """Return a configuration as one text."""
    return json.dumps(dict(sorted(settings.items())))


def feasible_points(plan: Plan) -> list[dict[str, Any]]:
    """Return every configuration within the limit of scan time."""
    from bmapest_ray.study.space import grid

    (label,) = plan.protocols
    contrasts = plan.config.search.contrasts
    limit = contrasts.max_scan_time_s if contrasts and contrasts.max_scan_time_s else float("inf")
    return [p for p in grid(plan.space(label)) if plan.scan_time_s(label, p) <= limit]


def try_everything(plan: Plan, store: Path) -> Table:
    """Return the objective of every configuration and subject; resumed from `store`."""
    from bmapest_ray.study.cache import JobCache
    from bmapest_ray.study.status import Stage

    (label,) = plan.protocols
    held = Held(store)
    cache, table = JobCache(), dict[str, list[float]]()
    points = feasible_points(plan)
    for number, point in enumerate(points, 1):
        told = f"{number}/{len(points)}"
        table[key_of(point)] = [
            held.get(spec.id, partial(_value, plan, spec, cache), told)
            for spec in plan.jobs(label, point, Stage.SEARCH)
        ]
    return table


def _value(plan: Plan, spec: Any, cache: Any) -> float:  # noqa: ANN401 - heavy types stay unloaded
    from bmapest_ray.study.job import run_job

    result = run_job(spec, cache)
    objective = plan.objective
    return statistics.fmean(
        float(result.scores[t][objective.score] or 0) for t in objective.tissues
    )


def replay(plan: Plan, table: Table, kind: Kind, seed: int) -> Replay:
    """Search once with the study's own search, reading values instead of inverting."""
    from bmapest_ray.study.proposal import ScanTime
    from bmapest_ray.study.search import Search
    from bmapest_ray.study.search_storage import open_storage
    from bmapest_ray.study.status import TrialStatus
    from bmapest_ray.study.trials import subject_order

    (label,) = plan.protocols
    changes = {"sampler": kind.sampler, "pruner": kind.pruner, "seed": seed, "n_trials": 10_000}
    config = plan.config.search.model_copy(update=changes)
    contrasts = plan.config.search.contrasts
    limit_s = None if contrasts is None else contrasts.max_scan_time_s
    scan_time = ScanTime(lambda settings: plan.scan_time_s(label, settings), limit_s)
    search = Search(
        f"{kind.name}/{seed}",
        config,
        maximize=plan.objective.maximize,
        storage=open_storage(None),
        space=plan.space(label),
        scan_time=scan_time,
    )
    most = int(SHARE * sum(len(values) for values in table.values()))
    used = trials = 0
    while used + len(plan.subjects) <= most:
        proposal = search.ask()
        if proposal is None:
            break
        values, status = table[key_of(proposal.settings)], TrialStatus.COMPLETE
        trials += 1
        for subject in subject_order(plan.subjects, f"{seed}/{proposal.number}"):
            index = plan.subjects.index(subject)
            used += 1
            if search.report(proposal.number, index, values[index]):
                status = TrialStatus.PRUNED
                break
        search.tell(proposal.number, status, statistics.fmean(values), proposal.settings)
    best = search.best()
    return Replay(
        statistics.fmean(table[key_of(best.settings)]) if best else float("inf"), used, trials
    )


def page(plan: Plan, table: Table, rows: Mapping[Kind, Sequence[Replay]]) -> str:
    """Return the table as Markdown."""
    (label,) = plan.protocols
    total = sum(len(values) for values in table.values())
    means = {key: statistics.fmean(values) for key, values in table.items()}
    winner = min(means, key=lambda key: means[key])
    settings = json.loads(winner)
    kept = [p.removeprefix("contrast.") for p, on in settings.items() if on is True]
    rest = {p: v for p, v in settings.items() if not p.startswith("contrast.")}
    contrasts = plan.config.search.contrasts
    lines = [_line(kind, replays, min(means.values()), total) for kind, replays in rows.items()]
    seeds = [
        f"| {seed} | {r.best:.5f} | {100 * (r.best / min(means.values()) - 1):.2f} | "
        f"{r.inversions} | {r.trials} |\n"
        for seed, r in enumerate(rows[KINDS[0]])
    ]
    return _TEXT.format(
        pool=label,
        limit=contrasts.max_scan_time_s if contrasts else None,
        subjects=", ".join(plan.subjects),
        configurations=len(table),
        total=total,
        best=min(means.values()),
        median=statistics.median(means.values()),
        kept=", ".join(kept),
        rest=", ".join(f"{p.split('.')[-1]} = {v}" for p, v in rest.items()),
        seconds=plan.scan_time_s(label, settings),
        share=100 * SHARE,
        lines="".join(lines),
        seeds="".join(seeds),
        n=SEEDS,
        pruner_p=plan.config.search.pruner_p,
    )


def _line(kind: Kind, replays: Sequence[Replay], best: float, total: int) -> str:
    gaps = sorted(100 * (r.best / best - 1) for r in replays)
    shares = sorted(100 * r.inversions / total for r in replays)
    within = sum(gap <= 1.0 for gap in gaps)
    return (
        f"| {kind.name} | {statistics.median(gaps):.2f} | {gaps[-1]:.2f} | {within} of {len(gaps)} "
        f"| {statistics.median(shares):.1f} | {shares[-1]:.1f} |\n"
    )


_TEXT = """# How well the search finds the best

Written by `bmapest bench search` from `studies/search.yaml`. Every contrast of
`{pool}`
may be played or not, within {limit:g} s of scan time, times three regularisations (no prior, or
total variation at two strengths): {configurations} configurations fit, and each was run on BrainWeb
subjects {subjects} (32 x 32, SNR 50, one noise draw, data from the model that
is fitted), {total} inversions in all. The objective is the mean absolute error over tissues and
subjects.

The table is about samplers, not about protocols: no setting found here is used anywhere else, and
the error of the winner is on the subjects that it was chosen on.

Best of all: {best:.5f} (median configuration {median:.5f}), by {kept}; {rest}; {seconds:.1f} s.

TPE lists the configurations that are left and takes the one where its densities say that good
trials are; pruning stops a trial that is worse than the best one on its first two subjects
(Wilcoxon p < {pruner_p:g}), or later. That threshold was chosen by replays of this table with other
seeds.

Each search was replayed {n} times with other seeds on the stored values, until it had used
{share:.0f} % of the inversions. Gap: how far its best is from the best of all. Configurations that
take too long on the scanner cost nothing and are not counted on either side.

| search | gap, median [%] | gap, worst [%] | within 1 % | inversions used, median [%] | most [%] |
|---|---|---|---|---|---|
{lines}
TPE + Wilcoxon seed by seed:

| seed | best | gap [%] | inversions | trials |
|---|---|---|---|---|
{seeds}"""
