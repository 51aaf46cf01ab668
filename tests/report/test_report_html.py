import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_study import make_evidence, write_study
from PIL import Image

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.figures.chart_parts import plotly_javascript
from bmapest_ray.figures.job_panel import read_maps
from bmapest_ray.report.compare import compare, find
from bmapest_ray.report.evidence import Evidence
from bmapest_ray.report.html import caveats, html, markdown, write_report
from bmapest_ray.report.load import load_evidence
from bmapest_ray.report.sections import coverage_curve
from bmapest_ray.study import store
from bmapest_ray.study.files import read_json


class Reader(HTMLParser):
    """Collects what a browser would load and what a person would read."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.unlabelled: list[str] = []
        self.text = ""
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self._inside = tag
        self.ids += [str(known["id"])] if "id" in known else []
        if tag == "a":
            self.links.append(str(known["href"]))
        else:
            self.loads += [str(known[k]) for k in ("src", "href", "data") if known.get(k)]
        if (tag == "img" and not known.get("alt")) or (
            known.get("role") == "img" and not known.get("aria-label")
        ):
            self.unlabelled.append(tag)

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return make_evidence(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def page(evidence: Evidence) -> str:
    return html(evidence)


@pytest.fixture(scope="module")
def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_the_page_loads_nothing_from_outside(read: Reader, page: str) -> None:
    assert read.loads
    assert all(target.startswith("data:") for target in read.loads)
    assert page.count(plotly_javascript()) == 1
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


def test_question_answer_and_caveats_can_be_read(read: Reader) -> None:
    assert "Which of four protocols measures <grey> matter best?" in read.text
    assert "t1inv,t2prep reaches the best mean PSNR" in read.text
    assert "The data come from the model that is fitted." in read.text
    assert "flatters its lead" in read.text


def test_every_link_has_its_section_and_ids_are_unique(read: Reader) -> None:
    assert len(read.ids) == len(set(read.ids))
    assert {link.removeprefix("#") for link in read.links} <= set(read.ids)
    names = "protocols caveats tests time subjects maps convergence search scores origin"
    assert set(names.split()) <= set(read.ids)


def test_pictures_and_charts_are_described(read: Reader) -> None:
    assert read.unlabelled == []


def test_the_charts_hold_the_numbers(evidence: Evidence, page: str) -> None:
    charts = charts_of(page)
    points = {t["name"]: t for t in charts["chart-pareto"]["data"][1:]}
    best = evidence.ranked[0]
    assert points[best.label]["x"] == [best.scan_time_s]
    assert points[best.label]["y"] == pytest.approx([best.mean])
    boxes = [t for t in charts["chart-subjects"]["data"] if t["type"] == "box"]
    assert [len(box["x"]) for box in boxes] == [10, 10, 10, 10]
    history = [trace for trace in charts["chart-history"]["data"] if trace["mode"] == "markers"]
    assert [trace["name"] for trace in history] == [row.label for row in evidence.ranked]


def test_the_markdown_says_the_same(evidence: Evidence) -> None:
    text = markdown(evidence)
    assert "**Answer.** t1inv,t2prep reaches the best mean PSNR" in text
    assert "| t1inv,t2prep against t2star | +9.91 |" in text
    assert "0.0059" in text


def test_one_subject_has_no_test_and_no_boxes(tmp_path: Path) -> None:
    alone = make_evidence(tmp_path, subjects=1, draws=3)
    page = html(alone)
    assert "n = 1: no test" in page
    assert "no test" in markdown(alone)
    assert "chart-subjects" not in page
    assert "flatters" not in " ".join(caveats(alone))


def test_a_study_without_search_or_maps_leaves_those_sections_out(tmp_path: Path) -> None:
    bare = make_evidence(tmp_path, subjects=3, trials=0, maps=False)
    page = html(replace(bare, trials=()))
    assert 'id="maps"' not in page
    assert 'data-chart="chart-history"' not in page


def test_a_pair_is_compared_by_name(evidence: Evidence, tmp_path: Path) -> None:
    paths = write_report(evidence, tmp_path, ("t2prep", "t1inv"))
    assert [path.name for path in paths] == ["report.html", "report.md"]
    assert "**Asked for.** t1inv is ahead of t2prep by 3.00 dB" in paths[1].read_text()
    with pytest.raises(InvalidInput, match="did you mean 't2star'"):
        write_report(evidence, tmp_path, ("t2stra", "t1inv"))


def charts_of(page: str) -> dict[str, Any]:
    found = re.findall(r'data-chart="([\w-]+)">(.*?)</script>', page, re.DOTALL)
    return {name: json.loads(text) for name, text in found}


def test_the_search_is_told_by_history_importances_slices_and_coordinates(page: str) -> None:
    charts = charts_of(page)
    bars = {trace["name"]: trace for trace in charts["chart-importances"]["data"]}
    for trace in bars.values():  # the made-up objective falls with damping and knows no signs
        shares = dict(zip(trace["y"], trace["x"], strict=True))
        assert shares["damping"] > 0.7
        assert sum(shares.values()) == pytest.approx(1)
    titles = [charts["chart-slices"]["layout"][f"xaxis{n}"]["title"]["text"] for n in ("", "2")]
    assert titles == ["damping", "signs"]
    lines = [t for t in charts["chart-history"]["data"] if t["mode"] == "lines"]
    assert all(sorted(line["y"]) == line["y"] for line in lines)  # best so far never falls
    labels = [d["label"] for d in charts["chart-parallel"]["data"][0]["dimensions"]]
    assert labels == ["protocol", "damping", "signs", "objective"]


def test_honest_deviations_lie_on_the_line_of_calibration(page: str) -> None:
    curves = charts_of(page)["chart-calibration"]["data"][1:]
    assert len(curves) == 4
    for curve in curves:  # errors were drawn with the very deviation that is stated
        assert curve["y"] == pytest.approx(curve["x"], abs=0.03)


def test_coverage_counts_what_lies_inside() -> None:
    truth, std = np.ones((1, 2, 2)), np.ones((1, 2, 2))
    estimate = truth + np.array([[[0.1, 0.9], [1.5, 2.5]]])
    shares = coverage_curve(estimate, std, truth, (0.5, 0.68, 0.9, 0.999))
    assert shares == [0.25, 0.5, 0.75, 1.0]  # half widths 0.674, 0.994, 1.645 and 3.29


def test_the_page_carries_every_map_as_a_picture(evidence: Evidence, page: str) -> None:
    data = json.loads(re.search(r'id="map-data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["matrix"] == 32
    assert set(data["layers"]) == {
        "truth", *(f"{kind}:{i}" for kind in ("estimate", "std", "image") for i in range(4))
    }  # fmt: skip
    layer = data["layers"]["estimate:0"]
    picture = Image.open(io.BytesIO(base64.b64decode(layer["uri"].partition(",")[2])))
    assert picture.size == (3 * 32, 32)
    job = evidence.typical_job(evidence.ranked[0].label)
    maps = read_maps(job, evidence.result.study.directory)
    grey = np.asarray(picture, dtype=float)[::-1, 32:64] / 255  # white matter, anterior up
    shown = layer["low"] + (layer["high"] - layer["low"]) * grey
    assert np.abs(shown - maps[1]).max() < 0.5 * (layer["high"] - layer["low"]) / 255 + 1e-6


def test_a_pair_that_was_asked_for_is_shown_subject_by_subject(evidence: Evidence) -> None:
    one, other = (find(evidence.measured, label) for label in ("t1inv", "t2star"))
    page = html(evidence, compare(one, other, higher_is_better=True))
    points = charts_of(page)["chart-pair"]["data"][0]
    assert points["y"] == pytest.approx(
        sorted(one.by_subject[s] - other.by_subject[s] for s in one.by_subject)
    )


@pytest.mark.slow
def test_five_thousand_jobs_stay_small_and_quick(benchmark: Any, tmp_path: Path) -> None:
    large = make_evidence(tmp_path, subjects=125, draws=10, trials=50, matrix=216)
    write_study(tmp_path, large)
    opened: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "read_json", lambda path: opened.append(path.name) or read_json(path))
        paths = benchmark.pedantic(
            lambda: write_report(load_evidence(tmp_path), tmp_path), rounds=1, iterations=1
        )
    assert len(opened) < 300  # the jobs it shows; 5,000 rows come from the table of results
    assert paths[0].stat().st_size < 15e6
    shown = charts_of(paths[0].read_text())
    assert len(shown["chart-subjects"]["data"][0]["x"]) == 125
    assert "t1inv,t2prep reaches the best PSNR" in paths[1].read_text()


def test_a_report_is_read_back_from_the_results_table(tmp_path: Path) -> None:
    small = make_evidence(tmp_path, subjects=3)
    write_study(tmp_path, small)
    read = load_evidence(tmp_path)
    assert [row.by_subject for row in read.ranked] == [row.by_subject for row in small.ranked]
    assert read.importances == small.importances
    job, again = small.jobs["t1inv"][0], read.jobs["t1inv"][0]
    assert (again.files, again.scores["GM"]) == (job.files, job.scores["GM"])
