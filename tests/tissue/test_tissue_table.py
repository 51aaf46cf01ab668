"""Tissue tables: immutable, checked, perturbed by percentages, read from YAML."""

from dataclasses import FrozenInstanceError, replace

import pytest
import torch
import yaml

from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.tissue.table import PAPER_3T, TissueTable, load_table

ROWS = ("pd", "t1_s", "t2_s", "t2dash_s", "diffusivity_m2_per_s")


def write(path, **changes):
    content = {
        "names": ["GM", "WM", "CSF"],
        "source": "a test",
        **{row: list(getattr(PAPER_3T, row)) for row in ROWS},
        **changes,
    }
    kept = {key: value for key, value in content.items() if value is not ...}
    path.write_text(yaml.safe_dump(kept))
    return path


def test_paper_table_is_that_of_the_paper_in_si_units():
    assert PAPER_3T.names == ("GM", "WM", "CSF")
    assert PAPER_3T.t1_s == (1.55, 0.83, 4.16)
    assert PAPER_3T.t2dash_s == (0.322, 0.183, 0.0591)
    assert PAPER_3T.diffusivity_m2_per_s == (0.83e-9, 0.65e-9, 3.19e-9)
    column = PAPER_3T.column("t2_s")
    assert column.dtype == torch.float64
    assert column.tolist() == list(PAPER_3T.t2_s)
    with pytest.raises(FrozenInstanceError):
        PAPER_3T.pd = (1.0, 1.0, 1.0)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("bad", [-0.07, 0.0, float("nan"), float("inf")])
def test_a_value_that_no_tissue_has_is_refused_by_name(row, bad):
    values = (getattr(PAPER_3T, row)[0], bad, getattr(PAPER_3T, row)[2])
    with pytest.raises(InvalidInput, match=f"of WM must be positive and finite, got {bad}.*{row}"):
        replace(PAPER_3T, **{row: values})


def test_a_row_of_another_length_is_refused():
    with pytest.raises(InvalidInput, match=r"one T2' per tissue \(3\), got 2; complete the row"):
        replace(PAPER_3T, t2dash_s=(0.3, 0.2))


def test_perturbed_scales_the_named_rows_and_no_other():
    changed = PAPER_3T.perturbed("T1=+5%, T2'=-12.5%,D=+0%")
    assert changed.t1_s == pytest.approx([1.05 * value for value in PAPER_3T.t1_s])
    assert changed.t2dash_s == pytest.approx([0.875 * value for value in PAPER_3T.t2dash_s])
    assert (changed.pd, changed.t2_s) == (PAPER_3T.pd, PAPER_3T.t2_s)
    assert "T1=+5%" in changed.source
    assert changed.digest != PAPER_3T.digest


def test_perturbing_there_and_back_compounds():
    there = PAPER_3T.perturbed("PD=+25%")
    assert there.perturbed("PD=-20%").pd == pytest.approx(PAPER_3T.pd)
    assert there.perturbed("").digest == there.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("T1=5%", "must look like T1=.*got 'T1=5%'"),
        ("T1+5%", "must look like T1=.*got 'T1.5%'"),
        ("T1=+5", "must look like T1=.*got 'T1=.5'"),
        ("T3=+5%", "tissue property must be one of PD, T1.*got 'T3'"),
        ("T2=-100%", "T2 of GM must be positive and finite, got 0.0"),
    ],
)
def test_a_change_that_means_nothing_is_refused(text, message):
    with pytest.raises(InvalidInput, match=message):
        PAPER_3T.perturbed(text)


def test_diffusion_can_be_exaggerated_as_the_paper_does():
    times = PAPER_3T.with_diffusivity_times(1e5)
    ratio = times.column("diffusivity_m2_per_s") / PAPER_3T.column("diffusivity_m2_per_s")
    assert ratio.tolist() == pytest.approx([1e5] * 3)
    assert times.t2_s == PAPER_3T.t2_s


def test_the_digest_is_of_the_numbers_not_of_their_source():
    assert replace(PAPER_3T, source="elsewhere").digest == PAPER_3T.digest
    assert replace(PAPER_3T, pd=(0.8, 0.7, 0.99)).digest != PAPER_3T.digest
    assert replace(PAPER_3T, names=("A", "B", "C")).digest != PAPER_3T.digest


def test_a_table_comes_back_from_yaml(tmp_path):
    loaded = load_table(write(tmp_path / "table.yaml", field_strength_t=7))
    assert loaded.digest == PAPER_3T.digest
    assert (loaded.source, loaded.field_strength_t) == ("a test", 7.0)
    assert isinstance(loaded, TissueTable)
    hash(loaded)


def test_yaml_numbers_without_a_point_are_numbers(tmp_path):
    path = write(tmp_path / "table.yaml", diffusivity_m2_per_s=...)
    path.write_text(path.read_text() + "diffusivity_m2_per_s: [1e-9, 2e-9, 3e-9]\n")
    assert load_table(path).diffusivity_m2_per_s == (1e-9, 2e-9, 3e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t1_s": ...}, "needs every row, .*table.yaml' lacks t1_s"),
        ({"t2star_s": [1, 1, 1]}, "must be one of names.*got 't2star_s'; did you mean 't2_s'"),
        ({"t2_s": [0.09, -0.07, 1.65]}, "T2 of WM must be positive and finite, got -0.07"),
        ({"t2_s": [0.09, "short", 1.65]}, "t2_s of a tissue table must be .*got 'short'"),
        ({"t2_s": 0.09}, "t2_s of a tissue table must be .*got 0.09"),
        ({"pd": "one"}, "pd of a tissue table must be .*got 'one'"),
        ({"pd": [0.8, None, 1.0]}, "pd of a tissue table must be .*got None"),
        ({"pd": [0.8, True, 1.0]}, "pd of a tissue table must be .*got True"),
        ({"names": "GM"}, "names of a tissue table must be .*got 'GM'"),
        ({"names": ["GM", "WM", 3]}, "names of a tissue table must be .*got 3"),
        ({"field_strength_t": "strong"}, "field_strength_t .*must be .*got 'strong'"),
    ],
)
def test_a_broken_table_file_is_refused_in_one_sentence(tmp_path, changes, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        load_table(write(tmp_path / "table.yaml", **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n- 2\n", "must be a mapping of rows"),
        ("pd: [1, 2\nt1_s: }", "must be YAML, got .*table.yaml"),
        ("", "must be a mapping of rows"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, text, message):
    path = tmp_path / "table.yaml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=message) as caught:
        load_table(path)
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(MissingInput, match=r"nowhere.yaml' which is not there"):
        load_table(tmp_path / "nowhere.yaml")
