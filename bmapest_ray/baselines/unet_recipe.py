"""How a U-Net is trained: what it is shown, for how long, on whom it is chosen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput, require_choice
from bmapest_ray.base.seeding import generator, seed_of

RECIPES = ("paper", "strong")
_SYNTHETIC = 500
_ELASTIC_SPACING_PX = 16.0
_ELASTIC_PX = (0.5, 2.0)


@dataclass(frozen=True)
class Recipe:
    """A recipe and its budget.

    Parameters
    ----------
    name
        ``paper``: 500 synthetic subjects, every fraction drawn on its own from the Gaussian of
        its pixel over the training subjects, no noise. ``strong``: slices of real anatomies,
        elastically deformed, rotated and scaled, with fresh noise.
    steps
        Most optimiser steps.
    cpu_seconds
        Most processor time; training stops at what comes first.
    batch
        Maps per step.
    learning_rate
        Of Adam.
    validate_every
        Steps between two looks at the validation subjects.
    seed
        Of weights, maps and noise.

    Raises
    ------
    InvalidInput
        If a number is out of range or the recipe is unknown.
    """

    name: str = "strong"
    steps: int = 3000
    cpu_seconds: float = 600.0
    batch: int = 8
    learning_rate: float = 1e-3
    validate_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        require_choice("U-Net recipe", self.name, RECIPES)
        positive = (self.steps, self.batch, self.validate_every, self.learning_rate)
        if not (min(positive) > 0 and self.cpu_seconds > 0):
            raise InvalidInput(f"a U-Net recipe needs positive numbers, got {self}; raise them")

    @property
    def noisy(self) -> bool:
        """Whether training images carry noise."""
        return self.name == "strong"


class TrainingMaps:
    """Draws maps for training, each step's from its number alone, so that a resume draws the same.

    Parameters
    ----------
    slices
        Maps of training subjects, ``(slice, tissue, y, x)``; for ``paper`` one slice per subject,
        the one that is estimated.
    recipe
        Which maps to make of them.
    """

    def __init__(self, slices: Tensor, recipe: Recipe) -> None:
        self.slices, self.recipe = slices, recipe
        if recipe.name == "paper":
            self._synthetic = _per_pixel_gaussians(slices, recipe.seed)

    def batch(self, step: int) -> Tensor:
        """Return the maps of one step, ``(batch, tissue, y, x)``."""
        source = self._synthetic if self.recipe.name == "paper" else self.slices
        draw = generator("unet batch", self.recipe.seed, step)
        chosen = source[torch.randint(len(source), (self.recipe.batch,), generator=draw)]
        if self.recipe.name == "paper":
            return chosen
        return torch.stack([self._deformed(p, step, n) for n, p in enumerate(chosen)])

    def _deformed(self, maps: Tensor, step: int, number: int) -> Tensor:
        from monai.transforms.spatial.array import Rand2DElastic

        transform = Rand2DElastic(
            spacing=(_ELASTIC_SPACING_PX, _ELASTIC_SPACING_PX),
            magnitude_range=_ELASTIC_PX,
            prob=1.0,
            rotate_range=0.15,
            scale_range=(0.1, 0.1),
            padding_mode="zeros",
        )
        transform.set_random_state(seed_of("unet deform", self.recipe.seed, step, number) % 2**32)
        moved = torch.as_tensor(transform(maps)).clamp(0.0, 1.0)
        return moved / moved.sum(0, keepdim=True).clamp_min(1.0)


def _per_pixel_gaussians(subjects: Tensor, seed: int) -> Tensor:
    """Return synthetic subjects: independent Gaussians of every pixel, clipped to [0, 1]."""
    if len(subjects) < 2:
        raise InvalidInput(
            f"synthetic subjects need the spread of at least 2 training subjects, got "
            f"{len(subjects)}; add subjects to the cohort"
        )
    mean, sd = subjects.mean(0), subjects.std(0)
    draw = torch.randn(
        (_SYNTHETIC, *mean.shape), generator=generator("unet synthetic", seed), dtype=mean.dtype
    )
    return (mean + sd * draw).clamp(0.0, 1.0)
