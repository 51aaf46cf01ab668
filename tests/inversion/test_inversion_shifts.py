"""A fit to k-space magnitudes may start, or end, a pixel beside the truth."""

import pytest
import torch
from synthetic import T1INV, T2PREP, SyntheticOperator, brain, psnr

from bmapest_ray.inversion import shifts
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.solve import BatchMeasurement, invert_batch

MATRIX = 24
SETTINGS = SolverSettings(loss="kspace-magnitude")


def fitted(start: torch.Tensor, loss: str = "kspace-magnitude"):
    operator = SyntheticOperator(T1INV + T2PREP, MATRIX)
    maps = torch.stack([brain(MATRIX, seed) for seed in range(len(start))])
    images = operator.forward(maps)
    sigma = torch.full((len(operator.channels),), float(images.abs().max()) / 500)
    data = BatchMeasurement(images, "complex", sigma)
    return maps, invert_batch(data, operator, solver=SolverSettings(loss=loss), start=start)


@pytest.mark.parametrize("step", [(1, 0), (-1, -1), (0, 1)])
def test_a_fit_beside_the_truth_is_moved_there(step, monkeypatch) -> None:
    start = torch.stack([brain(MATRIX, seed) for seed in range(2)])
    beside = start.roll(step, (-2, -1))
    maps, moved = fitted(torch.stack([beside[0], start[1]]))
    monkeypatch.setattr(shifts, "ROUNDS", 0)
    _, left = fitted(torch.stack([beside[0], start[1]]))
    assert min(psnr(left[0].maps, maps[0])) < 25, "it does settle beside the truth"
    assert min(psnr(moved[0].maps, maps[0])) > 35
    assert "moved by a pixel" in moved[0].message
    assert moved[0].objective < left[0].objective
    assert "moved" not in moved[1].message
    torch.testing.assert_close(moved[1].maps, left[1].maps)


def test_images_with_phases_are_not_moved(monkeypatch) -> None:
    monkeypatch.setattr(shifts, "iterated", lambda *_: pytest.fail("nothing to look for"))
    start = brain(MATRIX, 0)[None].roll(1, -1)
    maps, found = fitted(start, "kspace-complex")
    assert min(psnr(found[0].maps, maps[0])) > 35
