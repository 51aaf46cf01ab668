"""Brain tissue maps from a few MRI contrasts, by inverting a simulated scanner.

The public names below are imported when they are first used, so that importing the package is
instant and loads none of its heavy libraries.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
    from bmapest_ray.anatomy.slices import SliceSpec
    from bmapest_ray.base.errors import BmapestError
    from bmapest_ray.base.tissues import TISSUES
    from bmapest_ray.tissue.table import PAPER_3T

_HOMES = {
    "BmapestError": "base.errors",
    "PAPER_3T": "tissue.table",
    "SliceSpec": "anatomy.slices",
    "TISSUES": "base.tissues",
    "load_slice": "anatomy.catalog",
    "open_anatomy": "anatomy.catalog",
}

__all__ = [
    "PAPER_3T",
    "TISSUES",
    "BmapestError",
    "SliceSpec",
    "__version__",
    "load_slice",
    "open_anatomy",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a module's attributes have no common type
    """Import a public name from the module where it lives."""
    if name == "__version__":
        from importlib.metadata import version

        return version("bmapest_ray")
    if name not in _HOMES:
        raise AttributeError(f"module 'bmapest_ray' has no attribute '{name}'")
    value = getattr(import_module(f"bmapest_ray.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)


if TYPE_CHECKING:
    __version__: str
