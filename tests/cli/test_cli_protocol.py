"""`bmapest protocol`: list, show, plot, export, import and check, as a user runs them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bmapest_ray.cli import main
from bmapest_ray.cli.app import app
from bmapest_ray.sequence.parse import parse_protocol, preset_names

SMALL = ["--matrix", "16", "--fov-mm", "200"]


def told(*words: str) -> str:
    """What a command prints on stdout."""
    result = CliRunner().invoke(app, ["protocol", *words], catch_exceptions=False)
    assert result.exit_code == 0
    return str(result.stdout)


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one sentence a command ends with, exit code 2."""
    assert main(["protocol", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.strip().splitlines()
    return line


def test_list_names_every_preset_with_its_scan_time() -> None:
    found = json.loads(told("list", *SMALL, "--json"))["protocols"]
    assert [p["name"] for p in found] == list(preset_names())
    mprage = next(p for p in found if p["name"] == "mprage")
    assert mprage["scan_time_s"] == pytest.approx(
        parse_protocol("mprage").scan_time_s(16, 0.2), rel=1e-12
    )
    assert next(p for p in found if p["name"] == "paper")["images"] == 24
    text = told("list", "--matrix", "8", "--fov-mm", "200")
    assert "MP2RAGE, 3 T" in text
    assert re.search(r"tse_t2w +- +- +echo_train_length must divide the 8 lines, got 16", text)


def test_show_tells_times_and_parameters() -> None:
    text = told("show", "mp2rage,tse_t2w")
    assert "mp2rage.inv1: TI 700 ms, TE 3.5 ms, TR 8 ms, 64 lines" in text
    assert "tse_t2w: TE 100 ms, TR 5000 ms, 64 lines" in text
    assert "echo_train_length=16" in text
    shown = json.loads(told("show", "tse_t2w", "--json"))
    assert shown["contrasts"][0]["images"][0]["echo_time_s"] == pytest.approx(0.1)
    assert shown["b1_rms_t"] == pytest.approx((shown["rf_energy_t2_s"] / 25.0) ** 0.5)


def test_show_yaml_is_the_protocol(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(told("show", "bssfp", "--yaml"))
    assert parse_protocol(str(path)).digest == parse_protocol("bssfp").digest


def test_plot_writes_a_picture_per_contrast_and_one_page(tmp_path: Path) -> None:
    words = ["plot", "multi_echo_gre", *SMALL, "--out", str(tmp_path), "--json"]
    files = [Path(name) for name in json.loads(told(*words))["files"]]
    assert [path.name for path in files] == ["multi_echo_gre.png", "multi_echo_gre.html"]
    assert (np.asarray(Image.open(files[0]).convert("L")) < 128).mean() > 0.005
    page = files[1].read_text()
    charts = re.findall(r'data-chart="([^"]+)">(.*?)</script>', page, flags=re.DOTALL)
    assert [name for name, _ in charts] == [f"contrast-0-{kind}" for kind in ("diagram", "kspace")]
    diagram, kspace = json.loads(charts[0][1]), json.loads(charts[1][1])
    assert {"excitation", "Gx", "Gy"} <= {trace["name"] for trace in diagram["data"]}
    assert [trace["name"] for trace in kspace["data"]] == [
        f"multi_echo_gre.echo{i}" for i in range(1, 5)
    ]
    ky = {y for y in kspace["data"][0]["y"] if y is not None}
    assert sorted(round(y * 0.2, 2) for y in ky) == pytest.approx(list(range(-8, 8)))


def test_export_import_and_check_go_round(tmp_path: Path) -> None:
    (exported,) = json.loads(told("export", "gre_t1w", "--seq", str(tmp_path), *SMALL, "--json"))[
        "files"
    ]
    out = tmp_path / "gre.yaml"
    found = json.loads(told("import", exported, "--out", str(out), "--json"))
    assert (found["matrix"], found["fov_m"]) == (16, pytest.approx(0.2))
    assert found["images"][0]["echo_time_s"] == pytest.approx(0.005)
    assert found["use"] == f"bmapest invert --protocol {out} --matrix 16 --fov-mm 200"
    again = told("check", str(out))
    assert again.startswith(f"ok: {out.stem} at 16 x 16, 200 mm: 1 image(s)")
    assert "timing check passed; peak gradient" in again
    own = json.loads(told("check", "gre_t1w", *SMALL, "--json"))
    assert found["scan_time_s"] == pytest.approx(own["scan_time_s"])
    assert found["peak"] == pytest.approx(own["peak"], rel=1e-4)


def test_check_holds_a_protocol_to_another_scanner(capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, "check", "multi_echo_gre", "--scanner", "clinical-1.5", *SMALL)
    assert "did you mean 'clinical-1.5t'?" in line
    line = refusal(capsys, "check", "diffusion_epi", "--scanner", "paper")
    assert "b_value_s_per_mm2 must be at most 918.5 at this echo time on scanner paper" in line


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["show", "mprag"], "did you mean 'mprage'?"),
        (["plot", "mprage", "--contrast", "mprag"], "did you mean 'mprage'?"),
        (["check", "nowhere.seq"], "a .seq file must exist, got nowhere.seq"),
        (["import", "nowhere.seq"], "a .seq file must exist, got nowhere.seq"),
        (["check", "mprage", "--matrix", "7"], "matrix must be even and in 4..1024, got 7"),
        (["check", "mprage", "--fov-mm", "-1"], "--fov-mm must be positive, got -1"),
    ],
)
def test_bad_words_are_refused_in_one_sentence(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refusal(capsys, *words)


@pytest.fixture(scope="module")
def seq_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("seq")
    told("export", "gre_t1w", "--seq", str(folder), *SMALL)
    (path,) = folder.glob("*.seq")
    return path.read_text()


def without_adc(text: str) -> str:
    """Take the ADC event out of every block."""
    head, rest = text.split("[BLOCKS]")
    blocks, tail = rest.split("\n\n", 1)
    rows = [line.split() for line in blocks.strip().splitlines()]
    kept = [" ".join([*row[:6], "0", *row[7:]]) for row in rows]
    return f"{head}[BLOCKS]\n" + "\n".join(kept) + f"\n\n{tail}"


def strong(text: str) -> str:
    """Raise the amplitude of the first trapezoid a thousand times."""
    return re.sub(
        r"(\[TRAP\]\n\s*1\s+)(\S+)", lambda m: f"{m[1]}{1000 * float(m[2])}", text, count=1
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text[: text.index("[SHAPES]")], "an error in block 1 (event or shape"),
        (lambda text: text.replace("minor 5", "minor 7"), "got version 1.7; export it again"),
        (without_adc, "must receive at least one line, got no ADC; add a readout"),
        (lambda text: re.sub(r"FOV 0\.2 0\.2", "FOV 0.3 0.3", text), "at most the 0.2 m that"),
        (
            lambda text: re.sub(r"(\[ADC\]\n\s*1\s+)\d+", r"\g<1>2000000000", text),
            "must take 1..100000 samples inside its block of",
        ),
        (
            lambda text: re.sub(r"(\[TRAP\]\n\s*1\s+)\S+", r"\g<1>nan", text),
            "must have a finite amplitude and times of at least 0 s, got nan Hz/m",
        ),
        (strong, "must be at most 100 mT/m, got 9342 mT/m; lower it"),
    ],
    ids=["truncated", "version", "no-adc", "fov", "samples", "nan", "gradients"],
)
def test_bad_files_are_refused_in_one_sentence_that_names_the_place(
    change: Callable[[str], str],
    sentence: str,
    seq_text: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "bad.seq"
    path.write_text(change(seq_text))
    line = refusal(capsys, "check", str(path))
    assert sentence in line
    assert line.startswith("bmapest: ")
