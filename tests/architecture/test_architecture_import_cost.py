"""What importing the package and asking for help may load, checked in fresh interpreters."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "ray", "mlflow", "optuna", "matplotlib", "MRzeroCore")

REPORT = (
    "import json, sys; "
    f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]), file=sys.stderr)"
)

HELP = """
import sys
sys.argv = ["bmapest", *{arguments!r}]
from bmapest_ray.cli import main
try:
    code = main()
except SystemExit as stop:
    code = stop.code
assert code in (0, None), code
"""


def heavy_modules_after(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{REPORT}"], capture_output=True, text=True, check=True
    )
    return list(json.loads(done.stderr.splitlines()[-1]))


def test_import_bmapest_ray_is_cheap() -> None:
    assert heavy_modules_after("import bmapest_ray") == []


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["invert", "--help"]]
)
def test_help_is_cheap(arguments: list[str]) -> None:
    assert heavy_modules_after(HELP.format(arguments=arguments)) == []


def test_the_check_sees_a_heavy_module() -> None:
    assert heavy_modules_after("import optuna") == ["optuna"]
