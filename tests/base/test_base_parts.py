import math
import os

import pytest
import torch

from bmapest_ray.base import units
from bmapest_ray.base.errors import (
    BmapestError,
    InvalidInput,
    MissingInput,
    closest,
    require_choice,
)
from bmapest_ray.base.seeding import generator, seed_of
from bmapest_ray.base.threads import limit_threads


def test_errors_are_caught_as_their_builtin_kind_and_exit_with_two():
    assert issubclass(InvalidInput, ValueError)
    assert issubclass(MissingInput, FileNotFoundError)
    assert BmapestError.exit_code == InvalidInput.exit_code == 2


def test_an_unknown_choice_names_the_closest():
    assert require_choice("solver", "adam", ["adam", "cg"]) == "adam"
    with pytest.raises(
        InvalidInput, match=r"solver must be one of .*, got 'Adm'; did you mean 'adam'\?"
    ):
        require_choice("solver", "Adm", ["adam", "gauss-newton"])
    assert closest("zzzz", ["adam"]) == ""


def test_seeds_depend_on_every_part_and_on_their_borders():
    parts = [("noise",), ("noise", 1), ("noise", "1"), ("noise", 1, 2), ("noise", 12), ("noise1",)]
    seeds = {seed_of(*p) for p in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= s < 2**32 for s in seeds)


def test_a_generator_repeats_its_numbers_and_differs_between_purposes():
    draws = [torch.randn(8, generator=generator(p, "42", 0)) for p in ("noise", "noise", "start")]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_units_are_exact_and_invert():
    assert units.mm_to_m(216) == 0.216
    assert units.ms_to_s(2700) == 2.7
    assert units.mm2_per_s_to_m2_per_s(0.83e-3) == pytest.approx(0.83e-9, rel=1e-15)
    assert units.deg_to_rad(180.0) == math.pi
    pairs = [
        (units.mm_to_m, units.m_to_mm),
        (units.ms_to_s, units.s_to_ms),
        (units.us_to_s, units.s_to_us),
        (units.deg_to_rad, units.rad_to_deg),
        (units.mm2_per_s_to_m2_per_s, units.m2_per_s_to_mm2_per_s),
        (units.mt_per_m_to_t_per_m, units.t_per_m_to_mt_per_m),
    ]
    for there, back in pairs:
        assert back(there(7.3)) == pytest.approx(7.3, rel=1e-15)


def test_thread_limit_reaches_torch_and_children(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    limit_threads(1)
    assert os.environ["OMP_NUM_THREADS"] == "1"
    assert torch.get_num_threads() == 1
    with pytest.raises(InvalidInput):
        limit_threads(0)
