"""Files made by plain pypulseq calls: imported, simulated and inverted like the package's own."""

from dataclasses import replace

import pytest
import torch
from plain_files import plain_epi, plain_gre, plain_tse
from plain_scenes import FOV_M, MATRIX, maps_of_three_tissues, operator_of

from bmapest_ray.base.errors import SimulationError
from bmapest_ray.inversion.result import Status
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.solve import invert
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.simulate.factory import Engine
from bmapest_ray.simulate.measurement import Measurement, Signal

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
    return maps_of_three_tissues()


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
    assert misfit < 2e-3  # the echo train stops short: its flat directions cost the image nothing
    assert found.status is Status.UNDERDETERMINED  # one image, three tissues


def test_the_three_files_together_give_the_maps(protocols, maps):
    chains = tuple(protocol.chains[0] for protocol in protocols.values())
    together = replace(protocols["gre"], name="three", chains=chains)
    found, misfit = solved(operator_of(together), maps)
    assert misfit < 1e-5
    assert float((found.maps - maps).square().mean().sqrt()) < 1e-3


@pytest.mark.parametrize("engine", list(Engine))
def test_a_line_without_signal_is_refused(tmp_path, engine):
    import pypulseq

    path = tmp_path / "silent.seq"
    plain_gre(pypulseq, path, n=MATRIX, fov=FOV_M, silent=True)
    with pytest.raises(SimulationError, match=r"every ADC line must .* after a pulse of") as error:
        operator_of(parse_protocol(str(path)), engine=engine)
    assert str(error.value).endswith("lower min_emitted_signal or check the pulse")
