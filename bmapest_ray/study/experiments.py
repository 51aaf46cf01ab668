"""The experiments of BMapEst (arXiv 2404.14739) by name, and the ways they are solved here."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bmapest_ray.base.errors import require_choice
from bmapest_ray.study.loading import load_study
from bmapest_ray.study.plan import Plan, make_plan
from bmapest_ray.study.programme import Case, searched

METHODS = ("paper", "paper-19", "best", "baselines", "unet")
PAPERS_SUBJECT = "42"
"""Whom runs of the paper's own code are known for: BrainWeb's number."""
PAPERS_CODE = {"sequences-1": (17.0, 18.8, 30.1), "sequences-2": (25.2, 27.0, 36.3)}
"""PSNR of GM, WM and CSF after 501 steps of the paper's own code, by experiment."""
PAPERS_BRAINS = 19
"""Others whose mean it started from."""
UNET_EXPERIMENTS = ("t1inv-single", "sequences-2", "sequences-6")
"""Where U-Nets are trained."""
FOLDS = 2


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Parameters
    ----------
    name
        Of its studies, ``paper/NAME-paper`` and ``paper/NAME-best``.
    title
        For tables.
    published
        Its row in ``studies/paper/published.csv``; empty where no numbers are available.
    """

    name: str
    title: str
    published: str = ""


_SEQUENCES = ("t1inv", "t2prep", "t2star", "dir", "flair", "dwi")

EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment("t1inv-single", "T1, one contrast", "t1inv_single"),
        *(
            Experiment(
                f"sequences-{count}",
                "T1, four contrasts" if count == 1 else f"{count} sequences",
                "+".join(_SEQUENCES[:count]),
            )
            for count in range(1, 7)
        ),
        Experiment("kspace-magnitude", "2 sequences, magnitude k-space loss"),
        Experiment("pixel-coefficients", "2 sequences, coefficients per subject and pixel"),
        Experiment("single-coefficients", "2 sequences, coefficients per subject and tissue"),
        Experiment("csf-alone", "2 sequences, CSF alone"),
        Experiment("gm-alone", "2 sequences, GM alone"),
        Experiment("wm-alone", "2 sequences, WM alone"),
    )
}
"""By name, in the order of tables."""


def make_cases(
    names: Sequence[str], methods: Sequence[str], overrides: Sequence[str]
) -> tuple[Case, ...]:
    """Return the cases of experiments.

    Parameters
    ----------
    names
        Of `EXPERIMENTS`.
    methods
        Of `METHODS`.
    overrides
        ``key=value`` over the studies: the anatomy, the subjects.

    Raises
    ------
    InvalidInput
        For an unknown name, or subjects that would be both tuned on and reported.
    """
    for method in methods:
        require_choice("method", method, METHODS)
    cases: list[Case] = []
    for name in names:
        experiment = EXPERIMENTS[require_choice("experiment", name, EXPERIMENTS)]
        if "paper" in methods:
            cases.append(Case(name, "paper", _plan(f"{name}-paper", overrides)))
        if "paper-19" in methods and name in PAPERS_CODE:
            cases += _from_19_brains(name, overrides)
        best = _plan(f"{name}-best", overrides)
        if "best" in methods:
            cases.append(Case(name, "best", best, candidates=searched(best)))
        if "baselines" in methods and experiment.published:
            cases += _baselines(name, best)
        if "unet" in methods and name in UNET_EXPERIMENTS:
            cases += _unets(name, best)
    return tuple(cases)


def _plan(name: str, overrides: Sequence[str]) -> Plan:
    return make_plan(load_study(f"paper/{name}", overrides))


def _from_19_brains(name: str, overrides: Sequence[str]) -> list[Case]:
    """Return the paper's fit of the one subject that its own code is known for, if it is there.

    Where fewer than 19 others are there, mirror images of them stand in for the rest.
    """
    plan = _plan(f"{name}-paper", [*overrides, f"inversion.start=cohort:{PAPERS_BRAINS}"])
    if PAPERS_SUBJECT not in plan.subjects:
        return []
    only = replace(plan, subjects=(PAPERS_SUBJECT,))
    return [Case(name, "paper-19", only)]


def _baselines(name: str, plan: Plan) -> list[Case]:
    """Return the baselines on the data of the ``best`` version."""
    from bmapest_ray.baselines.catalogue import BASELINES, tuning_grid

    return [
        Case(name, baseline, plan, baseline, tuple(_settings(b) for b in tuning_grid(baseline)))
        for baseline in BASELINES
    ]


def _unets(name: str, plan: Plan) -> list[Case]:
    """Return both U-Nets, cross-fitted: no network has seen the subjects that it is tested on.

    The subjects that may be reported are dealt into `FOLDS`; a network is trained on all folds but
    one, and its weights are chosen on the tune subjects.
    """
    from bmapest_ray.baselines.unet_recipe import RECIPES

    eligible = [s for s in plan.cohort if s not in plan.tune_subjects]
    by_subject = {}
    for number, subject in enumerate(eligible):
        trained = [s for i, s in enumerate(eligible) if i % FOLDS != number % FOLDS]
        by_subject[subject] = {
            "train": ",".join(trained), "validate": ",".join(plan.tune_subjects)
        }  # fmt: skip
    return [
        Case(name, f"unet-{recipe}", plan, f"unet-{recipe}", ({"name": recipe},), by_subject)
        for recipe in RECIPES
    ]


def _settings(baseline: Any) -> dict[str, Any]:  # noqa: ANN401 - any frozen dataclass
    return asdict(baseline)
