"""The page of a design before and after: parameters, predicted and achieved errors, diagrams."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bmapest_ray.cli import design_achieved
from bmapest_ray.cli.app import app


@pytest.mark.slow
def test_a_page_says_what_changed_and_how_it_did(
    brainweb_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(design_achieved, "MATRIX", 16)
    page = tmp_path / "page.html"
    arguments = ["design", "report", "t2prep[0,2],t1inv[1]", "--before", "t2prep"]
    arguments += [
        "--anatomy",
        f"bids:{brainweb_dir / 'brainweb14'}",
        "--subjects",
        "1",
        "--out",
        str(page),
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.exception
    text = page.read_text("utf-8")
    assert "Left out: t2prep[1], t2prep[3]." in text
    assert text.count('<img src="data:image/png;base64,') == 2
    rows = dict(
        re.findall(r'<th scope="row">(\w+), achieved sd</th><td>[\d.]+</td><td>([\d.]+)', text)
    )
    predicted = dict(
        re.findall(r'<th scope="row">(\w+), predicted sd</th><td>[\d.]+</td><td>([\d.]+)', text)
    )
    assert set(rows) == {"GM", "WM", "CSF"}
    for tissue, value in rows.items():
        assert float(value) == pytest.approx(float(predicted[tissue]), rel=0.3)
