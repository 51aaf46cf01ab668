"""The committed table of what designs promise and what they achieve: resumable, piece by piece."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.cli.design_achieved import Trial, achieved, design_setting_of
from bmapest_ray.cli.design_confirm import REFERENCE, SIX, SNR, confirmed_rows
from bmapest_ray.cli.design_joint import joint_rows
from bmapest_ray.cli.design_regret import regret_rows
from bmapest_ray.cli.design_select import LINES
from bmapest_ray.cli.held import Held
from bmapest_ray.cli.inversion_table import report_subjects

if TYPE_CHECKING:
    from bmapest_ray.design.catalogue import Catalogue
    from bmapest_ray.design.setting import DesignSetting
    from bmapest_ray.design.signals import Signals
    from bmapest_ray.sequence.protocol import Chain
    from bmapest_ray.sequence.scanner import Scanner

PROTOCOLS = (
    "t1inv", "t2prep", "t1inv,t2prep", "t1inv[0,1,3],t2star[2]", "dir,t2prep", "flair,t1inv",
    "t2prep,t2star", "t1inv,dir", "flair,t2prep", "t1inv,t2star", "t1inv,t2prep,t2star",
    "t1inv,flair,t2star", "dir,flair",
)  # fmt: skip
"""Protocols whose predicted and achieved standard deviations are compared."""
BUDGETS_S = (60.0, 120.0, 240.0)
_FEASIBLE = 300_000
"""Choices that are tried one by one for the table."""


def write_design_table(anatomy: str, splits: Path, folder: Path, designs: list[Path]) -> None:
    """Do every piece that `folder` does not hold yet, then write ``design.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    store = Held(folder / "design.json")
    subjects = report_subjects(splits)
    confirmed = confirmed_rows(store, anatomy, subjects, designs)
    selected = _selected(store, anatomy, subjects[0])
    regret = regret_rows(store)
    joint = joint_rows(store, anatomy, splits)
    for signals in (("complex",), ("complex", "magnitude")):
        predicted = _predicted(store, anatomy, subjects[0], signals)
        text = "\n".join([_HEAD, *predicted, *selected, *confirmed, *regret, *joint]) + "\n"
        (folder / "design.md").write_text(text, encoding="utf-8")


# -- predicted against achieved --------------------------------------------------------------------


def _predicted(store: Held, anatomy: str, subject: str, signals: tuple[str, ...]) -> list[str]:
    rows = []
    pairs: dict[str, list[tuple[list[float], list[float]]]] = {signal: [] for signal in signals}
    for name in PROTOCOLS:
        cells = []
        for signal in signals:
            pair = _pair(store, anatomy, subject, name, signal)
            pairs[signal].append(pair)
            cells += [f"{p:.4f} / {r:.4f}" for p, r in zip(*pair, strict=True)]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    columns = " | ".join(f"{signal} {tissue}" for signal in signals for tissue in TISSUES)
    header = f"| protocol | {columns} |\n|{'---|' * (1 + 3 * len(signals))}"
    agreement = [_agreement(signal, pairs[signal]) for signal in signals]
    return [_PREDICTED, header, *rows, "", *agreement, ""]


def _pair(
    store: Held, anatomy: str, subject: str, name: str, signal: str
) -> tuple[list[float], list[float]]:
    predicted = store.get(
        f"predicted {name} {signal}", lambda: _scored(anatomy, subject, name, signal)
    )
    reached = store.get(
        f"achieved {name} {signal} none",
        lambda: _achieved(anatomy, subject, name, signal, "none"),
    )
    return predicted["std"], [math.sqrt(v) for v in reached["variance"][0]]


def _scored(anatomy: str, subject: str, name: str, signal: str) -> dict[str, Any]:
    from bmapest_ray.design.fisher import bound
    from bmapest_ray.sequence.parse import parse_protocol
    from bmapest_ray.simulate.measurement import Signal

    setting = replace(setting_of(anatomy, subject), signal=Signal(signal))
    protocol = parse_protocol(name)
    signals = [_signals(anatomy, subject, chain, protocol.scanner) for chain in protocol.chains]
    return {"std": bound(signals, setting).std.tolist()}


@cache
def setting_of(anatomy: str, subject: str) -> DesignSetting:
    """Return the setting that fixes the noise level, once per process."""
    return design_setting_of(anatomy, subject, SNR, REFERENCE)


@cache
def _signals(anatomy: str, subject: str, chain: Chain, scanner: Scanner) -> Signals:
    """Return the signals of a chain, shared by the protocols and kinds of data that need it."""
    import torch

    from bmapest_ray.design.signals import chain_signals
    from bmapest_ray.sequence.protocol import Protocol

    with torch.no_grad():
        played = Protocol("chain", (chain,), scanner)
        return chain_signals(chain, played, setting_of(anatomy, subject)).at()


def _achieved(
    anatomy: str, subject: str, name: str, signal: str, constraints: str, draws: int = 2
) -> dict[str, Any]:
    from bmapest_ray.sequence.parse import parse_protocol

    setting = setting_of(anatomy, subject)
    trial = Trial(anatomy, (subject,), signal, constraints, draws)
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


def _selected(store: Held, anatomy: str, subject: str) -> list[str]:
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

    from bmapest_ray.design.select import count_maximal, exhaustive, greedy

    catalogue = _catalogue(anatomy, subject)
    feasible = count_maximal(catalogue, budget_s, _FEASIBLE) <= _FEASIBLE
    best = exhaustive(catalogue, budget_s) if feasible else None
    found = greedy(catalogue, budget_s)
    return {
        "exhaustive": None if best is None else asdict(best),
        "greedy": {**asdict(found), "names": catalogue.names(found.chosen)},
    }


@cache
def _catalogue(anatomy: str, subject: str) -> Catalogue:
    """Return the 24 contrasts at two voxels and some lines, which is enough to compare choices."""
    from bmapest_ray.design.catalogue import make_catalogue
    from bmapest_ray.design.voxels import DesignVoxels
    from bmapest_ray.sequence.parse import parse_protocol

    setting = setting_of(anatomy, subject)
    some = setting.voxels
    two = DesignVoxels(
        some.b0_hz[2:8:3],
        some.b1[2:8:3],
        some.position_m[2:8:3],
        some.fraction[:, 2:8:3],
    )
    return make_catalogue(parse_protocol(SIX), replace(setting, voxels=two, columns=2), lines=LINES)


_HEAD = """# What designs promise and what they achieve

Written by `bmapest design table`. One physical noise level, fixed by SNR 100 of `t1inv[3]` on the
first report subject; BrainWeb slices `below-top:75`, 64 x 64, 216 mm, analytic B0 and B1. Data are
made with the very model that is fitted: noise is the only error. Designs are made on the MNI152
average and confirmed on subjects of the split `report`, which no design saw.
"""

_PREDICTED = """## Predicted against achieved

Standard deviation of the fractions over the head, predicted / achieved (root mean square error of
two noise draws of one report subject, solved without constraints, which is what the bound is about;
on the simplex, as maps are made in practice, errors are smaller). Fits of magnitudes start at the
truth: without constraints they may end at another sign from elsewhere.
"""

_SELECTED = """## Best subset of the 24 contrasts of the six sequences

Each contrast a chain of its own with its pause of 10 s; root of the mean variance. The bound is one
that no choice within the budget can beat.

| budget [s] | exhaustive | tried | greedy with swaps | excess | bound | greedy chose |
|---|---|---|---|---|---|---|"""
