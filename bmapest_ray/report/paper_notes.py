"""What a reader of the paper's tables must know: conditions, ties and losses, gaps."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.report.paper_comparisons import Gain
from bmapest_ray.report.paper_names import title_of
from bmapest_ray.study.experiments import (
    EXPERIMENTS,
    PAPERS_BRAINS,
    PAPERS_CODE,
    PAPERS_SUBJECT,
    UNET_EXPERIMENTS,
)

if TYPE_CHECKING:
    import pandas as pd

NOTES = (
    "Mean ± standard deviation over subjects; n is their number, and a row with n below 10 holds "
    "only the subjects that were run. No figure is extrapolated.",
    "Published rows: 20 BrainWeb subjects, noise-free data, start from the mean of 19 others. "
    "`paper` rows: noise-free data of the model that is fitted, start from the mean of 13 others. "
    "`best` rows and baselines: SNR 100 at the reference t1inv[3], compartments; data and fit "
    "share one model, which flatters `best` and, less, voxel-wise NNLS.",
    "`dice_paper` counts as the paper does: its true labels are taken at the corner of the pixel "
    "instead of its centre, half a pixel off, so that perfect maps score only about 0.77 (GM), "
    "0.80 (WM) and 0.58 (CSF). Published Dice values sit at that ceiling; they cannot tell good "
    "maps from perfect ones.",
    "Tuned settings were chosen on subjects 04, 05, 06 and 18, which no row reports; `tuned` is "
    "the number of settings that were compared. Seconds are the median wall time of one inversion "
    "on one core of a machine that was shared, and at times stopped, while this table was made: "
    "they are upper bounds.",
)


_SIGNIFICANT = 0.05


def notes_of(frame: "pd.DataFrame", gains: Sequence[Gain]) -> list[str]:
    """Return all notes on some results and on what ``best`` gains in them."""
    return [*NOTES, *beside_the_papers_code(frame), *not_won(gains), *missing(frame)]


def missing(frame: "pd.DataFrame") -> Iterator[str]:
    """Say which cells of the programme have not been run, or not for all ten subjects."""
    from bmapest_ray.baselines.catalogue import BASELINES

    rows = frame.drop_duplicates(["experiment", "method", "subject"])
    counts = rows.groupby(["experiment", "method"]).size().to_dict()
    wanted = {
        "paper": list(EXPERIMENTS),
        "best": list(EXPERIMENTS),
        **{method: [n for n, e in EXPERIMENTS.items() if e.published] for method in BASELINES},
        **{f"unet-{recipe}": list(UNET_EXPERIMENTS) for recipe in ("paper", "strong")},
    }
    for method, names in wanted.items():
        none = [EXPERIMENTS[name].title for name in names if not counts.get((name, method))]
        if none:
            yield (
                f"Not run yet, for want of processor time: {title_of(method)} on "
                f"{'; '.join(none)}. `bmapest reproduce paper` goes on with it."
            )


def beside_the_papers_code(frame: "pd.DataFrame") -> Iterator[str]:
    """Compare with runs of the paper's own code on one subject."""
    mine = frame[frame.subject == PAPERS_SUBJECT]
    known = mine[mine.method.isin(("paper", "paper-19")) & mine.experiment.isin(PAPERS_CODE)]
    others = int(known.cohort.max()) if len(known) else 0
    mirrored = max(0, PAPERS_BRAINS - others)
    starts = {
        "paper": f"the {others} others that are here",
        "paper-19": f"these and {mirrored} mirror images",
    }
    found = [
        f"from the mean of {start}, {_apart(known[known.method == method])}"
        for method, start in starts.items()
        if (known.method == method).any()
    ]
    if found:
        yield (
            f"Subject {PAPERS_SUBJECT} beside a run of the paper's own code, which started from "
            f"the mean of {PAPERS_BRAINS} others, PSNR of {', '.join(TISSUES)}: "
            f"{'; '.join(found)}. 501 steps of Adam do not converge, so the smoother start of more "
            "brains ends higher."
        )


def _apart(rows: "pd.DataFrame") -> str:
    """Return how far each experiment of one method is from the paper's own code."""
    said = []
    for name, theirs in PAPERS_CODE.items():
        scores = rows[rows.experiment == name].set_index("tissue").psnr_db
        if len(scores):
            apart = (float(scores[t]) - value for t, value in zip(TISSUES, theirs, strict=True))
            said.append(f"{EXPERIMENTS[name].title} {', '.join(f'{a:+.1f}' for a in apart)} dB")
    return "; ".join(said)


def not_won(gains: Iterable[Gain]) -> Iterator[str]:
    """Say where ``best`` ties with a baseline or loses to it."""
    found: dict[str, dict[str, list[str]]] = {}
    for gain in gains:
        for tissue, test, p in zip(TISSUES, gain.tests, gain.adjusted_p, strict=True):
            sure = p is not None and p < _SIGNIFICANT
            if test.mean_difference > 0 and (sure or p is None):
                continue
            verdict = "loses to" if sure else "ties with"
            cell = f"{verdict} {title_of(gain.other)} in {tissue}"
            found.setdefault(gain.experiment, {}).setdefault(cell, []).append(gain.score)
    for name, cells in found.items():
        said = "; ".join(f"{cell} ({', '.join(scores)})" for cell, scores in cells.items())
        yield f"{EXPERIMENTS[name].title}: `best` {said}. The cause has not been looked for."
