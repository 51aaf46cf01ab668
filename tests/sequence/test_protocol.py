"""Protocols are content: digests, the grammar of contrasts, YAML and what is refused."""

from dataclasses import replace

import pytest

from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.sequence.parse import parse_protocol, preset_names, preset_titles
from bmapest_ray.sequence.protocol import Chain, Contrast, Protocol, StateAccuracy
from bmapest_ray.sequence.protocol_file import from_yaml, to_yaml
from bmapest_ray.sequence.scanner import SCANNERS, Scanner


def names(expression):
    return [[c.name for c in chain.contrasts] for chain in parse_protocol(expression).chains]


def no_lookup(text):
    raise AssertionError(text)


def test_grammar():
    assert names("t1inv") == [[f"t1inv[{i}]" for i in range(4)]]
    assert names("t1inv[0]") == [["t1inv[0]"]]
    assert names("t1inv[0:2]") == [["t1inv[0]", "t1inv[1]"]]
    assert names("t1inv[2,0]") == [["t1inv[2]", "t1inv[0]"]]
    assert names("t1inv[1:],t2prep[1]") == [["t1inv[1]", "t1inv[2]", "t1inv[3]"], ["t2prep[1]"]]
    assert names("t1inv[0] + t2prep[1]") == names("t1inv[0],t2prep[1]")
    assert parse_protocol("t1inv@clinical-3t").scanner == SCANNERS["clinical-3t"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("t1inf", "did you mean 't1inv'"),
        ("t1inv,t2prap", "did you mean 't2prep'"),
        ("t1inv[4]", r"must be in 0\.\.3, got 4"),
        ("t1inv[x]", "must read like 0, 0,2 or 0:2, got 'x'"),
        ("t1inv[", "must read like 't1inv,t2prep"),
        ("", "must read like"),
        ("t1inv,t1inv[0]", "must be unique in a protocol, got 't1inv"),
        ("t1inv@clinicl-3t", "did you mean 'clinical-3t'"),
    ],
)
def test_grammar_refuses(text, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        parse_protocol(text)


def test_a_missing_file_is_said():
    with pytest.raises(MissingInput, match=r"nowhere\.yaml"):
        parse_protocol("nowhere.yaml")


def test_digest_is_content_without_the_display_name():
    first, second = parse_protocol("t1inv,t2prep"), parse_protocol("t1inv+t2prep")
    assert first.name != second.name
    assert first.digest == second.digest == replace(first, name="x").digest
    assert first.chain_digests[0] == parse_protocol("t1inv").chain_digests[0]


@pytest.mark.parametrize(
    "change",
    [
        {"chains": (Chain((Contrast("a", "t1inv", (("flip_angle_deg", 6.0),)),)),)},
        {"chains": (Chain((Contrast("a", "t1inv", pause_s=1.0),)),)},
        {"chains": (Chain((Contrast("b", "t1inv"),)),)},
        {"chains": (Chain((Contrast("a", "t1inv"),), dummy_cycles=1),)},
        {"scanner": SCANNERS["clinical-3t"]},
        {"accuracy": StateAccuracy(min_state_mag=1e-5)},
        {"continuous": True},
    ],
)
def test_digest_changes_with_content(change):
    base = Protocol("p", (Chain((Contrast("a", "t1inv"),)),))
    assert replace(base, **change).digest != base.digest


def test_whole_numbers_of_a_scanner_are_the_same_content():
    whole = Scanner("a", max_gradient_t_per_m=0.028, max_slew_t_per_m_s=150, field_t=3)
    assert digest(whole) == digest(SCANNERS["paper"])


def test_defaults_are_content_and_types_are_settled():
    spelled = Contrast("a", "t1inv", (("dwell_s", 30e-6), ("flip_angle_deg", 5)), 10)
    assert spelled == Contrast("a", "t1inv", pause_s=10.0)
    assert hash(spelled) == hash(Contrast("a", "t1inv", pause_s=10.0))
    assert dict(spelled.with_parameters(flip_angle_deg=8).parameters)["flip_angle_deg"] == 8.0


@pytest.mark.parametrize(
    ("sequence", "parameter", "sentence"),
    [
        ("t1inw", ("dwell_s", 1e-5), "did you mean 't1inv'"),
        ("t1inv", ("flip_angel_deg", 5), "did you mean 'flip_angle_deg'"),
        ("t1inv", ("flip_angle_deg", 400), r"must be in 0\.01\.\.360 deg, got 400"),
        ("t1inv", ("flip_angle_deg", "5"), "must be of type float, got '5'"),
        ("t1inv", ("flip_angle_deg", float("nan")), "must be of type float, got nan"),
        ("t1inv", ("flip_angle_deg", True), "must be of type float, got True"),
    ],
)
def test_contrast_refuses(sequence, parameter, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        Contrast("a", sequence, (parameter,))


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_survives_yaml(name):
    protocol = parse_protocol(name)
    again = from_yaml(to_yaml(protocol), "again", no_lookup)
    assert again == replace(protocol, name="again", scanner=again.scanner)
    assert again.digest == protocol.digest


def test_every_preset_has_a_title_and_a_scan_time_and_keeps_its_limits():
    titles = preset_titles()
    assert tuple(titles) == preset_names()
    for name, title in titles.items():
        protocol = parse_protocol(name)
        assert len(title) > 20
        assert protocol.scan_time_s(64, 0.216) > sum(c.pause_s for c in protocol.contrasts)


def test_yaml_names_contrasts_of_presets(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("continuous: true\nchains: ['t1inv[0:2]', 't2prep[3]']\n")
    protocol = parse_protocol(str(path))
    assert protocol.name == "mine"
    assert [[c.name for c in chain.contrasts] for chain in protocol.chains] == [
        ["t1inv[0]", "t1inv[1]", "t2prep[3]"]
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("chains: [", "must be valid YAML"),
        ("chans: []", "did you mean 'chains'"),
        ("chains: []", "must be a list that is not empty"),
        ("chains: [[{sequence: t1inv, puase_s: 1}]]", "did you mean 'pause_s'"),
        ("chains: [[{name: a}]]", "must name its sequence"),
        ("chains: [[{sequence: t1inv, vary: {dwell_s: [1], pause_s: [1]}}]]", "one parameter"),
        ("{scanner: {name: x}, chains: [t1inv]}", "must have max_gradient_t_per_m"),
        ("{accuracy: {min_state_mag: 2}, chains: [[{sequence: t1inv}]]}", r"in \[0, 1\), got 2"),
        ("[]", "must be a mapping, got list"),
        ("{accuracy: {min_state_mag: no}, chains: [[{sequence: t1inv}]]}", "a number, got False"),
        ("chains: [[{sequence: t1inv, pause_s: long}]]", "pause_s of mine must be a number"),
        ("chains: [{contrasts: [{sequence: t1inv}], dummy_cycles: x}]", "dummy_cycles of mine"),
    ],
)
def test_yaml_refuses(text, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        from_yaml(text, "mine", lambda _: ())


def test_yaml_numbers_need_no_decimal_point():
    text = "accuracy: {min_state_mag: 1e-5, max_state_count: 2e3}\n"
    text += "chains: [[{sequence: t1inv, parameters: {dwell_s: 2e-5}}]]\n"
    protocol = from_yaml(text, "mine", no_lookup)
    assert protocol.accuracy == StateAccuracy(max_state_count=2000, min_state_mag=1e-5)
    assert isinstance(protocol.accuracy.max_state_count, int)
    assert dict(protocol.contrasts[0].parameters)["dwell_s"] == 2e-5


def test_a_file_that_names_itself_is_refused(tmp_path):
    path = tmp_path / "loop.yaml"
    path.write_text(f"chains: ['{path}']\n")
    with pytest.raises(InvalidInput, match="must not name itself"):
        parse_protocol(str(path))


def test_dummy_cycles_play_but_do_not_receive():
    contrast = Contrast("a", "t2star", pause_s=1.0)
    scanner = SCANNERS["paper"]
    once = Chain((contrast,)).write(16, 0.2, scanner)
    twice = Chain((contrast,), dummy_cycles=1).write(16, 0.2, scanner)
    assert twice.time_s == pytest.approx(2 * once.time_s)
    assert len(twice.pulses) == 2 * len(once.pulses)
    assert len(twice.readouts) == len(once.readouts)
    assert twice.readouts[0].centre_s == pytest.approx(once.time_s + once.readouts[0].centre_s)


def test_rf_energy_of_a_block_pulse_is_its_closed_form():
    from bmapest_ray.sequence.events import Pulse

    b1_t = 0.5 / 1e-3 / 42.576e6  # half a turn in 1 ms
    pulse = Pulse(180.0, 0.0, 1e-3, "block", "inversion")
    assert pulse.energy_t2_s == pytest.approx(b1_t**2 * 1e-3)
    assert Pulse(180.0, 0.0, 1e-3, "sinc", "inversion").energy_t2_s > pulse.energy_t2_s


def test_rf_energy_and_root_mean_square_of_a_protocol():
    protocol = parse_protocol("t2prep[0],t1inv[0]")
    energies = [c.write(16, 0.2, protocol.scanner).rf_energy_t2_s for c in protocol.chains]
    assert protocol.rf_energy_t2_s(16, 0.2) == pytest.approx(sum(energies))
    mean_square = sum(energies) / protocol.scan_time_s(16, 0.2)
    assert protocol.b1_rms_t(16, 0.2) == pytest.approx(mean_square**0.5)
    assert energies[0] > energies[1]  # 90, 180 and 90 degrees against one 180
