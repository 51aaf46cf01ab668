import math

import numpy as np
import pytest
import torch

from bmapest_ray.anatomy.catalog import load_slice, open_anatomy
from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.anatomy.slices import SliceSpec
from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.metrics.scorecard import scorecard, undefined_scores
from bmapest_ray.metrics.scores import (
    SCORES,
    dice,
    dice_paper,
    mae,
    psnr_db,
    score_named,
    soft_dice,
    ssim,
    volume_error,
)

NAMES = ["psnr_db", "ssim", "dice", "dice_paper", "soft_dice", "mae", "volume_error"]


def maps_of(fraction, corner=True):
    fraction = torch.as_tensor(fraction, dtype=torch.float32)
    labels = torch.cat([1 - fraction.sum(0, keepdim=True), fraction]).argmax(0)
    return TissueMaps(fraction, np.eye(4), "1", "x", corner_labels=labels if corner else None)


@pytest.fixture
def truth():
    rng = np.random.default_rng(3)
    fraction = rng.dirichlet([0.5, 0.5, 0.5, 0.2], size=(16, 16)).transpose(2, 0, 1)[:3]
    fraction[:, :4] = 0
    return maps_of(fraction)


def test_a_perfect_estimate_has_the_best_value_of_every_score(truth):
    card = scorecard(truth.fraction, truth)
    assert list(card) == list(TISSUES)
    for values in card.values():
        assert list(values) == NAMES == [score.name for score in SCORES]
        assert values["psnr_db"] == math.inf
        for name in ("ssim", "dice", "soft_dice"):
            assert values[name] == pytest.approx(1)
        assert values["mae"] == values["volume_error"] == 0


def test_more_noise_is_worse_in_the_declared_direction(truth):
    noise = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0)) + 0.3
    cards = [scorecard(truth.fraction + s * noise, truth) for s in (0.03, 0.3, 1.5)]
    for score in SCORES:
        means = [np.mean([card[t][score.name] for t in TISSUES]) for card in cards]
        ordered = sorted(means, reverse=score.higher_is_better)
        assert means == ordered, score.name
        assert len(set(means)) == 3, score.name


def test_a_constant_offset_has_closed_forms(truth):
    estimate = truth.fraction.clone()
    estimate[1] += 0.1
    torch.testing.assert_close(psnr_db(estimate, truth)[1].item(), 20.0, atol=1e-4, rtol=0)
    torch.testing.assert_close(mae(estimate, truth)[1].item(), 0.1, atol=1e-6, rtol=0)
    share = 0.1 * 256 / truth.fraction[1].sum().item()
    assert volume_error(estimate, truth)[1].item() == pytest.approx(share, rel=1e-5)
    assert torch.isinf(psnr_db(estimate, truth)[[0, 2]]).all()


def test_errors_outside_the_head_count_in_psnr_but_not_in_mae(truth):
    estimate = truth.fraction.clone()
    estimate[0, :4] = 0.5
    assert mae(estimate, truth)[0] == 0
    assert psnr_db(estimate, truth)[0].item() == pytest.approx(-10 * math.log10(0.25 / 4))


def test_dice_of_overlapping_stripes_is_two_thirds():
    true, guess = torch.zeros(3, 12, 12), torch.zeros(3, 12, 12)
    true[0, 0:6], guess[0, 0:3] = 0.8, 0.8  # 2 * 3 / (3 + 6)
    truth = maps_of(true)
    assert dice(guess, truth).tolist() == pytest.approx([2 / 3, 1, 1])  # nowhere in both is 1
    assert soft_dice(guess, truth).tolist() == pytest.approx([2 / 3, 1, 1])
    guess[1, 8] = 0.9
    assert dice(guess, truth)[1] == 0
    assert math.isinf(volume_error(guess, truth)[1])


def test_background_wins_where_the_tissues_sum_to_little():
    true = torch.zeros(3, 12, 12)
    true[0, :6] = 1
    guess = torch.zeros(3, 12, 12)
    guess[0, :6], guess[0, 6:] = 0.6, 0.49  # 0.49 is below the background's 0.51
    assert dice(guess, maps_of(true))[0] == 1
    assert dice_paper(guess, maps_of(true))[0].item() == pytest.approx(2 / 3)  # 0.49 >= 0.35
    guess[0, 6:] = 0.34
    assert dice_paper(guess, maps_of(true))[0] == 1


def test_dice_paper_compares_with_the_corner_labels_alone():
    fraction = torch.zeros(3, 12, 12)
    fraction[1] = 1
    labels = torch.full((12, 12), 2)
    labels[:, 6:] = 3
    truth = TissueMaps(fraction, np.eye(4), "1", "x", corner_labels=labels)
    assert dice_paper(fraction, truth).tolist() == pytest.approx([1, 2 * 6 / 18, 0])


def test_scores_without_their_ground_are_left_out_or_refused():
    small = maps_of(torch.full((3, 8, 8), 0.3), corner=False)
    assert set(undefined_scores(small)) == {"ssim", "dice_paper"}
    assert list(scorecard(small.fraction, small)["GM"]) == [
        n for n in NAMES if n not in ("ssim", "dice_paper")
    ]
    empty = maps_of(torch.zeros(3, 12, 12))
    assert set(undefined_scores(empty)) == {"mae"}
    for function, truth in [(ssim, small), (dice_paper, small), (mae, empty)]:
        with pytest.raises(InvalidInput):
            function(truth.fraction, truth)


@pytest.mark.parametrize("score", SCORES, ids=lambda score: score.name)
def test_undefined_estimates_never_get_a_number(truth, score):
    for value in (math.nan, math.inf):
        estimate = truth.fraction.clone()
        estimate[0, 0, 0] = value
        with pytest.raises(InvalidInput, match="real and finite"):
            score.function(estimate, truth)
    for wrong in (truth.fraction[None], truth.fraction[:, :8, :8], truth.fraction[:2]):
        with pytest.raises(InvalidInput, match="shape of the true maps"):
            score.function(wrong, truth)
    with pytest.raises(InvalidInput):
        score.function(truth.fraction.to(torch.complex64), truth)


def test_ssim_equals_its_formula_for_constant_images():
    # without variance SSIM is (2ab + c1) / (a^2 + b^2 + c1) with c1 = 0.01^2
    truth = maps_of(torch.full((3, 16, 16), 0.3))
    expected = (2 * 0.3 * 0.2 + 1e-4) / (0.3**2 + 0.2**2 + 1e-4)
    torch.testing.assert_close(
        ssim(torch.full((3, 16, 16), 0.2), truth).double(),
        torch.full((3,), expected, dtype=torch.float64),
        atol=1e-5,
        rtol=0,
    )


def test_scores_are_found_by_name():
    assert score_named("mae").function is mae
    with pytest.raises(InvalidInput, match="did you mean 'psnr_db'"):
        score_named("psnr")


def test_perfect_maps_reach_only_the_known_ceiling_of_dice_paper(brainweb_dir):
    anatomy = open_anatomy(f"bids:{brainweb_dir / 'brainweb14'}")
    where = SliceSpec("below-top", 75)
    slices = [load_slice(anatomy, s, where) for s in ("04", "20", "42", "49")]
    ceiling = torch.stack([dice_paper(m.fraction, m) for m in slices]).mean(0)
    assert ceiling.tolist() == pytest.approx([0.77, 0.80, 0.58], abs=0.02)
    for maps in slices:
        values = [scorecard(torch.zeros_like(maps.fraction), maps)[t] for t in TISSUES]
        assert [v["dice"] for v in values] == [0, 0, 0]
        assert [v["volume_error"] for v in values] == [1, 1, 1]
