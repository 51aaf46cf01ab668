"""``bmapest design report``: one protocol before and one after, on subjects that no design saw."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.cli.design_achieved import Inverted, Trial, design_setting_of, inverted
from bmapest_ray.cli.design_confirm import REFERENCE, SNR

if TYPE_CHECKING:
    from bmapest_ray.design.score import ProtocolScore
    from bmapest_ray.design.setting import DesignSetting
    from bmapest_ray.figures.sequence_view import SequenceView
    from bmapest_ray.sequence.protocol import Protocol

MOST_DIAGRAMS = 6
"""Contrasts of a protocol that are drawn."""
_WINDOW = 0.1
"""Half width of the colour scale of differences."""


@dataclass(frozen=True, eq=False)
class Side:
    """A protocol with what it promises and what it reached."""

    protocol: Protocol
    score: ProtocolScore
    done: Inverted

    @property
    def reached(self) -> list[float]:
        """Root mean square error over the heads, per tissue."""
        squares = (self.done.found - self.done.truth).square().movedim(1, 0)
        return [math.sqrt(float(one[self.done.heads].mean())) for one in squares]


def write_design_report(
    texts: tuple[str, str], anatomy: str, subjects: tuple[str, ...], path: Path
) -> list[Side]:
    """Write the page; `texts` name the protocol before and after."""
    from bmapest_ray.report import markup
    from bmapest_ray.study.files import replace_text

    setting = design_setting_of(anatomy, subjects[0], SNR, REFERENCE)
    before, after = (_side(text, Trial(anatomy, subjects), setting) for text in texts)
    sections = [
        ("numbers", "Predicted and achieved", _numbers(before, after, len(subjects))),
        ("parameters", "Parameters", _parameters(before.protocol, after.protocol)),
        (
            "maps",
            f"Maps of subject {subjects[0]}",
            _maps(before, subjects) + _maps(after, subjects),
        ),
        ("before", f"Before: {before.protocol.name}", _diagrams("before", before.protocol)),
        ("after", f"After: {after.protocol.name}", _diagrams("after", after.protocol)),
    ]
    title = f"{after.protocol.name} against {before.protocol.name}"
    top = f'<h1>{escape(title)}</h1><p class="answer">{escape(_answer(before, after))}</p>'
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, markup.page(title, top, sections))
    return [before, after]


def _side(text: str, trial: Trial, setting: DesignSetting) -> Side:
    from bmapest_ray.design.score import score_protocol
    from bmapest_ray.sequence.parse import parse_protocol

    protocol = parse_protocol(text)
    done = inverted(trial, protocol, setting.sigma, setting.dwell_s)
    return Side(protocol, score_protocol(protocol, setting), done)


def _answer(before: Side, after: Side) -> str:
    variance = [sum(v**2 for v in one.reached) / len(one.reached) for one in (before, after)]
    seconds = [one.score.scan_time_s for one in (before, after)]
    return (
        f"{after.protocol.name} takes {seconds[1]:.1f} s in place of {seconds[0]:.1f} s and has "
        f"{variance[1] / variance[0]:.2g} times the mean variance; at one scan time, repeated from "
        f"equilibrium, {variance[1] * seconds[1] / (variance[0] * seconds[0]):.2g} times."
    )


def _numbers(before: Side, after: Side, subjects: int) -> str:
    from bmapest_ray.report import markup

    def row(name: str, values: Iterable[str]) -> tuple[str, ...]:
        return (name, *values)

    sides = (before, after)
    rows = [
        row("scan time [s]", (f"{s.score.scan_time_s:.2f}" for s in sides)),
        row("images", (str(s.score.images) for s in sides)),
        row("RF energy [T2 s]", (f"{s.score.rf_energy_t2_s:.3g}" for s in sides)),
    ]
    for place, tissue in enumerate(TISSUES):
        rows += [
            row(f"{tissue}, predicted sd", (f"{s.score.std[place]:.4f}" for s in sides)),
            row(f"{tissue}, achieved sd", (f"{s.reached[place]:.4f}" for s in sides)),
        ]
    said = (
        f"Complex data of {subjects} subject(s) with noise of one level, made with the model that "
        "is fitted; solved without constraints, one draw each. The prediction is for the first."
    )
    return markup.table(("", "before", "after"), rows, "Before and after") + markup.paragraph(said)


def _parameters(before: Protocol, after: Protocol) -> str:
    from bmapest_ray.report import markup

    known = {c.name: {**dict(c.parameters), "pause_s": c.pause_s} for c in before.contrasts}
    rows = []
    for contrast in after.contrasts:
        now = {**dict(contrast.parameters), "pause_s": contrast.pause_s}
        was = known.get(contrast.name, {})
        for name, value in now.items():
            rows.append((f"{contrast.name}.{name}", _text(was.get(name)), _text(value)))
    gone = sorted(set(known) - {c.name for c in after.contrasts})
    left_out = f"Left out: {', '.join(gone)}." if gone else "No contrast is left out."
    table = markup.table(("parameter", "before", "after"), rows, "Parameters of the design")
    return table + markup.paragraph(f"A blank is the default of the sequence. {left_out}")


def _text(value: float | str | None) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _maps(side: Side, subjects: tuple[str, ...]) -> str:
    from bmapest_ray.figures.panel import draw_panel, truth_estimate_difference

    truth, found = (one[0].cpu().numpy() for one in (side.done.truth, side.done.found))
    columns = truth_estimate_difference(truth, found, window=_WINDOW)
    title = f"{side.protocol.name}, sub-{subjects[0]}, {side.score.scan_time_s:.1f} s"
    notes = [f"{t} sd {v:.4f}" for t, v in zip(TISSUES, side.reached, strict=True)]
    buffer = io.BytesIO()
    draw_panel(columns, TISSUES, title, notes).save(buffer, "PNG")
    code = base64.b64encode(buffer.getvalue()).decode()
    return f'<figure><img src="data:image/png;base64,{code}" alt="{escape(title)}"></figure>'


def _diagrams(name: str, protocol: Protocol) -> str:
    from bmapest_ray.cli.protocol_view import contrast_view
    from bmapest_ray.report.markup import paragraph

    shown = protocol.contrasts[:MOST_DIAGRAMS]
    parts = [
        _diagram(f"{name}-{number}", contrast_view(protocol, contrast, 64, 0.216))
        for number, contrast in enumerate(shown)
    ]
    more = len(protocol.contrasts) - len(shown)
    return "".join(parts) + (paragraph(f"{more} further contrasts are not drawn.") if more else "")


def _diagram(name: str, view: SequenceView) -> str:
    from bmapest_ray.figures.sequence_chart import sequence_chart
    from bmapest_ray.report.markup import chart

    return f"<h3>{escape(view.title)}</h3>{chart(name, sequence_chart(view))}"
