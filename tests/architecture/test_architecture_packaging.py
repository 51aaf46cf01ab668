"""What is built and what is declared: the wheel, the licence, the constraints."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {normal(name): pin for name, pin in pairs}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(*extras: str) -> list[Requirement]:
    texts = list(PROJECT["dependencies"])
    for extra in extras:
        texts += PROJECT["optional-dependencies"][extra]
    found = [Requirement(text) for text in texts]
    return [need for need in found if normal(need.name) != "bmapest-ray"]


def test_torch_is_pinned_without_a_local_version() -> None:
    assert pinned()["torch"] == "2.13.0"


EVERYTHING = requirements(*PROJECT["optional-dependencies"])


@pytest.mark.parametrize("need", EVERYTHING, ids=lambda need: need.name)
def test_every_requirement_is_pinned_within_its_range(need: Requirement) -> None:
    assert need.specifier, f"{need.name} has no range"
    assert need.specifier.contains(pinned()[normal(need.name)])


@pytest.mark.parametrize("need", requirements("test"), ids=lambda need: need.name)
def test_what_is_installed_here_is_what_is_pinned(need: Requirement) -> None:
    assert Version(version(need.name)).public == pinned()[normal(need.name)]


def test_the_licence_is_the_whole_agpl() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert text.startswith(" " * 20 + "GNU AFFERO GENERAL PUBLIC LICENSE")
    assert "13. Remote Network Interaction" in text
    assert "<name of author>" in text
    assert text.count("\n") == 661
    assert PROJECT["license"] == "AGPL-3.0-or-later"


@pytest.mark.slow
def test_the_wheel_carries_studies_presets_and_page_parts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), "."]
    subprocess.run(command, cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in ("_studies/quickstart.yaml", "_studies/protocols/t1inv.yaml"):
        assert f"bmapest_ray/{name}" in names
    assert {
        f"bmapest_ray/{name}" for name in ("py.typed", "report/page.css", "report/page.js")
    } <= (names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "test" in name.split("/")[0]]


@pytest.mark.slow
def test_studies_and_presets_work_from_the_wheel_in_an_empty_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "-t"]
    subprocess.run([*command, str(tmp_path / "site"), "."], cwd=ROOT, check=True)
    (tmp_path / "empty").mkdir()
    code = (
        "import bmapest_ray; from bmapest_ray.study.loading import load_study; "
        "from bmapest_ray.sequence.parse import parse_protocol; "
        "study = load_study('quickstart'); [parse_protocol(text) for text in study.protocols]; "
        "print(bmapest_ray.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "empty",
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().startswith(str(tmp_path / "site"))
