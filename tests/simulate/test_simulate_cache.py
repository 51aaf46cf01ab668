"""The factor cache: found again, rebuilt when broken, bounded, and never running what it reads."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from scenes import analytic_fields, relative, scene_of, smooth_maps

from bmapest_ray.simulate import cache as cache_module
from bmapest_ray.simulate.cache import CACHE_VERSION, FactorCache, default_directory
from bmapest_ray.simulate.factors import FactorBuilder, ImageFactors
from bmapest_ray.simulate.factory import EngineOptions, build_operator
from bmapest_ray.tissue.fields import Fields
from bmapest_ray.tissue.table import PAPER_3T


class Builder:
    """Counts how often factors are built."""

    def __init__(self, seed=0, size=4):
        self.calls = 0
        draw = torch.Generator().manual_seed(seed)
        kspace = torch.randn((2, size, size), generator=draw, dtype=torch.complex64)
        self.factors = (ImageFactors(kspace, kspace[:, None] * 2, 1e-5),)

    def __call__(self):
        self.calls += 1
        return self.factors


def same(one, other):
    return all(
        torch.equal(a.kspace, b.kspace) and torch.equal(a.object_, b.object_) and a.error == b.error
        for a, b in zip(one, other, strict=True)
    )


def only_file(folder):
    (path,) = folder.glob("*.factors")
    return path


def test_memory_answers_the_second_time():
    cache, builder = FactorCache(None), Builder()
    assert same(cache.get("a", builder), cache.get("a", builder))
    assert builder.calls == 1
    cache.get("b", builder)
    assert builder.calls == 2


def test_disk_answers_another_process(tmp_path):
    builder = Builder()
    first = FactorCache(tmp_path).get("a", builder)
    assert same(FactorCache(tmp_path).get("a", builder), first)
    assert builder.calls == 1
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a torch file"),
        lambda path: torch.save(torch.zeros(3), path),
        lambda path: torch.save([1, 2], path),
        lambda path: torch.save({"version": CACHE_VERSION, "key": "a"}, path),
        lambda path: torch.save(
            {"version": CACHE_VERSION, "key": "a", "kspace": 1, "object": 2, "error": 3}, path
        ),
    ],
    ids=["half", "empty", "text", "tensor", "list", "incomplete", "numbers"],
)
def test_a_broken_file_is_rebuilt(tmp_path, damage):
    builder = Builder()
    first = FactorCache(tmp_path).get("a", builder)
    damage(only_file(tmp_path))
    assert same(FactorCache(tmp_path).get("a", builder), first)
    assert builder.calls == 2
    assert same(FactorCache(tmp_path).get("a", builder), first)  # and repaired on disk
    assert builder.calls == 2


def test_a_file_of_another_version_is_rebuilt(tmp_path, monkeypatch):
    builder = Builder()
    monkeypatch.setattr(cache_module, "CACHE_VERSION", CACHE_VERSION - 1)
    FactorCache(tmp_path).get("a", builder)
    monkeypatch.undo()
    FactorCache(tmp_path).get("a", builder)
    assert builder.calls == 2


def test_a_file_under_the_wrong_name_is_rebuilt(tmp_path):
    builder, other = Builder(0), Builder(1)
    FactorCache(tmp_path).get("a", builder)
    only_file(tmp_path).rename(tmp_path / "b.factors")
    assert same(FactorCache(tmp_path).get("b", other), other.factors)


class Trap:
    """What a file from elsewhere might do when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_objects_in_a_file_are_never_run(tmp_path):
    sprung = tmp_path / "sprung"
    builder = Builder()
    FactorCache(tmp_path).get("a", builder)
    path = only_file(tmp_path)
    for write in (
        lambda: torch.save({"version": CACHE_VERSION, "key": "a", "kspace": Trap(sprung)}, path),
        lambda: path.write_bytes(pickle.dumps(Trap(sprung), protocol=2)),
    ):
        write()
        FactorCache(tmp_path).get("a", builder)
        assert not sprung.exists()
    assert builder.calls == 3


def test_the_oldest_file_goes_first_when_the_disk_limit_is_passed(tmp_path):
    builder = Builder(size=32)
    one = FactorCache(tmp_path)
    one.get("a", builder)
    size = only_file(tmp_path).stat().st_size
    limited = FactorCache(tmp_path, disk_limit_gb=2.5 * size / 2**30)
    for age, key in ((300, "a"), (200, "b")):
        limited.get(key, builder)
        path = tmp_path / f"{key}.factors"
        os.utime(path, (path.stat().st_atime - age, path.stat().st_mtime - age))
    FactorCache(tmp_path, disk_limit_gb=1.0).get("a", builder)  # used again: now the newest
    limited.get("c", builder)
    assert {path.stem for path in tmp_path.glob("*.factors")} == {"a", "c"}


def test_the_least_recently_used_leaves_memory_first():
    builder = Builder(size=32)
    size = sum(f.kspace.nbytes + f.object_.nbytes for f in builder.factors)
    cache = FactorCache(None, memory_limit_gb=2.5 * size / 2**30)
    for key in ("a", "b", "a", "c", "a", "c"):
        cache.get(key, builder)
    assert builder.calls == 3
    cache.get("b", builder)
    assert builder.calls == 4


def test_one_entry_larger_than_the_limit_is_still_served():
    builder = Builder(size=32)
    cache = FactorCache(None, memory_limit_gb=1e-9)
    cache.get("a", builder)
    cache.get("a", builder)
    assert builder.calls == 1


@pytest.mark.parametrize("error", [OSError("no space left"), RuntimeError("writing file failed")])
def test_a_cache_that_cannot_be_written_costs_no_result(tmp_path, monkeypatch, error):
    def refuse(*_):
        raise error

    monkeypatch.setattr(torch, "save", refuse)
    builder = Builder()
    assert same(FactorCache(tmp_path).get("a", builder), builder.factors)
    assert not list(tmp_path.iterdir())


def test_a_cache_that_is_a_file_costs_no_result(tmp_path):
    (tmp_path / "file").write_text("")
    builder = Builder()
    assert same(FactorCache(tmp_path / "file" / "cache").get("a", builder), builder.factors)


def test_a_cache_that_is_only_readable_is_read(tmp_path, monkeypatch):
    builder = Builder()
    FactorCache(tmp_path).get("a", builder)

    def refuse(*_, **__):
        raise PermissionError

    monkeypatch.setattr(Path, "touch", refuse)
    FactorCache(tmp_path).get("a", builder)
    assert builder.calls == 1


def test_an_operator_is_built_once_for_equal_scenes(tmp_path, monkeypatch):
    options = EngineOptions()
    first = build_operator(scene_of("t1inv[0,2]", 8), options, FactorCache(tmp_path))

    def refuse(*_):
        pytest.fail("the factors were built again")

    monkeypatch.setattr(FactorBuilder, "build", refuse)
    fields = analytic_fields(8, 3)  # coils stay outside the factors
    second = build_operator(scene_of("t1inv[0,2]", 8), options, FactorCache(tmp_path))
    coils = build_operator(scene_of("t1inv[0,2]", 8, fields=fields), options, FactorCache(tmp_path))
    maps = smooth_maps(8)
    assert torch.equal(first.operator.forward(maps), second.operator.forward(maps))
    assert second.setup_seconds < first.setup_seconds
    assert len(coils.operator.channels) == 6
    assert relative(second.operator.forward(maps), first.operator.forward(maps)) == 0


def test_whatever_changes_the_factors_changes_their_key():
    scene, options = scene_of("t1inv[0]", 8), EngineOptions()
    fields = analytic_fields(8)
    others = [
        (scene_of("t1inv[1]", 8), options),
        (scene_of("t1inv[0]@clinical-3t", 8), options),
        (scene_of("t1inv[0]", 16), options),
        (scene_of("t1inv[0]", 8, table=PAPER_3T.perturbed("T1=+1%")), options),
        (scene_of("t1inv[0]", 8, fields=Fields(fields.b0_hz + 1, fields.b1)), options),
        (scene_of("t1inv[0]", 8, fields=Fields(fields.b0_hz, fields.b1 * 1.01)), options),
        (scene, EngineOptions(tolerance=1e-5)),
        (scene, EngineOptions(double=True)),
    ]

    def key_of(scene, options):
        return scene.factor_key(scene.protocol.chains[0], options.tolerance, options.dtype)

    keys = [key_of(*case) for case in [(scene, options), *others]]
    assert len(set(keys)) == len(keys)
    assert key_of(scene_of("t1inv[0]", 8), EngineOptions()) == keys[0]


def test_the_default_directory_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BMAPEST_CACHE", str(tmp_path / "own"))
    assert default_directory() == tmp_path / "own"
    monkeypatch.delenv("BMAPEST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_directory() == tmp_path / "xdg" / "bmapest_ray"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_directory() == Path.home() / ".cache" / "bmapest_ray"


def test_many_workers_may_share_a_folder(tmp_path):
    builder = Builder(size=64)
    size = sum(f.kspace.nbytes + f.object_.nbytes for f in builder.factors)

    def work(number):
        limit_gb = 2.2 * size / 2**30  # keep evicting what others read
        found = [
            FactorCache(tmp_path, disk_limit_gb=limit_gb).get(str((i + number) % 4), builder)
            for i in range(25)
        ]
        return all(same(factors, builder.factors) for factors in found)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [True] * 4
    assert {path.suffix for path in tmp_path.iterdir()} == {".factors"}


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    fresh, abandoned = tmp_path / "fresh.partial", tmp_path / "abandoned.partial"
    for path in (fresh, abandoned):
        path.write_bytes(b"half")
    os.utime(abandoned, (0, 0))
    FactorCache(tmp_path).get("a", Builder())
    assert fresh.exists()
    assert not abandoned.exists()
