import json
import subprocess
import sys
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest
import torch

from bmapest_ray.base.digests import canonical_json, digest
from bmapest_ray.base.errors import InvalidInput


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Record:
    value: float
    label: str = field(default="a", metadata={"digest": False})


def test_digest_is_a_known_sha256_of_canonical_json():
    assert canonical_json({"b": (1, 2.5), "a": None}) == '{"a":null,"b":[1,2.5]}'
    assert (
        digest({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )  # sha256 of "{}"


def test_order_of_keys_and_kind_of_sequence_do_not_matter_but_values_do():
    assert digest({"a": 1, "b": [1]}) == digest({"b": (1,), "a": 1})
    assert digest([1, 2]) != digest([2, 1])
    assert digest(0.1) != digest(0.1 + 2**-56)
    assert digest({1.5, 2.5}) == digest({2.5, 1.5})


def test_enums_paths_and_dataclasses_are_their_content():
    assert digest([Colour.RED, Path("a/b")]) == digest(["red", "a/b"])
    assert digest(Record(1.0, "a")) == digest(Record(1.0, "b")) == digest({"value": 1.0})


def test_arrays_count_by_values_shape_and_dtype_not_by_layout():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert digest(values) == digest(np.asfortranarray(values)) == digest(torch.from_numpy(values))
    assert digest(values) == digest(values.astype(">f4"))
    others = [values.reshape(3, 2), values.astype(np.float64), values + 1]
    assert len({digest(v) for v in [values, *others]}) == 4
    assert json.loads(canonical_json(values))["shape"] == [2, 3]


@pytest.mark.parametrize(
    "bad", [float("nan"), np.array([np.nan]), torch.tensor([float("nan")]), {1: 2}, object(), print]
)
def test_what_has_no_exact_content_is_refused(bad):
    with pytest.raises(InvalidInput):
        digest({"outer": [bad]})


def test_infinity_differs_from_its_name():
    assert digest(float("inf")) != digest("inf")
    assert digest(float("inf")) != digest(float("-inf"))


def test_base_does_not_load_torch():
    code = (
        "import sys, bmapest_ray.base.digests as d, bmapest_ray.base.seeding as s; "
        "import bmapest_ray.base.units, bmapest_ray.base.threads; d.digest(1); s.seed_of('x'); "
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
