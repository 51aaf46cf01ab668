"""Files made by plain pypulseq calls: imported, simulated and inverted like the package's own."""

from dataclasses import replace

import pytest
import torch
from plain_files import plain_epi, plain_gre, plain_tse

from bmapest_ray.inversion.result import Status
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.solve import invert
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.simulate.factory import Scene, build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.measurement import Measurement, Signal
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.table import PAPER_3T

MATRIX, FOV_M = 8, 0.2
WRITERS = {"gre": plain_gre, "tse": plain_tse, "epi": plain_epi}


@pytest.fixture(scope="module")
def protocols(tmp_path_factory):
    """The three files as protocols, by name."""
    import pypulseq

    folder = tmp_path_factory.mktemp("plain")
    for name, write in WRITERS.items():
        write(pypulseq, folder / f"{name}.seq", n=MATRIX, fov=FOV_M)
    return {name: parse_protocol(str(folder / f"{name}.seq")) for name in WRITERS}


@pytest.fixture(scope="module")
def maps():
    """Three overlapping tissues with background around them."""
    axis = (torch.arange(MATRIX) + 0.5) * 2 / MATRIX - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    wm = 0.8 * torch.exp(-8 * (x**2 + y**2))
    csf = 0.3 * torch.exp(-20 * ((x - 0.3) ** 2 + (y + 0.2) ** 2))
    gm = (0.9 - wm - csf).clamp(min=0) * (x**2 + 0.8 * y**2 < 0.8)
    return torch.stack([gm, wm, csf])


def operator_of(protocol):
    axis = torch.linspace(-1, 1, MATRIX, dtype=torch.float64)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    fields = Fields(10 * x - 6 * y**2, 1.0 - 0.1 * (x**2 + y**2))
    return build_operator(Scene(protocol, VoxelGrid(MATRIX, FOV_M), fields, PAPER_3T)).operator


def solved(operator, maps):
    """Maps found from complex noise-free images, and how far their images are from the data."""
    images = operator.forward(maps)
    data = Measurement(images, Signal.COMPLEX)
    start = torch.full_like(maps, 0.25)
    found = invert(data, operator, solver=SolverSettings(), start=start)
    misfit = operator.forward(found.maps) - images
    return found, float(misfit.norm() / images.norm())


@pytest.mark.parametrize("name", WRITERS)
def test_one_plain_file_is_inverted_to_maps_that_explain_its_image(name, protocols, maps):
    operator = operator_of(protocols[name])
    assert [channel.image for channel in operator.channels] == [name]
    found, misfit = solved(operator, maps)
    assert misfit < 1e-3
    assert found.status is Status.UNDERDETERMINED  # one image, three tissues


def test_the_three_files_together_give_the_maps(protocols, maps):
    chains = tuple(protocol.chains[0] for protocol in protocols.values())
    together = replace(protocols["gre"], name="three", chains=chains)
    found, misfit = solved(operator_of(together), maps)
    assert misfit < 1e-5
    assert float((found.maps - maps).square().mean().sqrt()) < 1e-3
