from pathlib import Path

import pytest
import yaml

from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.study.loading import (
    dump_study,
    find_study,
    load_study,
    parse_study,
    to_dict,
    with_settings,
)
from bmapest_ray.study.space import Choices, Floats, Ints, grid, make_space

MINIMAL = {"name": "a", "question": "which?", "protocols": ["t1inv"]}


def write(folder: Path, **keys: object) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **keys}))
    return path


def test_resolved_study_reads_back_to_an_equal_one(tmp_path: Path) -> None:
    space = {
        "inversion.settings.damping": {"low": 1e-4, "high": 1.0, "log": True, "steps": 5},
        "inversion.settings.inner_iterations": {"low": 2, "high": 10, "int": True},
        "inversion.settings.signs": ["auto", "none"],
    }
    config = load_study(write(tmp_path, search={"space": space, "sampler": "grid"}))
    again = tmp_path / "again.yaml"
    again.write_text(dump_study(config))
    assert load_study(again) == config
    assert config.search.space["inversion.settings.signs"] == Choices(("auto", "none"))
    assert config.search.space["inversion.settings.inner_iterations"] == Ints(2, 10)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"nosie": {}}, "no key 'nosie'; did you mean 'noise'?"),
        ({"noise": {"snrr": 1}}, "'noise.snrr'; did you mean 'snr'?"),
        (
            {"search": {"objective": {"scor": "x"}}},
            "'search.objective.scor'; did you mean 'score'?",
        ),
        ({"noise": {"snr": 0}}, "noise.snr is wrong"),
        ({"anatomy": {"subjects": [42]}}, "write '42'"),
        ({"anatomy": {"subjects": 42}}, "write '42'"),
        ({"protocols": []}, "protocols is wrong"),
        ({"protocols": ["a", "b"], "noise": {"snr": 10}}, "noise.reference must name a contrast"),
        ({"search": {"space": {"inversion.a": {"low": 2, "high": 1}}}}, "low < high"),
        ({"search": {"space": {"inversion.a": {"low": 0, "high": 1, "log": True}}}}, "low > 0"),
        ({"search": {"space": {"inversion.a": {"hihg": 1}}}}, "did you mean 'high'?"),
        ({"search": {"space": {"noise.snr": [1, 2]}}}, "under 'inversion.'"),
        ({"search": {"n_trials": None}}, "n_trials must be a number for sampler 'tpe'"),
        (
            {"search": {"sampler": "grid", "space": {"inversion.a": {"low": 0, "high": 1}}}},
            "'steps' for sampler 'grid'",
        ),
    ],
)
def test_broken_rules_are_one_sentence(tmp_path: Path, keys: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput) as error:
        load_study(write(tmp_path, **keys))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_key_and_missing_study_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="needs the key 'question'"):
        parse_study({"name": "a", "protocols": ["t1inv"]})
    with pytest.raises(MissingInput, match="not there; did you mean 'quickstart'"):
        load_study(tmp_path / "quickstrat")
    (tmp_path / "bad.yaml").write_text("a: [1,")
    with pytest.raises(InvalidInput, match="must be valid YAML"):
        load_study(tmp_path / "bad.yaml")


def test_overrides_change_values_and_are_checked(tmp_path: Path) -> None:
    path = write(tmp_path)
    config = load_study(
        path,
        [
            "noise.snr=50",
            "protocols=[t1inv, t2prep]",
            "noise.reference=t1inv[3]",
            "search.space.inversion.settings.damping={low: 0.1, high: 1}",
        ],
    )
    assert config.noise.snr == 50
    assert config.protocols == ("t1inv", "t2prep")
    assert config.search.space == {"inversion.settings.damping": Floats(0.1, 1.0)}
    with pytest.raises(InvalidInput, match="did you mean 'noise'"):
        load_study(path, ["noize.snr=50"])
    with pytest.raises(InvalidInput, match=r"key\.sub=value"):
        load_study(path, ["noise.snr"])
    with pytest.raises(InvalidInput, match="quote items that hold brackets"):
        load_study(path, ["protocols=[t1inv[0], t2prep]"])
    with pytest.raises(InvalidInput, match="'name' is the value"):
        load_study(path, ["name.first=b"])


def test_relative_paths_start_at_the_file_or_at_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    study = tmp_path / "studies"
    study.mkdir()
    path = write(
        study,
        protocols=["t1inv", "protocols/mine.yaml"],
        anatomy={"source": "bids:../brains"},
        fields={"b0": "b0.nii.gz", "b1": "analytic"},
    )
    config = load_study(path, ["data.b0=other.nii.gz"])
    assert config.protocols == ("t1inv", str(study / "protocols/mine.yaml"))
    assert config.anatomy.source == f"bids:{tmp_path / 'brains'}"
    assert config.fields.b0 == str(study / "b0.nii.gz")
    assert config.fields.b1 == "analytic"
    assert config.data.b0 == str(elsewhere / "other.nii.gz")
    assert load_study(path, [f"anatomy.source=bids:{tmp_path}"]).anatomy.source.endswith(
        tmp_path.name
    )


def test_a_shipped_study_is_found_by_name() -> None:
    assert find_study("quickstart").name == "quickstart.yaml"
    assert find_study("quickstart.yaml") == find_study("quickstart")
    assert find_study("studies/quickstart.yaml") == find_study("quickstart")


def test_settings_are_put_into_a_study() -> None:
    config = parse_study(MINIMAL)
    changed = with_settings(config, {"inversion.settings.damping": 0.5, "inversion.prior": "tv"})
    assert changed.inversion.settings == {"damping": 0.5}
    assert changed.inversion.prior == "tv"
    assert {**to_dict(changed), "inversion": 0} == {**to_dict(config), "inversion": 0}
    with pytest.raises(InvalidInput, match="did you mean 'prior'"):
        with_settings(config, {"inversion.priro": "tv"})


def test_grid_covers_every_combination_once() -> None:
    space = make_space(
        {
            "inversion.a": {"low": 0.01, "high": 1, "log": True, "steps": 3},
            "inversion.b": {"low": 1, "high": 5, "step": 2},
            "inversion.c": ["x", None],
        }
    )
    points = list(grid(space))
    assert len(points) == len(list(grid(space))) == 3 * 3 * 2
    assert len({tuple(point.items()) for point in points}) == len(points)
    assert [p["inversion.a"] for p in points[::6]] == pytest.approx([0.01, 0.1, 1.0])
    assert [p["inversion.b"] for p in points[:6:2]] == [1, 3, 5]
