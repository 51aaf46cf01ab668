"""The table of real scans: from what is held, without fitting anything again."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from scan_phantom import head_fractions

from bmapest_ray.anatomy.bids_io import write_maps
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.cli.bench_real import RealBench
from bmapest_ray.cli.held import Held
from bmapest_ray.cli.real_independent import measured
from bmapest_ray.cli.real_tune import BASE, CHOICES, MIXTURES, best_mixture, write_tuning
from bmapest_ray.scan.nuisances import SPREADS
from bmapest_ray.scan.settings import RULES, ScanSettings


def independent_row(subject: str) -> dict[str, object]:
    return {
        "subject": subject,
        "error": [0.01, 0.02, 0.03],
        "ignorant": [0.04, 0.04, 0.06],
        "prior": [0.2, 0.2, 0.2],
        "inside": {"scale mprage": True, "t1 GM": False},
        "off": {},
        "bias_inside": 0.97,
        "volume_z": [0.1, -1.0, 2.5],
    }


def test_a_table_is_written_from_what_is_held(tmp_path: Path) -> None:
    (tmp_path / "splits.yaml").write_text(yaml.safe_dump({"tune": ["04"], "report": ["20", "38"]}))
    volume = {
        "subject": "20", "voxels": 1000, "minutes": 3.0, "cpu_minutes": 2.5, "peak_gb": 1.5,
        "truth_ml": [600.0, 500.0, 300.0], "volume_ml": [606.0, 495.0, 300.0],
        "volume_sd_ml": [6.0, 5.0, 3.0], "error": [0.01, 0.02, 0.03], "warnings": [],
    }  # fmt: skip
    rows = {f"independent rules {RULES} {measured()} {s}": independent_row(s) for s in ("20", "38")}
    old = {f"independent rules {RULES} se_t1w 48/96 20": independent_row("older")}
    held = rows | old | {f"volume rules {RULES - 1} 20": volume, f"volume rules {RULES - 2} 38": {}}
    (tmp_path / "real.json").write_text(json.dumps(held))
    bench = RealBench("bids:none", "mprage", tmp_path / "splits.yaml", tmp_path, tmp_path / "work")
    text = bench.run("independent", 2).read_text()  # both are held: nothing is simulated
    assert "| 38 | 0.0100 | 0.0200 | 0.0300 | 0.0400 | 0.0400 | 0.0600 | 0.25, 0.50, 0.50 |" in text
    assert "older" not in text  # what was measured otherwise, or fitted by other rules
    assert "Outside: t1 GM of 20, t1 GM of 38." in text
    assert "4 of 6 inside" in text
    assert f"Made by rules {RULES - 1} of the fit; the present ones are {RULES}." in text
    assert "+1.00% (1.00%) | -1.00% (1.00%)" in text
    with pytest.raises(InvalidInput, match="part"):
        bench.run("everything", 2)


def test_settings_with_the_least_error_are_kept(tmp_path: Path) -> None:
    (tmp_path / "splits.yaml").write_text(yaml.safe_dump({"tune": ["04"], "report": []}))
    wanted = {"floor": 0.7, "coupling": 0.0, "bias": 0.15, "sweeps": 1}
    held = {}
    settings = dict(BASE)
    for name, values in CHOICES.items():
        for value in values:
            tried = {**settings, name: value}
            off = 0.01 + 0.01 * sum(tried[n] != wanted[n] for n in wanted)
            held[json.dumps(["04", tried], sort_keys=True)] = {"error": [off, off, off]}
        settings[name] = wanted[name]
    held |= {f"mixture {n} {s} 04": {"error": 0.1 - 0.01 * n + s} for n, s in MIXTURES}
    (tmp_path / "real_tuning.json").write_text(json.dumps(held))
    found = write_tuning("bids:none", tmp_path / "splits.yaml", tmp_path)
    assert found["best"] == wanted
    assert best_mixture(found) == (5, 0.0)
    assert "| sweeps | 1 (kept) | 0.0100 |" in (tmp_path / "real_tuning.md").read_text()


def test_the_defaults_are_what_tuning_found(tmp_path: Path) -> None:
    repository = Path(__file__).parents[2]
    held = (repository / "studies/results/real_tuning.json").read_text()
    (tmp_path / "real_tuning.json").write_text(held)
    best = write_tuning("bids:none", repository / "studies/splits.yaml", tmp_path)["best"]
    assert best.pop("bias") == SPREADS["bias"]
    assert best == {name: getattr(ScanSettings(), name) for name in best}


@pytest.mark.slow
def test_a_whole_volume_is_simulated_and_fitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BMAPEST_CACHE", str(tmp_path / "cache"))
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    for number in range(4):
        moved = np.roll(head_fractions(), number - 1, axis=3)
        write_maps(moved, affine, tmp_path / "cohort", f"c{number}")
    splits = tmp_path / "splits.yaml"
    splits.write_text("report: [c1, c2]\n")
    asked = (f"bids:{tmp_path / 'cohort'}", "mprage", splits, tmp_path, tmp_path / "work")
    page = RealBench(*asked).run("volume", 1).read_text()
    row = Held(tmp_path / "real.json").get(f"volume rules {RULES} c1", dict)
    assert f"| c1 | {row['voxels']} |" in page
    assert max(row["error"]) < 0.05
    assert row["volume_ml"] == pytest.approx(row["truth_ml"], rel=0.1)
    assert 0 < row["peak_gb"] < 8
    assert (tmp_path / "work/c1/sub-c1/anat/sub-c1_label-GM_probseg.nii.gz").is_file()
    assert RealBench("bids:gone", *asked[1:]).run("volume", 1).read_text() == page
