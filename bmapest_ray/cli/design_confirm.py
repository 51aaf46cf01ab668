"""Designs against the six sequences: inversions with noise on subjects that no design saw."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmapest_ray.cli.design_achieved import Trial, achieved, design_setting_of

if TYPE_CHECKING:
    from bmapest_ray.cli.held import Held
    from bmapest_ray.sequence.protocol import Protocol

SIX = "t1inv,t2prep,t2star,dir,flair,dwi"
SNR, REFERENCE = 100.0, "t1inv[3]"


def confirmed_rows(
    store: Held, anatomy: str, subjects: list[str], designs: list[Path]
) -> list[str]:
    """Return the rows of the six sequences and of every design."""
    from bmapest_ray.sequence.parse import parse_protocol

    rows = []
    six = _errors(store, anatomy, subjects, parse_protocol(SIX), SIX)
    for path in designs:
        protocol = parse_protocol(str(path))
        rows.append(_row(store, anatomy, subjects, protocol, path, six))
    if not rows:
        return []
    mean = sum(six) / len(six)
    first = f"| six sequences | 277.8 | {mean**0.5:.4f} | 1 | 1 | 1 | |"
    return [_CONFIRMED, first, *rows, ""]


def _errors(
    store: Held, anatomy: str, subjects: list[str], protocol: Protocol, name: str
) -> list[float]:
    """Return each subject's mean variance over tissues."""
    found = store.get(
        f"confirmed {name} {protocol.digest[:12]} {len(subjects)}",
        partial(_confirm, anatomy, tuple(subjects), protocol),
    )
    return [sum(one) / len(one) for one in found["variance"]]


def _confirm(anatomy: str, subjects: tuple[str, ...], protocol: Protocol) -> dict[str, Any]:
    setting = design_setting_of(anatomy, subjects[0], SNR, REFERENCE)
    return achieved(Trial(anatomy, subjects), protocol, setting.sigma, setting.dwell_s)


def _row(
    store: Held,
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
    steady = store.get(
        f"steady {path.stem} {protocol.digest[:12]}",
        partial(_steady, anatomy, protocol),
    )
    again = equal_time * steady["again"] / steady["once"]
    cells = (
        f"[{path.stem}](../designs/{path.name})",
        f"{seconds:.2f}",
        f"{(sum(errors) / len(errors)) ** 0.5:.4f}",
        f"{ratio:.3f}",
        f"1/{1 / equal_time:.1f}",
        f"1/{1 / again:.1f}",
        paired_test(logs).sentence,
    )
    return f"| {' | '.join(cells)} |"


def _steady(anatomy: str, protocol: Protocol) -> dict[str, Any]:
    """Return predicted mean variances, played once from equilibrium and again right after."""
    from bmapest_ray.design.score import score_protocol

    setting = design_setting_of(anatomy, "20", SNR, REFERENCE)
    again = replace(protocol, chains=tuple(replace(c, dummy_cycles=1) for c in protocol.chains))
    return {
        "once": score_protocol(protocol, setting).mean_variance,
        "again": score_protocol(again, setting).mean_variance,
    }


_CONFIRMED = """## Designs against the six sequences

Mean variance over head pixels, then over tissues, of inversions with noise (complex, without
constraints), mean over ten report subjects; paired test of the log ratio per subject. At equal time
a design is repeated and averaged: from equilibrium each time (which takes pauses that are not
counted), or again right after without any pause (predicted; CSF has not recovered).

| protocol | scan [s] | root mean variance | ratio | equal time | no pause | paired test |
|---|---|---|---|---|---|---|"""
