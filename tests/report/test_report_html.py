import json
import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_up_study import make_evidence

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.figures.charts import plotly_javascript
from bmapest_ray.report.evidence import Evidence
from bmapest_ray.report.html import caveats, html, markdown, write_report


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
    found = re.findall(r'data-chart="([\w-]+)">(.*?)</script>', page, re.DOTALL)
    charts = {name: json.loads(text) for name, text in found}
    points = {t["name"]: t for t in charts["chart-pareto"]["data"][1:]}
    best = evidence.ranked[0]
    assert points[best.label]["x"] == [best.scan_time_s]
    assert points[best.label]["y"] == pytest.approx([best.mean])
    boxes = [t for t in charts["chart-subjects"]["data"] if t["type"] == "box"]
    assert [len(box["x"]) for box in boxes] == [10, 10, 10, 10]
    history = charts["chart-history"]["data"]
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


def test_five_thousand_jobs_stay_small_and_quick(tmp_path: Path) -> None:
    large = make_evidence(tmp_path, subjects=125, draws=10, trials=200, maps=False)
    start = time.process_time()
    page = html(large)
    assert time.process_time() - start < 15
    assert len(page) < 15e6
