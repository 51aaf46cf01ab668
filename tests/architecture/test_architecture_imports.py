"""Who may import what: the order of the rooms and the only importers, read from the source."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "bmapest_ray"

ROOMS = (
    "base",
    "anatomy",
    "tissue",
    "sequence",
    "simulate",
    "metrics",
    "inversion",
    "baselines",
    "design",
    "scan",
    "study",
    "figures",
    "compute",
    "tracking",
    "report",
    "cli",
)

ONLY_IMPORTERS = {
    "MRzeroCore": "simulate/mrzero.py",
    "ismrmrd": "scan/mrd.py",
    "SimpleITK": "scan/register.py",
    "pypulseq": "sequence/*",
    "optuna": "study/search*",
    "matplotlib": "figures/*",
    "plotly": "figures/*",
    "ray": "compute/ray*",
    "mlflow": "tracking/mlflow*",
    "typer": "cli/*",
    "rich": "cli/*",
}


def imported_names(source: str) -> Iterator[str]:
    """Dotted names of all imports of a module, wherever they stand in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def order_breaches(room: str, source: str) -> list[str]:
    """Rooms that stand after `room` and that `source` imports nevertheless."""
    allowed = ROOMS[: ROOMS.index(room) + 1]
    rooms = [name.split(".")[1] for name in imported_names(source) if is_room(name)]
    return [other for other in rooms if other not in allowed]


def is_room(name: str) -> bool:
    parts = name.split(".")
    return parts[0] == "bmapest_ray" and len(parts) > 1 and parts[1] in ROOMS


def importer_breaches(path: str, source: str) -> list[str]:
    """Libraries that `source` imports although it is not their only importer."""
    libraries = {name.split(".")[0] for name in imported_names(source)}
    return sorted(
        library
        for library in libraries & ONLY_IMPORTERS.keys()
        if not fnmatch(path, ONLY_IMPORTERS[library])
    )


def modules() -> list[str]:
    return sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def test_there_are_modules_to_check() -> None:
    assert len(modules()) > len(ROOMS)


def test_every_folder_is_a_room_in_the_order() -> None:
    folders = {path.split("/")[0] for path in modules() if "/" in path}
    assert folders - {"_studies"} <= set(ROOMS)


@pytest.mark.parametrize("path", [path for path in modules() if "/" in path])
def test_a_room_imports_only_rooms_before_it(path: str) -> None:
    assert order_breaches(path.split("/")[0], (PACKAGE / path).read_text()) == []


@pytest.mark.parametrize("path", modules())
def test_a_library_has_one_importer(path: str) -> None:
    assert importer_breaches(path, (PACKAGE / path).read_text()) == []


@pytest.mark.parametrize("path", modules())
def test_no_module_is_longer_than_300_lines(path: str) -> None:
    assert (PACKAGE / path).read_text().count("\n") <= 300


def test_breaches_are_seen_even_inside_a_function() -> None:
    source = "def f():\n    from bmapest_ray.cli import app\n    import ray.util\n"
    assert order_breaches("study", source) == ["cli"]
    assert importer_breaches("study/config.py", source) == ["ray"]
    assert importer_breaches("compute/ray_runner.py", source) == []


def test_the_package_itself_may_be_imported_from_any_room() -> None:
    assert order_breaches("base", "from bmapest_ray import __version__\n") == []
