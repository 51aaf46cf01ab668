import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.cli import main
from bmapest_ray.cli.run_command import Interrupted


def one_sentence(text: str) -> str:
    """The only line of stderr, without the command's name."""
    (line,) = text.splitlines()
    assert line.startswith("bmapest: ")
    return line.removeprefix("bmapest: ")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["rnu"], "Did you mean 'run'?"),
        (["run", "quickstart", "--rsume"], "--resume"),
        (["invert", "--matrix", "many"], "valid integer"),
        (["ui", "/nowhere"], "bmapest run"),
        (["ui", "/nowhere", "--port"], "requires an argument"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert hint in one_sentence(captured.err)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInput("snr must be above 0,\ngot -1; raise it"), 2),
        (KeyboardInterrupt(), 130),
        (Interrupted("interrupted, go on with: bmapest run x --resume"), 130),
        (PermissionError(13, "Permission denied", "/root/x"), 2),
        (BrokenPipeError(), 141),
    ],
)
def test_failures_inside_a_command_end_in_a_code_not_a_traceback(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr("bmapest_ray.cli.ui_command.find_store", fail)
    monkeypatch.setattr("os.dup2", lambda *_: None)
    assert main(["ui"]) == code
    captured = capfd.readouterr()
    assert captured.err.count("\n") == (not isinstance(error, BrokenPipeError))
    assert "Traceback" not in captured.err


def test_the_ui_never_leaves_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[list[str]] = []

    class Server:
        def __init__(
            self,
            command: list[str],
            env: dict[str, str],
            start_new_session: bool,  # noqa: ARG002
        ) -> None:
            seen.append(command)
            assert env["MLFLOW_DISABLE_TELEMETRY"] == "true"

        def wait(self) -> int:
            return 0

    monkeypatch.setattr("subprocess.Popen", Server)
    (tmp_path / "older").mkdir()
    with closing(sqlite3.connect(tmp_path / "older" / "mlflow.db")) as store:
        store.execute("CREATE TABLE experiments (experiment_id INTEGER)")
        store.execute("INSERT INTO experiments VALUES (0), (7)")
        store.commit()
    assert main(["ui", str(tmp_path), "--port", "5055"]) == 0
    assert "http://127.0.0.1:5055/#/experiments/7/runs" in capsys.readouterr().out
    (command,) = seen
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert f"sqlite:///{tmp_path}/older/mlflow.db" in command
    assert main(["ui", str(tmp_path), "--port", "80"]) == 2


def test_doctor_names_every_requirement_and_finds_all_well(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    names = {finding["what"] for finding in told["findings"]}
    assert told["well"]
    assert {"torch", "mrzerocore", "ray", "optuna", "mlflow", "MR-zero", "mni152"} <= names


def test_doctor_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.metadata.requires", lambda _: ["nothing-like-this>=2", "ray<1"])
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "pip install 'nothing-like-this>=2'" in out
    assert "needs <1: pip install 'ray<1'" in out
    assert "2 to mend" in out
