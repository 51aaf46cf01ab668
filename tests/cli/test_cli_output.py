import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bmapest_ray.cli.output import own_name, print_json


def test_numbers_that_json_lacks_become_null_and_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_json({"scores": {"GM": {"psnr_db": float("inf"), "mae": 0.0}}, "list": [float("nan")]})
    told = json.loads(capsys.readouterr().out)
    assert told["scores"] == {"GM": {"psnr_db": None, "mae": 0.0}}
    assert told["notes"] == [
        "scores.GM.psnr_db is inf, which JSON cannot say: null stands for it",
        "list[0] is nan, which JSON cannot say: null stands for it",
    ]


def test_clean_results_have_no_notes(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"status": "CONVERGED", "files": {}})
    assert json.loads(capsys.readouterr().out) == {"status": "CONVERGED", "files": {}}


def test_native_and_child_output_stays_off_stdout() -> None:
    code = (
        "import os, subprocess\n"
        "from bmapest_ray.cli.output import own_name, print_json, stdout_to_stderr\n"
        "with stdout_to_stderr():\n"
        "    os.write(1, b'native\\n'); print('python'); subprocess.run(['echo', 'child'])\n"
        "print_json({'a': 1})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert json.loads(done.stdout) == {"a": 1}
    assert {"native", "python", "child"} <= set(done.stderr.split())


def test_hints_start_the_program_as_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.argv", [str(tmp_path / ".venv/bin/bmapest")])
    assert own_name() == ".venv/bin/bmapest"
    (tmp_path / "bmapest").touch(mode=0o755)
    assert own_name() == "bmapest"
