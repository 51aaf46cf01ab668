"""A person's view: the MLflow UI and the report of a finished study, in a real browser."""

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bmapest_ray.cli import main
from bmapest_ray.tracking.mlflow_ui import links

pytestmark = [
    pytest.mark.services,
    # MLflow 3.17 uses a loader that SQLAlchemy 2.1 deprecates; nothing that we could change.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning"),
]

STUDY = """
name: browser
question: Which of four protocols should we scan with?
anatomy:
  source: bids:SOURCE
  subjects: ["20", "38", "41", "42", "44", "45", "47", "49", "51", "53"]
  slices: ["below-top:75"]
  matrix: 16
protocols: ["t1inv[2]", "t2prep[0:2]", "t1inv", "t1inv,t2prep"]
noise: {snr: 100, reference: "t1inv[3]"}
inversion: {start: uniform, settings: {max_iterations: 8}}
search:
  n_trials: 2
  tune_subjects: ["04", "05"]
  space: {inversion.settings.inner_iterations: [4, 8]}
output: {deviations: true}
compute: {runner: local}
"""
WAIT_S = 60.0
FRACTIONS = "figure.maps[data-kind=fraction] canvas[data-layer]"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, brainweb_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    text = STUDY.replace("SOURCE", str(brainweb_dir / "brainweb14"))
    (folder / "study.yaml").write_text(text)
    assert main(["run", str(folder / "study.yaml"), "--out", str(folder / "out")]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def server(study: Path) -> Iterator[str]:
    """The MLflow UI as ``bmapest ui`` serves it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "bmapest_ray", "ui", str(study), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as ui:
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(address))
        yield address
        ui.send_signal(signal.SIGINT)
        assert ui.wait(timeout=30) == 0
    assert not answers(address)


@pytest.fixture
def browser() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert chromium, "install chromium"
    assert driver, "install chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=1600,1200")
    if os.getuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    yield chrome
    chrome.quit()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=2):  # noqa: S310
            return True
    except (urllib.error.URLError, OSError):
        return False


def wait_until(true: Any, seconds: float = WAIT_S) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"still not so after {seconds:.0f} s"
        time.sleep(0.2)


def ask(address: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310
        f"{address}/api/2.0/mlflow/{what}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:  # noqa: S310
        return dict(json.load(reply))


def runs(address: str, level: str) -> list[dict[str, Any]]:
    found = ask(address, "experiments/search", {"max_results": 10})["experiments"]
    (experiment,) = (row for row in found if row["name"] == "browser")
    wanted = f"tags.`bmapest.level` = '{level}'"
    body = {"experiment_ids": [experiment["experiment_id"]], "filter": wanted, "max_results": 500}
    return list(ask(address, "runs/search", body).get("runs", ()))


def tag(run: dict[str, Any], key: str) -> str:
    return next((row["value"] for row in run["data"]["tags"] if row["key"] == key), "")


def page(address: str, run: dict[str, Any], part: str = "") -> str:
    info = run["info"]
    run_page = f"{address}/#/experiments/{info['experiment_id']}/runs/{info['run_id']}{part}"
    return f"{run_page}?workflowType=machine_learning"


def requested(browser: Any) -> list[str]:
    """Every address that the page has asked for."""
    messages = (json.loads(row["message"])["message"] for row in browser.get_log("performance"))
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


def text_of(browser: Any) -> str:
    return str(browser.execute_script("return document.body.innerText"))


def keep(browser: Any, name: str) -> None:
    """Leave a screenshot where BMAPEST_SCREENSHOTS says, for a person to look at."""
    folder = os.environ.get("BMAPEST_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(f"{folder}/{name}.png")


def keep_whole(browser: Any, name: str, media: str = "") -> None:
    """Leave a picture of the whole page; `media` is ``print`` for what a printer would get."""
    if not os.environ.get("BMAPEST_SCREENSHOTS"):
        return
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
    told = {"format": "png", "captureBeyondViewport": True}
    picture = browser.execute_cdp_cmd("Page.captureScreenshot", told)["data"]
    path = Path(os.environ["BMAPEST_SCREENSHOTS"], f"{name}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(base64.b64decode(picture))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_runs_nest_and_carry_scores(server: str) -> None:
    (root,) = runs(server, "study")
    trials, jobs = runs(server, "trial"), runs(server, "job")
    assert len(trials) == 4 * 2 + 4
    assert len(jobs) == 4 * 2 * 2 + 4 * 10
    assert {tag(run, "mlflow.parentRunId") for run in trials} == {root["info"]["run_id"]}
    assert {tag(run, "mlflow.parentRunId") for run in jobs} == {
        run["info"]["run_id"] for run in trials
    }
    for run in trials + jobs:
        names = {row["key"] for row in run["data"]["metrics"]}
        assert {"psnr_db/GM", "psnr_db/WM", "psnr_db/CSF", "scan_time_s"} <= names
        assert {"protocol"} <= {row["key"] for row in run["data"]["params"]}
    assert {tag(run, "stage") for run in trials} == {"search", "report"}


def test_the_table_of_runs_opens_from_study_to_trials_to_jobs(
    study: Path, server: str, browser: Any
) -> None:
    browser.get(links(study, int(server.rsplit(":", 1)[1]))["runs"])
    cells = "[col-id=runName] button, .ag-row button"
    for depth, name in enumerate(("t1inv,t2prep report", "sub-20")):
        wait_until(lambda: browser.find_elements("css selector", cells))
        expand(browser, depth)
        wait_until(lambda name=name: name in text_of(browser))
    keep(browser, "mlflow-runs")
    assert all(url.startswith((server, "data:", "blob:")) for url in requested(browser))


def expand(browser: Any, row: int) -> None:
    """Open the run in a row of the table."""
    found = browser.find_elements("css selector", f".ag-row[row-index='{row}'] button")
    found[0].click()


def test_the_protocols_stand_side_by_side(study: Path, server: str, browser: Any) -> None:
    browser.get(links(study, int(server.rsplit(":", 1)[1]))["protocols"])
    for label in ("t1inv,t2prep report", "t1inv report", "t2prep[0:2] report", "t1inv[2] report"):
        wait_until(lambda label=label: label in text_of(browser))
    assert "search 0000" not in text_of(browser)
    wait_until(lambda: browser.find_elements("css selector", ".main-svg"))
    keep(browser, "mlflow-protocols")
    for box in browser.find_elements("css selector", "input[aria-label*='toggle row selection']"):
        browser.execute_script("arguments[0].click()", box)
    browser.find_element("css selector", "[data-testid=runs-compare-button]").click()
    wait_until(lambda: "Comparing 4 Runs" in text_of(browser))
    wait_until(lambda: browser.find_elements("css selector", ".main-svg"))
    assert "inversion.settings.inner_iterations" in text_of(browser)
    keep(browser, "mlflow-compare")
    named(browser, "Contour Plot")[0].click()
    wait_until(lambda: browser.find_elements("css selector", ".contourlayer path"))
    keep(browser, "mlflow-compare-contour")
    assert complaints(browser) == []


def test_a_study_says_what_it_asks_and_shows_its_report(server: str, browser: Any) -> None:
    (root,) = runs(server, "study")
    browser.get(page(server, root))
    wait_until(lambda: "Description" in text_of(browser))
    description = text_of(browser).split("Description", 1)[1]
    assert "Which of four protocols should we scan with?" in description
    assert "t1inv,t2prep is ahead of t1inv by" in description
    to_the_end(browser)
    keep(browser, "mlflow-study")
    browser.get(page(server, root, "/artifacts/report.html"))
    wait_until(lambda: browser.find_elements("css selector", "iframe"))
    browser.switch_to.frame(browser.find_element("css selector", "iframe"))
    wait_until(lambda: browser.find_elements("css selector", "#chart-pareto .main-svg"))
    assert "reaches the best PSNR" in text_of(browser)
    browser.switch_to.default_content()
    keep(browser, "mlflow-report")
    wait_until(lambda: named(browser, "viewer.html"))
    named(browser, "viewer.html")[0].click()
    wait_until(lambda: in_frame(browser, "iframe[title=GM]"))
    keep(browser, "mlflow-viewer")
    assert all(url.startswith((server, "data:", "blob:", "about:")) for url in requested(browser))
    assert complaints(browser) == []


def test_a_trial_shows_its_maps_with_a_slider(server: str, browser: Any) -> None:
    wanted = ("t1inv,t2prep", "report")
    trials = runs(server, "trial")
    (trial,) = (run for run in trials if (tag(run, "protocol"), tag(run, "stage")) == wanted)
    browser.get(page(server, trial, "/model-metrics"))
    wait_until(lambda: "psnr_db" in text_of(browser))
    for slider in ("iterations", "maps"):  # charts are drawn when they come into view
        wait_until(lambda name=slider: to_the_end(browser) and name in text_of(browser))
    wait_until(lambda: len(browser.find_elements("css selector", "[role=slider]")) >= 2)
    wait_until(lambda: pictures(browser))
    keep(browser, "mlflow-trial-metrics")
    browser.get(page(server, trial, "/artifacts"))
    wait_until(lambda: "deviations.png" in text_of(browser))
    keep(browser, "mlflow-trial-artifacts")


def test_a_job_shows_its_maps_and_its_curve(server: str, browser: Any) -> None:
    job = next(run for run in runs(server, "job") if tag(run, "stage") == "report")
    browser.get(page(server, job, "/artifacts/maps.png"))
    wait_until(lambda: pictures(browser))
    keep(browser, "mlflow-job-maps")
    browser.get(page(server, job, "/model-metrics"))
    wait_until(lambda: browser.find_elements("css selector", ".main-svg"))
    assert "convergence" in text_of(browser)
    keep(browser, "mlflow-job-curves")


def to_the_end(browser: Any) -> bool:
    """Scroll whatever can be scrolled to its end."""
    browser.execute_script(
        "for (const e of document.querySelectorAll('*'))"
        " if (e.scrollHeight > e.clientHeight + 100) e.scrollTop = e.scrollHeight"
    )
    return True


def named(browser: Any, name: str) -> list[Any]:
    """Every element with just this text that can be clicked."""
    return list(browser.find_elements("xpath", f"//*[text()='{name}']"))


def in_frame(browser: Any, what: str) -> bool:
    """Whether the artifact's frame shows such an element."""
    frames = browser.find_elements("css selector", "iframe")
    if not frames:
        return False
    browser.switch_to.frame(frames[0])
    found = browser.find_elements("css selector", what)
    browser.switch_to.default_content()
    return bool(found)


def complaints(browser: Any) -> list[str]:
    """Errors on the console but for one that MLflow causes itself: it asks who is logged in."""
    errors = [row["message"] for row in browser.get_log("browser") if row["level"] == "SEVERE"]
    return [text for text in errors if "mlflow/users/current" not in text]


def pictures(browser: Any) -> int:
    """How many large pictures are really there, not only named."""
    script = "return [...document.images].filter(i => i.naturalWidth > 200).length"
    drawn = "return [...document.querySelectorAll('canvas, svg image')].length"
    return int(browser.execute_script(script)) or int(browser.execute_script(drawn))


def test_the_report_works_from_the_disk_without_network_or_errors(
    study: Path, browser: Any
) -> None:
    browser.get((study / "report.html").as_uri())
    wait_until(lambda: browser.find_elements("css selector", "#chart-pareto .main-svg"))
    charts = browser.find_elements("css selector", ".chart")
    assert charts
    assert all(chart.find_elements("css selector", ".main-svg") for chart in charts)
    assert "n = 10, Wilcoxon, Holm-corrected p" in text_of(browser)
    wait_until(lambda: browser.execute_script("return document.documentElement.dataset.maps"))
    assert painted(browser, "fraction") == len(browser.find_elements("css selector", FRACTIONS))
    keep(browser, "report-light")
    keep_whole(browser, "report-light-whole")
    keep_whole(browser, "report-print-whole", "print")

    before = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    button = browser.find_element("id", "theme")
    button.send_keys("\n")  # by the keyboard, as a person without a mouse
    after = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert before != after
    keep(browser, "report-dark")
    keep_whole(browser, "report-dark-whole")

    assert [row for row in browser.get_log("browser") if row["level"] == "SEVERE"] == []
    assert all(url.startswith(("file:", "data:", "blob:")) for url in requested(browser))


def painted(browser: Any, kind: str) -> int:
    """How many maps of a kind show more than one colour."""
    script = """
      const several = (canvas) => {
        const pen = canvas.getContext("2d");
        const bytes = pen.getImageData(0, 0, canvas.width, canvas.height).data;
        return new Set(bytes.filter((_, i) => i % 4 === 0)).size > 1;
      };
      const found = document.querySelectorAll(`figure.maps[data-kind=${arguments[0]}] td canvas`);
      return [...found].filter(several).length;
    """
    return int(browser.execute_script(script, kind))


def test_one_window_and_one_voxel_serve_all_maps(study: Path, browser: Any) -> None:
    browser.get((study / "report.html").as_uri())
    wait_until(lambda: browser.execute_script("return document.documentElement.dataset.maps"))
    pixels = "return [...document.querySelectorAll(arguments[0])].map(c => c.toDataURL())"
    before = browser.execute_script(pixels, FRACTIONS)
    slider = browser.find_element("css selector", "figure.maps[data-kind=fraction] [data-set=high]")
    for _ in range(40):
        slider.send_keys("\ue012")  # left arrow: the white end of the window falls
    after = browser.execute_script(pixels, FRACTIONS)
    assert all(one != other for one, other in zip(before, after, strict=True))

    block = browser.find_element("css selector", "figure.maps[data-kind=error]")
    block.send_keys("\ue014")  # right arrow marks a voxel, in every block
    values = "return [...document.querySelectorAll('figure.maps .value')].map(v => v.textContent)"
    wait_until(lambda: any(text.strip() for text in browser.execute_script(values)))
    told = [text for text in browser.execute_script(values) if text.strip()]
    overlays = browser.find_elements("css selector", "figure.maps[data-kind=overlay] td canvas")
    maps = browser.find_elements("css selector", "figure.maps td canvas")
    assert len(told) == len(maps) - len(overlays)
