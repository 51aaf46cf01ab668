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
    from bmapest_ray.compute.factory import make_runner
    from bmapest_ray.inversion.settings import SolverSettings
    from bmapest_ray.inversion.solve import invert
    from bmapest_ray.metrics.scorecard import scorecard
    from bmapest_ray.sequence.parse import parse_protocol
    from bmapest_ray.simulate.factory import build_operator
    from bmapest_ray.simulate.grid import VoxelGrid
    from bmapest_ray.simulate.measurement import Measurement, Signal
    from bmapest_ray.simulate.noise import add_noise, sigma_from_snr
    from bmapest_ray.simulate.scene import Scene
    from bmapest_ray.study.job import WORK
    from bmapest_ray.study.loading import load_study
    from bmapest_ray.study.run import run_study
    from bmapest_ray.study.store import load_results
    from bmapest_ray.tissue.fields import make_fields
    from bmapest_ray.tissue.table import PAPER_3T

_HOMES = {
    "BmapestError": "base.errors",
    "Measurement": "simulate.measurement",
    "PAPER_3T": "tissue.table",
    "Scene": "simulate.scene",
    "Signal": "simulate.measurement",
    "SliceSpec": "anatomy.slices",
    "SolverSettings": "inversion.settings",
    "TISSUES": "base.tissues",
    "VoxelGrid": "simulate.grid",
    "WORK": "study.job",
    "add_noise": "simulate.noise",
    "build_operator": "simulate.factory",
    "invert": "inversion.solve",
    "load_results": "study.store",
    "load_slice": "anatomy.catalog",
    "load_study": "study.loading",
    "make_fields": "tissue.fields",
    "make_runner": "compute.factory",
    "open_anatomy": "anatomy.catalog",
    "parse_protocol": "sequence.parse",
    "run_study": "study.run",
    "scorecard": "metrics.scorecard",
    "sigma_from_snr": "simulate.noise",
}

__all__ = [
    "PAPER_3T",
    "TISSUES",
    "WORK",
    "BmapestError",
    "Measurement",
    "Scene",
    "Signal",
    "SliceSpec",
    "SolverSettings",
    "VoxelGrid",
    "__version__",
    "add_noise",
    "build_operator",
    "invert",
    "load_results",
    "load_slice",
    "load_study",
    "make_fields",
    "make_runner",
    "open_anatomy",
    "parse_protocol",
    "run_study",
    "scorecard",
    "sigma_from_snr",
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
