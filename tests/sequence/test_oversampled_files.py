"""Files whose samples lie off the Cartesian grid: oversampled, shifted, cut short, repeated."""

from dataclasses import replace

import pytest
import torch
from plain_files import plain_epi, plain_oversampled, plain_tse
from plain_scenes import FOV_M, MATRIX, maps_of_three_tissues, operator_of

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.solve import invert
from bmapest_ray.sequence.build import build_chain
from bmapest_ray.sequence.file_grid import grid_of
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.seq_file import file_sha256, read_seq
from bmapest_ray.simulate.factory import Engine
from bmapest_ray.simulate.measurement import Measurement, Signal


def written(path, write=plain_oversampled, **others):
    import pypulseq

    write(pypulseq, path, n=MATRIX, fov=FOV_M, **others)
    return parse_protocol(str(path))


def grid_in(path):
    return grid_of(read_seq(path, file_sha256(path)))


def built(protocol):
    return build_chain(protocol.chains[0], MATRIX, FOV_M, protocol.scanner)


@pytest.mark.parametrize(
    ("others", "samples", "lines"),
    [
        ({}, 16, 8),
        ({"factor": 1}, 8, 8),  # samples on the points of a discrete transform: half a step off
        ({"skipped": 3}, 16, 5),
        ({"cut": 6}, 10, 8),
        ({"factor": 4}, 32, 8),
    ],
    ids=["oversampled", "shifted", "partial Fourier", "partial echo", "fourfold"],
)
def test_matrix_and_field_of_view_come_from_the_definition_and_the_reach(
    tmp_path, others, samples, lines
):
    protocol = written(tmp_path / "gre.seq", **others)
    assert grid_in(tmp_path / "gre.seq") == (MATRIX, FOV_M)
    chain = built(protocol)
    assert {r.samples for r in chain.readouts} == {samples}
    assert len(chain.readouts) == lines
    assert not any(r.on_grid for r in chain.readouts)
    assert chain.images == ("gre",)


def test_lines_that_are_read_again_without_labels_are_another_image(tmp_path):
    chain = built(written(tmp_path / "gre.seq", times=2))
    assert chain.images == ("gre.image1", "gre.image2")
    assert [r.image for r in chain.readouts] == [0] * MATRIX + [1] * MATRIX


def test_oversampled_images_equal_those_of_mr_zero(tmp_path):
    protocol = written(tmp_path / "gre.seq", cut=3)
    maps = maps_of_three_tissues()
    found = operator_of(protocol, tolerance=1e-6).forward(maps)
    expected = operator_of(protocol, engine=Engine.REFERENCE).forward(maps)
    assert float((found - expected).norm() / expected.norm()) < 1e-5


@pytest.mark.slow
def test_an_oversampled_file_and_two_on_the_grid_give_the_maps(tmp_path):
    protocols = [
        written(tmp_path / "gre.seq"),
        written(tmp_path / "tse.seq", plain_tse),
        written(tmp_path / "epi.seq", plain_epi),
    ]
    chains = tuple(protocol.chains[0] for protocol in protocols)
    operator = operator_of(replace(protocols[0], name="three", chains=chains))
    maps = maps_of_three_tissues()
    data = Measurement(operator.forward(maps), Signal.COMPLEX)
    start = torch.full_like(maps, 0.25)
    found = invert(data, operator, solver=SolverSettings(), start=start)
    assert float((found.maps - maps).square().mean().sqrt()) < 1e-3


def test_a_definition_wider_than_the_samples_allow_names_the_block(tmp_path):
    written(tmp_path / "gre.seq", factor=1)
    text = (tmp_path / "gre.seq").read_text().replace("FOV 0.2 0.2", "FOV 0.3 0.3")
    (tmp_path / "gre.seq").write_text(text)
    with pytest.raises(InvalidInput, match=r"at most the 0\.2 m .* in block 3\), got 0\.3 m"):
        grid_in(tmp_path / "gre.seq")
