"""README's promises: the commands are there, and the Python blocks run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_quick_start_is_two_lines_that_set_themselves_up() -> None:
    start = README.index("## Quick start")
    block = README[start:].split("```")[1].splitlines()[1:]
    assert len(block) == 2
    for line in block:
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install ")
        assert "-c constraints.txt" in line
    assert block[0].endswith(".venv/bin/bmapest run studies/quickstart.yaml")
    assert 'pytest -q -m "not slow and not services and not gpu"' in block[1]


def test_pictures_and_files_that_the_readme_names_are_there() -> None:
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


@pytest.mark.slow
@pytest.mark.parametrize("code", PYTHON, ids=["study", "parts"])
def test_the_python_blocks_run(code: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "GM" in done.stdout


def test_the_protocol_that_the_readme_shows_can_be_played(tmp_path: Path) -> None:
    from bmapest_ray.sequence.parse import parse_protocol

    (block,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "own.yaml"
    path.write_text(block)
    protocol = parse_protocol(str(path))
    assert [contrast.name for contrast in protocol.contrasts] == ["short", "long"]
    assert 8 < protocol.scan_time_s(64, 0.216) < 20


def test_commands_that_the_readme_shows_have_the_options_it_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from bmapest_ray.cli import main

    for line in re.findall(
        r"^\| `bmapest (\w+(?: [a-z]+(?=`))?)[^|]*\|(.*)\|$", README, re.MULTILINE
    ):
        command, text = line
        assert main([*command.split(), "--help"]) == 0
        shown = capsys.readouterr().out
        for option in re.findall(r"`(--[\w-]+)", text):
            assert option in shown, f"{command} has no {option}"
