"""Protocol and inversion settings searched together on the error that maps really have.

The outer problem proposes a protocol and a prior with its strength; the inner one inverts noisy
simulated data of some subjects with them. A bound on the variance knows neither priors nor the
simplex; this search does, but has no gradients and sees errors alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bmapest_ray.anatomy.cohort import cohort_mean, cohort_statistics
from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.base.errors import InvalidInput, SolveError, require_choice
from bmapest_ray.base.seeding import generator
from bmapest_ray.design.objective import DesignProblem
from bmapest_ray.design.optimise import Limits, on_raster
from bmapest_ray.inversion.prior_choice import Cohort, SampledPrior, make_prior
from bmapest_ray.inversion.settings import SolverSettings
from bmapest_ray.inversion.solve import BatchMeasurement, invert_batch
from bmapest_ray.sequence.protocol import Protocol
from bmapest_ray.simulate.factory import BuiltOperator, build_operator
from bmapest_ray.simulate.noise import add_noise, scaled_sigma
from bmapest_ray.simulate.plan import Floats as Values
from bmapest_ray.simulate.scene import Scene
from bmapest_ray.study.cache import Remembered
from bmapest_ray.study.config import SearchConfig
from bmapest_ray.study.search import Search
from bmapest_ray.study.search_storage import open_storage
from bmapest_ray.study.space import Choices, Dimension, Floats, Value
from bmapest_ray.study.status import TrialStatus
from bmapest_ray.tissue.fields import Fields

Settings = Mapping[str, Value]

PRIOR = "prior"
INVERSION: Mapping[str, Dimension] = {
    PRIOR: Choices(("none", "tv", "cohort")),
    "tv.strength": Floats(0.01, 100.0, log=True, when=((PRIOR, "tv"),)),
    "cohort.strength": Floats(0.001, 10.0, log=True, when=((PRIOR, "cohort"),)),
}
"""How maps are solved for: the prior and, where it has one, its strength."""

PLAIN: Settings = {PRIOR: "none"}


@dataclass(frozen=True, eq=False)
class Head:
    """A subject and those who may speak for it: the cohort of its start and its prior."""

    truth: TissueMaps
    others: tuple[TissueMaps, ...]


@dataclass(frozen=True)
class JointFound:
    """What a search found.

    Parameters
    ----------
    values
        Of the protocol's variables, on the raster.
    inversion
        Prior and strength.
    error
        Mean absolute error over tissues and subjects.
    history
        Error of every trial in order; None where a solve gave no maps.
    """

    values: tuple[float, ...]
    inversion: Settings
    error: float
    history: tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class JointStudy:
    """The search for a protocol and the settings of its inversion.

    Parameters
    ----------
    problem
        What is free in the protocol; its setting has the grid, the tissues and the noise level.
    limits
        Longest scan; times are shortened to it, pauses first.
    fields
        B0 and B1, alike for all heads.
    heads
        Subjects whose errors choose.
    draws
        Noise draws per subject, the same ones in every trial.
    """

    problem: DesignProblem
    limits: Limits
    fields: Fields
    heads: tuple[Head, ...]
    draws: int = 2
    _built: Remembered = field(default_factory=lambda: Remembered(2), init=False)

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not self.heads or self.draws < 1:
            msg = (
                "a joint search needs at least one subject and one noise draw, got "
                f"{len(self.heads)} and {self.draws}; name some"
            )
            raise InvalidInput(msg)
        if self.limits.rf_energy_t2_s is not None:
            msg = (
                "a joint search must have no limit of RF energy, got "
                f"{self.limits.rf_energy_t2_s:g} T2 s; lower the bounds of flip angles"
            )
            raise InvalidInput(msg)

    @property
    def space(self) -> dict[str, Dimension]:
        """What is searched: every variable, long ranges by logarithms, and the inversion."""
        free = {
            v.name: Floats(v.low, v.high, log=0 < v.low < v.high / 5)
            for v in self.problem.variables
        }
        return {**free, **INVERSION}

    def search(
        self, trials: int, start: Sequence[float], *, seed: int = 0, fixed: bool = False
    ) -> JointFound:
        """Search from a protocol that is inverted without prior.

        Parameters
        ----------
        trials
            Most evaluations, the start among them; fewer where the sampler finds nothing new.
        start
            Values of the variables.
        fixed
            Whether the protocol stays as it is and only the inversion is searched.

        Raises
        ------
        InvalidInput
            If the start leaves the bounds.
        SolveError
            If no trial gave maps.
        """
        names = [v.name for v in self.problem.variables]
        values = {n: float(x) for n, x in zip(names, start, strict=True)}
        self._check({**values, **PLAIN})
        kept: Settings = values if fixed else {}
        space = dict(INVERSION) if fixed else self.space
        config = SearchConfig(space=space, n_trials=trials, seed=seed)
        search = Search("joint", config, maximize=False, storage=open_storage(None))
        search.warm_start([PLAIN if fixed else {**values, **PLAIN}])
        history: list[float | None] = []
        while (proposal := search.ask()) is not None:
            error = self._error_or_none({**kept, **proposal.settings})
            history.append(error)
            status = TrialStatus.FAILED if error is None else TrialStatus.COMPLETE
            search.tell(proposal.number, status, error)
        best = search.best()
        if best is None:
            raise SolveError(f"a joint search must have maps of one trial, got none of {trials}")
        return self._told({**kept, **best.settings}, tuple(history))

    def played(self, settings: Settings) -> Values:
        """Return the values that are played: on the raster, within the scan time."""
        values = np.array([float(settings[v.name] or 0.0) for v in self.problem.variables])
        return on_raster(self.problem, values, self.limits.scan_time_s)

    def errors(
        self, values: Sequence[float], inversion: Settings, heads: Sequence[Head], key: str
    ) -> list[list[float]]:
        """Return the mean absolute error per head and tissue, over head pixels and noise draws.

        Parameters
        ----------
        key
            Names the noise draws.

        Raises
        ------
        SolveError
            If a solve gives no maps.
        """
        built = self._operator(self.problem.protocol_at(np.array(values)))
        return [self._error(built, inversion, head, key) for head in heads]

    def _told(self, settings: Settings, history: tuple[float | None, ...]) -> JointFound:
        inversion = {name: settings[name] for name in INVERSION if name in settings}
        error = min(one for one in history if one is not None)
        values = tuple(float(v) for v in self.played(settings))
        return JointFound(values, inversion, error, history)

    def _check(self, settings: Settings) -> None:
        """Refuse settings outside the space."""
        for name, dimension in self.space.items():
            value = settings.get(name)
            if isinstance(dimension, Choices):
                require_choice(name, str(value), [str(c) for c in dimension.choices])
            elif dimension.is_active(settings):
                inside = value is not None and dimension.low <= float(value) <= dimension.high
                if not inside:
                    msg = (
                        f"{name} must lie in {dimension.low:g}..{dimension.high:g}, got {value}; "
                        "correct it or widen the bounds"
                    )
                    raise InvalidInput(msg)

    def _error_or_none(self, settings: Settings) -> float | None:
        self._check(settings)
        try:
            rows = self.errors(list(self.played(settings)), settings, self.heads, "tune")
        except SolveError:
            return None  # told as a failed trial, which counts
        return float(np.mean(rows))

    def _operator(self, protocol: Protocol) -> BuiltOperator:
        setting = self.problem.setting
        scene = Scene(protocol, setting.acquisition, self.fields, setting.table)
        return self._built.get(protocol.digest, lambda: build_operator(scene))

    def _error(
        self, built: BuiltOperator, inversion: Settings, head: Head, key: str
    ) -> list[float]:
        truth = head.truth.fraction
        images, levels = self._noisy(built, head, key)
        solved = invert_batch(
            BatchMeasurement(images, "complex", levels),
            built.operator,
            solver=SolverSettings(noise_tolerance=1e-2),
            start=cohort_mean(head.others, head.truth.subject),
            prior=_prior(inversion, head),
            constraints="simplex",
        )
        lost = [one.message for one in solved if not one.status.has_maps]
        if lost:
            raise SolveError(lost[0])
        away = (torch.stack([one.maps for one in solved]) - truth).abs()
        mask = torch.as_tensor(head.truth.head)
        return [float(value) for value in away[..., mask].mean((0, 2))]

    def _noisy(self, built: BuiltOperator, head: Head, key: str) -> tuple[Tensor, Tensor]:
        """Return noisy images, ``(draw, channel, y, x)``, and the noise level per channel."""
        setting = self.problem.setting
        levels = scaled_sigma(setting.sigma, setting.dwell_s, built.dwell_s).to(torch.float32)
        with torch.no_grad():
            clean = built.operator.forward(head.truth.fraction)
        keys: list[tuple[Any, ...]] = [(key, head.truth.subject, n) for n in range(self.draws)]
        draws = [add_noise(clean, levels, generator("design-joint", *k)) for k in keys]
        return torch.stack(draws), levels


def _prior(inversion: Settings, head: Head) -> SampledPrior | None:
    name = str(inversion[PRIOR])
    cohort = None
    if name == "cohort":
        subjects = torch.stack([one.fraction for one in head.others])
        cohort = Cohort(cohort_statistics(head.others, head.truth.subject), subjects)
    strength = inversion.get(f"{name}.strength")
    return make_prior(name, {} if strength is None else {"strength": strength}, cohort)
