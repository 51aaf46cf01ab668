from typing import Any

import numpy as np
import pytest

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.figures.palette import OKABE_ITO, paint, translucent
from bmapest_ray.figures.panel import (
    GAP,
    MARGIN_LEFT,
    MARGIN_TOP,
    TILE,
    draw_panel,
    truth_estimate_difference,
)


def test_fractions_paint_from_black_to_white() -> None:
    image = paint(np.array([[0.0, 1.0, 2.0, -1.0]]), "gray", 0.0, 1.0)
    assert image[0, :, 0].tolist() == [0, 255, 255, 0]


def test_a_nan_is_shown_as_grey_not_as_zero() -> None:
    assert paint(np.array([[np.nan]]), "gray", 0.0, 1.0)[0, 0].tolist() == [128] * 3


def test_no_difference_is_the_middle_of_the_scale() -> None:
    middle = paint(np.zeros((1, 1)), "PuOr", -0.25, 0.25)[0, 0].astype(int)
    assert (middle > 235).all()


def test_anterior_is_up_and_right_is_right() -> None:
    truth = np.zeros((3, 8, 8))
    truth[0, -1, -1] = 1.0  # GM in the most anterior, most right voxel
    picture = np.asarray(draw_panel(truth_estimate_difference(truth, truth), TISSUES, "t"))
    tile = picture[MARGIN_TOP : MARGIN_TOP + TILE, MARGIN_LEFT : MARGIN_LEFT + TILE]
    assert tile[0, -1].tolist() == [255] * 3
    assert (tile[:, : TILE // 2] == 0).all()


def test_the_panel_shows_estimate_and_difference_of_every_tissue() -> None:
    truth, estimate = np.zeros((3, 8, 8)), np.full((3, 8, 8), 0.25)
    picture = np.asarray(draw_panel(truth_estimate_difference(truth, estimate), TISSUES, "t"))
    for row in range(3):
        y = MARGIN_TOP + row * (TILE + GAP) + TILE // 2
        at = [picture[y, MARGIN_LEFT + i * (TILE + GAP) + TILE // 2] for i in range(3)]
        assert at[0].tolist() == [0] * 3
        assert at[1].tolist() == [64] * 3
        assert at[2].tolist() == paint(np.array([[1.0]]), "PuOr", 0.0, 1.0)[0, 0].tolist()


def test_a_panel_of_three_tissues(benchmark: Any) -> None:
    columns = truth_estimate_difference(np.zeros((3, 64, 64)), np.zeros((3, 64, 64)))
    panel = np.asarray(benchmark(lambda: draw_panel(columns, TISSUES, "04", ["GM 30 dB"])))
    assert panel.shape[0] >= 3 * TILE
    assert panel.shape[1] >= 3 * TILE


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(InvalidInput, match="one shape"):
        truth_estimate_difference(np.zeros((3, 8, 8)), np.zeros((3, 8, 9)))


def test_translucent_keeps_the_colour() -> None:
    assert translucent("#0072B2", 0.5) == "rgba(0,114,178,0.5)"
    assert len(set(OKABE_ITO)) == 7
