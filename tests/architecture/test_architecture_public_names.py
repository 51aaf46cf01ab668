"""The public names: each exists, and the lists that tell of them agree."""

import ast
from pathlib import Path

import pytest

import bmapest_ray

SOURCE = ast.parse(Path(bmapest_ray.__file__).read_text())


@pytest.mark.parametrize("name", bmapest_ray.__all__)
def test_a_public_name_can_be_imported(name: str) -> None:
    assert getattr(bmapest_ray, name) is not None


def test_type_checkers_see_the_same_names_from_the_same_places() -> None:
    seen = {
        alias.name: (node.module or "").removeprefix("bmapest_ray.")
        for node in ast.walk(SOURCE)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("bmapest_ray.")
        for alias in node.names
    }
    assert seen == bmapest_ray._HOMES
    assert {*seen, "__version__"} == set(bmapest_ray.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        bmapest_ray.nothing  # noqa: B018


def test_tab_completion_lists_the_public_names() -> None:
    assert set(dir(bmapest_ray)) == set(bmapest_ray.__all__)
