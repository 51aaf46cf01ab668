"""The U-Net learns, goes on where it was stopped, and never sees whom it is tested on."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.seeding import generator
from bmapest_ray.baselines.unet import Lesson, check_split, train
from bmapest_ray.baselines.unet_recipe import Recipe, TrainingMaps

MIX = torch.tensor([[0.8, 0.3, 0.1], [0.2, 0.5, 1.0]])


def simulate(p: Tensor) -> Tensor:
    return torch.einsum("ct,btyx->bcyx", MIX, p).to(torch.complex64)


def lesson() -> Lesson:
    draw = torch.rand((8, 3, 16, 16), generator=generator("unet test"))
    blurred = torch.nn.functional.avg_pool2d(draw, 5, 1, 2)
    maps = blurred / blurred.sum(1, keepdim=True)
    return Lesson(simulate, torch.tensor([0.01, 0.01]), maps[:6], maps[6:])


def recipe(**changes: float | str) -> Recipe:
    return Recipe(**{"name": "paper", "steps": 40, "batch": 4, "validate_every": 10, **changes})  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper", "strong"])
def test_it_learns_and_estimates_fractions(name: str, tmp_path: Path) -> None:
    school = lesson()
    early = train(school, recipe(name=name, steps=1), tmp_path / "early.pt")
    late = train(school, recipe(name=name), tmp_path / "late.pt")
    assert late.error < 0.5 * early.error
    maps = late.estimate(simulate(school.validation)[0].abs())
    assert maps.shape == (3, 16, 16)
    assert float(maps.min()) >= 0
    assert float(maps.sum(0).max()) <= 1 + 1e-6
    error = float((maps - school.validation[0]).square().mean())
    assert error < 2 * late.error + 0.02


@pytest.mark.slow
def test_stopped_training_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = train(lesson(), recipe(name="strong", steps=20), tmp_path / "whole.pt")
    train(lesson(), recipe(name="strong", steps=10), tmp_path / "parts.pt")
    parts = train(lesson(), recipe(name="strong", steps=20), tmp_path / "parts.pt")
    assert parts.steps == whole.steps == 20
    assert parts.error == whole.error
    for one, other in zip(parts.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first = train(lesson(), recipe(), tmp_path / "net.pt")
    again = train(lesson(), recipe(), tmp_path / "net.pt")
    assert (again.steps, again.cpu_seconds) == (first.steps, first.cpu_seconds)


@pytest.mark.slow
def test_time_is_a_limit(tmp_path: Path) -> None:
    trained = train(lesson(), recipe(cpu_seconds=1e-6), tmp_path / "net.pt")
    assert trained.steps == 1


def test_synthetic_subjects_follow_the_pixels_gaussians() -> None:
    subjects = 0.5 + 0.05 * torch.randn((6, 3, 8, 8), generator=generator("pixels"))
    drawn = TrainingMaps(subjects, recipe(batch=2000)).batch(0)
    assert float((drawn.mean(0) - subjects.mean(0)).abs().max()) < 0.02
    assert float((drawn.std(0) / subjects.std(0) - 1).abs().max()) < 0.25
    neighbours = (drawn - drawn.mean(0))[:, 0, 0, :2].T
    assert abs(float(torch.corrcoef(neighbours)[0, 1])) < 0.15


@pytest.mark.parametrize(
    ("trained", "validated", "test", "named"),
    [
        (("20", "38"), ("04",), "38", "38"),
        (("20",), ("04", "42"), "42", "42"),
        (("20", "04"), ("04",), "42", "04"),
        (("20",), (), "42", "an empty split"),
    ],
)
def test_splits_that_share_a_subject_are_refused(
    trained: tuple[str, ...], validated: tuple[str, ...], test: str, named: str
) -> None:
    with pytest.raises(InvalidInput, match=named):
        check_split(trained, validated, test)
