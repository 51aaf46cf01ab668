"""U-Net (MONAI) from magnitude images to tissue maps, with a validation split and resume.

Weights are those with the lowest error on the validation subjects; subjects under test are in
neither split. Training writes its state at every look at the validation subjects and goes on from
there, step for step the same as if it had not been stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.base.seeding import generator, seed_of
from bmapest_ray.baselines.baseline import as_maps
from bmapest_ray.baselines.unet_recipe import Recipe, TrainingMaps

_CHANNELS = (16, 32, 64, 128)

Simulate = Callable[[Tensor], Tensor]
"""Maps ``(batch, tissue, y, x)`` to noise-free complex images ``(batch, channel, y, x)``."""


@dataclass(frozen=True, eq=False)
class TrainedUnet:
    """A network with its best weights.

    Parameters
    ----------
    network
        On the CPU or a CUDA device, in evaluation mode.
    scale
        Images are divided by it.
    error
        Mean square error on the validation subjects.
    steps, cpu_seconds
        Spent on training.
    """

    network: torch.nn.Module
    scale: float
    error: float
    steps: int
    cpu_seconds: float

    def estimate(self, images: Tensor) -> Tensor:
        """Return maps ``(tissue, y, x)`` of magnitude images ``(channel, y, x)``."""
        device = next(self.network.parameters()).device
        with torch.no_grad():
            found = self.network(images[None].abs().to(device, torch.float32) / self.scale)
        return as_maps(found[0].sigmoid().cpu().numpy(), images)


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a network is trained for.

    Parameters
    ----------
    simulate
        The protocol's images.
    sigma
        Noise level of every channel, ``(channel,)``.
    training
        Slices of training subjects, ``(slice, tissue, y, x)``.
    validation
        Maps of validation subjects, ``(subject, tissue, y, x)``.
    """

    simulate: Simulate
    sigma: Tensor
    training: Tensor
    validation: Tensor


def check_split(train: tuple[str, ...], validate: tuple[str, ...], test: str) -> None:
    """Refuse splits that share a subject, or hold the subject under test.

    Raises
    ------
    InvalidInput
        Names the subject.
    """
    shared = sorted(set(train) & set(validate)) or sorted({test} & {*train, *validate})
    if shared or not train or not validate:
        raise InvalidInput(
            "a U-Net needs training, validation and test subjects that differ, got "
            f"{', '.join(shared) or 'an empty split'}; correct the splits"
        )


def train(lesson: Lesson, recipe: Recipe, state: Path, device: str = "cpu") -> TrainedUnet:
    """Train a network, or go on with one whose state is in a file.

    Parameters
    ----------
    state
        File of the training's state; its folder is made.

    Raises
    ------
    MissingInput
        If MONAI is not installed.
    """
    training = _Training(lesson, recipe, device)
    if state.is_file():
        training.load(torch.load(state, weights_only=True, map_location=device))
    state.parent.mkdir(parents=True, exist_ok=True)
    while not training.over:
        training.step()
        if training.steps % recipe.validate_every == 0 or training.over:
            training.validate()
            partial = state.with_name(f"{state.name}.{seed_of('unet', str(state)) % 997}.partial")
            torch.save(training.state(), partial)
            partial.replace(state)
    return training.result()


class _Training:
    def __init__(self, lesson: Lesson, recipe: Recipe, device: str) -> None:
        self.lesson, self.recipe, self.device = lesson, recipe, device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("unet weights", recipe.seed) % 2**63)
            self.network = _network(len(lesson.sigma), lesson.training.shape[1]).to(device)
        self.optimiser = torch.optim.Adam(self.network.parameters(), recipe.learning_rate)
        self.maps = TrainingMaps(lesson.training, recipe)
        clean = lesson.simulate(lesson.validation).abs()
        self.scale = float(clean.max())
        self.steps, self.spent_s = 0, 0.0
        self.best: dict[str, Tensor] = {}
        self.error = float("inf")
        self._seen = self._images(lesson.validation, "unet validation", noisy=True)

    @property
    def over(self) -> bool:
        """Whether steps or time are spent."""
        return self.steps >= self.recipe.steps or self.spent_s >= self.recipe.cpu_seconds

    def step(self) -> None:
        """Take one optimiser step."""
        began = time.process_time()
        p = self.maps.batch(self.steps)
        seen = self._images(p, "unet noise", noisy=self.recipe.noisy)
        self.network.train()
        self.optimiser.zero_grad()
        error = (self.network(seen).sigmoid() - p.to(self.device)).square().mean()
        error.backward()
        self.optimiser.step()
        self.steps += 1
        self.spent_s += time.process_time() - began

    def validate(self) -> None:
        """Keep the weights if no earlier ones were better on the validation subjects."""
        self.network.eval()
        with torch.no_grad():
            found = self.network(self._seen).sigmoid()
            error = float((found - self.lesson.validation.to(self.device)).square().mean())
        if error < self.error:
            self.error = error
            self.best = {k: v.detach().clone() for k, v in self.network.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best": self.best,
            "error": self.error,
            "steps": self.steps,
            "spent_s": self.spent_s,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.best, self.error = state["best"], state["error"]
        self.steps, self.spent_s = state["steps"], state["spent_s"]

    def result(self) -> TrainedUnet:
        """Return the network with its best weights."""
        self.network.load_state_dict(self.best)
        self.network.eval()
        return TrainedUnet(self.network, self.scale, self.error, self.steps, self.spent_s)

    def _images(self, p: Tensor, purpose: str, *, noisy: bool) -> Tensor:
        """Return what the network sees of maps: scaled magnitudes."""
        with torch.no_grad():
            images = self.lesson.simulate(p)
        if noisy:
            draw = generator(purpose, self.recipe.seed, self.steps)
            noise = torch.randn((*images.shape, 2), generator=draw, dtype=torch.float32)
            sigma = self.lesson.sigma.to(images.device)[:, None, None]
            images = images + torch.view_as_complex(noise).to(images.device) * sigma
        return (images.abs() / self.scale).to(self.device, torch.float32)


def _network(channels: int, tissues: int) -> torch.nn.Module:
    try:
        from monai.networks.nets.unet import UNet
    except ImportError as error:
        raise MissingInput(
            "the U-Net needs MONAI, which is not installed; pip install 'bmapest_ray[unet]'"
        ) from error
    return UNet(
        spatial_dims=2,
        in_channels=channels,
        out_channels=tissues,
        channels=_CHANNELS,
        strides=(2,) * (len(_CHANNELS) - 1),
        num_res_units=2,
    )
