"""Small scenes for the simulation tests: maps, fields, protocols, and hand-made event tables."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch

from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.seeding import generator
from bmapest_ray.sequence.events import AdcReadout
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.protocol import StateAccuracy
from bmapest_ray.simulate.chain import ChainModel
from bmapest_ray.simulate.events import EventTable, Repetition
from bmapest_ray.simulate.exact import CompartmentOperator
from bmapest_ray.simulate.factory import Engine, EngineOptions, build_operator
from bmapest_ray.simulate.grid import VoxelGrid
from bmapest_ray.simulate.listen import find_hearings
from bmapest_ray.simulate.mrzero import nyquist_per_m
from bmapest_ray.simulate.prepass import make_plan
from bmapest_ray.simulate.reconstruct import kspace_of
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.simulate.stage import Probes
from bmapest_ray.tissue.fields import (
    B0_SHIFT_HZ,
    B1_SCALE,
    Fields,
    analytic_coils,
    analytic_shapes,
)
from bmapest_ray.tissue.mixing import Mixing
from bmapest_ray.tissue.table import PAPER_3T, TissueTable

FOV_M = 0.216

COARSE = StateAccuracy(5000, 1e-3, 1e-3, 1e-2)
"""Few states, for what does not depend on their number: every engine gets the same."""


def smooth_maps(matrix, seed=0, *, low=0.02, dtype=torch.float64):
    """Smooth asymmetric fractions, ``(tissue, y, x)``, between ``low`` and 1, sum below 1."""
    draw = torch.rand((3, 4), generator=generator("smooth-maps", seed), dtype=torch.float64)
    axis = (torch.arange(matrix, dtype=torch.float64) + 0.5) * 2 / matrix - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    bumps = [
        torch.exp(-((x - c[0] + 0.3) ** 2) / (0.1 + c[2]) - (y - c[1] + 0.6) ** 2 / (0.1 + c[3]))
        for c in draw
    ]
    maps = torch.stack(bumps)
    return (0.9 * maps / maps.sum(0).max() + low).to(dtype)


def images_like(operator, seed=0):
    """Random complex images of an operator's shape and dtype."""
    matrix = getattr(operator, "acquired", operator.matrix)
    shape = (len(operator.channels), matrix, matrix)
    return torch.randn(shape, generator=generator("images", seed), dtype=operator.dtype)


@cache
def brain_maps(matrix=16):
    """The default slice of mni152, background and partial volumes included."""
    anatomy = open_anatomy("mni152")
    where = SliceSpec.parse("below-top:75")
    return load_slice(anatomy, anatomy.subjects[0], where, matrix=matrix).fraction


def analytic_fields(matrix, n_coils=1):
    """Return the analytic B0 and B1."""
    b0_hz, b1 = analytic_shapes(matrix)
    coils = None if n_coils == 1 else analytic_coils(n_coils, matrix)
    return Fields(b0_hz + B0_SHIFT_HZ, b1 * B1_SCALE, coils)


def plain_fields(matrix, b0_hz=0.0, b1=1.0):
    """Return uniform fields."""
    shape = (matrix, matrix)
    real = torch.float64
    return Fields(torch.full(shape, b0_hz, dtype=real), torch.full(shape, b1, dtype=real))


def scene_of(protocol, matrix, *, mixing="compartments", fields=None, accuracy=None, **others):
    """Return a scene on ``matrix`` pixels with the analytic fields."""
    parsed = parse_protocol(protocol) if isinstance(protocol, str) else protocol
    if accuracy is not None:
        parsed = replace(parsed, accuracy=accuracy)
    return Scene(
        protocol=parsed,
        acquisition=VoxelGrid(matrix, FOV_M),
        fields=analytic_fields(matrix) if fields is None else fields,
        table=others.pop("table", PAPER_3T),
        mixing=Mixing(mixing),
        **others,
    )


@cache
def operator_of(
    protocol, matrix, engine, mixing="compartments", n_coils=1, double=False, **options
):
    """Build an operator with few states on the analytic fields, once per process."""
    fields = analytic_fields(matrix, n_coils)
    scene = scene_of(protocol, matrix, mixing=mixing, fields=fields, accuracy=COARSE)
    chosen = EngineOptions(engine=Engine(engine), double=double, **options)
    return build_operator(scene, chosen).operator


def relative(found, expected):
    """Return ``||found - expected|| / ||expected||``."""
    return float((found - expected).norm() / expected.norm())


# -- chains by hand ------------------------------------------------------------------------------

FINE = StateAccuracy(10_000, 1e-9, 1e-9, 1e-9)
_FAR_PER_M = 300.0
"""More than any voxel of the tests resolves."""


@dataclass(frozen=True)
class Spin:
    """A substance and the fields it sits in."""

    t1_s: float = 1.2
    t2_s: float = 0.08
    t2dash_s: float = 0.05
    diffusivity_m2_per_s: float = 1e-22
    b1: float = 1.0
    b0_hz: float = 0.0

    @property
    def table(self):
        """Return it as a tissue table of one row."""
        return TissueTable(
            names=("spin",),
            pd=(1.0,),
            t1_s=(self.t1_s,),
            t2_s=(self.t2_s,),
            t2dash_s=(self.t2dash_s,),
            diffusivity_m2_per_s=(self.diffusivity_m2_per_s,),
            source="test",
        )


def pulse(angle_deg, phase_deg, *events):
    """Return a repetition; each event is ``(duration_s, (kx, ky, kz), samples?)``."""
    duration, moment, adc = zip(*events, strict=True)
    phase = np.deg2rad(phase_deg)
    return Repetition(
        angle_rad=float(np.deg2rad(angle_deg)),
        phase_rad=float(phase),
        duration_s=np.array(duration, dtype=float),
        moment_per_m=np.array(moment, dtype=float).reshape(-1, 3),
        adc=np.array(adc, dtype=bool),
        adc_phase_rad=np.full(len(adc), np.pi / 2 - phase),
    )


def wait(duration_s, k=(0.0, 0.0, 0.0)):
    """Return an event that plays a gradient moment ``k`` [1/m] evenly over its duration."""
    return (duration_s, k, False)


def crush(duration_s, number=0):
    """Return an event that dephases everything transversal; no two numbers undo each other."""
    return wait(duration_s, (0.0, 0.0, _FAR_PER_M * 2.0**number))


def sample(duration_s):
    """Return an event with a sample at its end, without a gradient."""
    return (duration_s, (0.0, 0.0, 0.0), True)


def table_of(*repetitions, matrix=2):
    """Return an event table that gives every repetition with samples an image of its own."""
    sampled = [int(rep.adc.sum()) for rep in repetitions if rep.adc.any()]
    readouts = tuple(AdcReadout(i, 0, False, n, 1e-5) for i, n in enumerate(sampled))
    names = tuple(f"image{i}" for i in range(len(sampled)))
    return EventTable(tuple(repetitions), names, readouts, matrix, 0.2)


def plan_of(table, spin, accuracy=FINE):
    """Choose the states for one substance."""
    one = np.ones(1)
    probes = Probes(
        spin.t1_s * one,
        spin.t2_s * one,
        spin.t2dash_s * one,
        spin.diffusivity_m2_per_s * one,
        spin.b1 * one,
    )
    return make_plan(table, probes, accuracy, nyquist_per_m(table.matrix, 0.2).double().numpy())


def heard(spin, *repetitions, accuracy=FINE):
    """Return the samples of one voxel at the isocentre's neighbour, ``(readout, sample)``.

    Up to two samples per repetition; the chain goes through the whole exact engine.
    """
    table = table_of(*repetitions)
    plan = plan_of(table, spin, accuracy)
    hearings = find_hearings(
        table,
        plan,
        nyquist_per_m(table.matrix, 0.2).double().numpy(),
        max_b0_hz=max(1.0, abs(spin.b0_hz)),
        max_decay_per_s=1 / spin.t2_s + 1 / spin.t2dash_s,
        max_diffusivity_m2_per_s=spin.diffusivity_m2_per_s,
        tolerance=1e-10,
    )
    model = ChainModel(table, plan, hearings, VoxelGrid(table.matrix, 0.2))
    fields = plain_fields(table.matrix, spin.b0_hz, spin.b1)
    operator = CompartmentOperator((model,), spin.table, fields, dtype=torch.complex128)
    fractions = torch.zeros((1, table.matrix, table.matrix), dtype=torch.float64)
    fractions[0, 0, 0] = 1
    return kspace_of(operator.forward(fractions))[:, 0].numpy()
