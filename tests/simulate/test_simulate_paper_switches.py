"""What only the paper does is a switch each, off by default."""

from dataclasses import replace

import pytest
import torch

from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.protocol import StateAccuracy
from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.tissue.fields import Fields, make_fields
from bmapest_ray.tissue.mixing import Mixing
from bmapest_ray.tissue.table import PAPER_3T


def test_diffusion_times_1e5_darkens_strong_gradients() -> None:
    flat = torch.zeros((16, 16), dtype=torch.float64)
    fields = Fields(flat, flat + 1.0)
    maps = torch.zeros((3, 16, 16))
    maps[0] = 1.0
    norms = {}
    for factor in (1.0, 1e5):
        table = PAPER_3T.with_diffusivity_times(factor)
        scene = Scene(parse_protocol("dwi"), VoxelGrid(16, 0.216), fields, table)
        operator = build_operator(scene, EngineOptions(engine=Engine.EXACT)).operator
        norms[factor] = operator.forward(maps).flatten(1).norm(dim=1)
    assert float(norms[1.0][3] / norms[1.0][0]) > 0.9
    assert float(norms[1e5][3] / norms[1e5][0]) < 0.6


def test_fields_of_the_paper_are_normalised_per_subject() -> None:
    maps = load_slice(open_anatomy("mni152"), "mni152", SliceSpec.parse("below-top:75"), 32)
    fields = make_fields("paper", "paper", maps)
    weight = (maps.fraction.double() * PAPER_3T.column("pd")[:, None, None]).sum(0)
    weight = weight / weight.sum()
    assert float((weight * fields.b0_hz).sum()) == pytest.approx(0.0, abs=1e-9)
    assert float((weight * fields.b1).sum()) == pytest.approx(1.0, abs=1e-9)
    head = maps.head
    assert -11 < float(fields.b0_hz[head].min()) < -8
    assert 10 < float(fields.b0_hz[head].max()) < 14


def test_smaller_voxel_grid_is_seen_smaller() -> None:
    flat = torch.zeros((16, 16), dtype=torch.float64)
    maps = torch.zeros((3, 16, 16))
    maps[0, 14, 8] = 1.0
    rows = []
    for voxels_m in (0.2, 0.15):
        scene = Scene(
            parse_protocol("t1inv[3]"), VoxelGrid(16, 0.2), Fields(flat, flat + 1.0), PAPER_3T,
            Mixing.AVERAGE, VoxelGrid(16, voxels_m),
        )  # fmt: skip
        image = build_operator(scene).operator.forward(maps)[0].abs()
        rows.append(int(image.amax(1).argmax()))
    assert rows == [14, 12]


def test_mean_graph_loses_lines_where_the_mean_is_nulled() -> None:
    protocol = parse_protocol("t1inv[2]")
    mean = StateAccuracy(
        min_state_mag=1e-3, min_latent_signal=1e-2, min_emitted_signal=1e-2, probes="mean"
    )
    flat = torch.zeros((64, 64), dtype=torch.float64)
    counts = []
    for accuracy in (protocol.accuracy, mean):
        chosen = replace(protocol, accuracy=accuracy)
        scene = Scene(chosen, VoxelGrid(64, 0.216), Fields(flat, flat + 1.0), PAPER_3T)
        heard = scene.model(chosen.chains[0]).hearings
        counts.append(len(set(heard.readout.tolist())))
    assert counts[0] == 64
    assert 45 <= counts[1] < 64


def test_unknown_probes_are_refused() -> None:
    with pytest.raises(InvalidInput, match="one of tissues, mean, mean-of-maps, got 'median'"):
        StateAccuracy(probes="median")
