"""Scores of estimated tissue maps; each declares its direction and unit.

Every function takes the estimate, shape `(tissue, y, x)`, and the true maps, and returns one number
per tissue as float64, shape `(tissue,)`. The estimate is scored as it is, never clamped.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.base.errors import InvalidInput, require_choice

PAPER_BACKGROUND: Final = 0.35
"""Below this, in all tissues, the paper calls a pixel background."""

SSIM_MATRIX: Final = 11
"""Smallest matrix of a structural similarity: the width of its Gaussian window."""


@dataclass(frozen=True)
class Score:
    """A named number per tissue."""

    name: str
    function: Callable[[Tensor, TissueMaps], Tensor]
    higher_is_better: bool
    unit: str
    """``dB``, or ``1`` for a plain ratio."""


def psnr_db(estimate: Tensor, truth: TissueMaps) -> Tensor:
    """Peak signal-to-noise ratio -10 log10(MSE) over the whole slice, for a data range of 1.

    A perfect map has infinite PSNR.
    """
    e, t = _pair(estimate, truth)
    return -10 * torch.log10(((e - t) ** 2).mean((1, 2)))


def ssim(estimate: Tensor, truth: TissueMaps) -> Tensor:
    """Structural similarity by torchmetrics with its defaults and a data range of 1 [1]_.

    Raises
    ------
    InvalidInput
        If the matrix is smaller than the window.

    References
    ----------
    .. [1] Wang et al., IEEE Trans Image Process 2004;13:600.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    e, t = _pair(estimate, truth)
    if truth.matrix < SSIM_MATRIX:
        raise InvalidInput(
            f"structural similarity needs a matrix of at least {SSIM_MATRIX}, got {truth.matrix}"
        )
    value = structural_similarity_index_measure(
        e[:, None], t[:, None], data_range=1.0, reduction="none"
    )
    if not isinstance(value, Tensor):
        raise TypeError(f"torchmetrics gave {type(value).__name__} for one similarity per tissue")
    return value


def dice(estimate: Tensor, truth: TissueMaps) -> Tensor:
    """Dice overlap of labels, the argmax of (background = 1 - sum, GM, WM, CSF) of both maps.

    A tissue that neither map contains scores 1.
    """
    e, t = _pair(estimate, truth)
    return _overlap(_labels(e), _labels(t), len(e))


def dice_paper(estimate: Tensor, truth: TissueMaps) -> Tensor:
    """Dice overlap as the paper computes it, in which perfect maps score only 0.57 to 0.8.

    The prediction is the argmax of the three tissues, background where all are below 0.35; the
    truth is the label of the original voxel at the pixel's corner, half a pixel off its centre.

    Raises
    ------
    InvalidInput
        If the truth was not extracted from a volume and so has no corner labels.
    """
    e, _ = _pair(estimate, truth)
    if truth.corner_labels is None:
        raise InvalidInput(
            "dice_paper needs the labels of the original volume, the true maps have no "
            "corner_labels; extract them from a volume"
        )
    predicted = torch.where((e < PAPER_BACKGROUND).all(0), 0, e.argmax(0) + 1)
    return _overlap(predicted, truth.corner_labels.to(e.device), len(e))


def soft_dice(estimate: Tensor, truth: TissueMaps) -> Tensor:
    """Dice overlap of fractions without labels, 2 sum(pq) / (sum(p^2) + sum(q^2)).

    Within [-1, 1] for any estimate; a tissue that neither map contains scores 1.
    """
    e, t = _pair(estimate, truth)
    total = (e**2 + t**2).sum((1, 2))
    return torch.where(total > 0, 2 * (e * t).sum((1, 2)) / total, 1.0)


def mae(estimate: Tensor, truth: TissueMaps) -> Tensor:
    """Mean absolute error inside the head, where the true fractions sum to more than 0.

    Raises
    ------
    InvalidInput
        If the true maps hold no tissue.
    """
    e, t = _pair(estimate, truth)
    head = truth.head.to(e.device)
    if not bool(head.any()):
        raise InvalidInput("the error inside the head needs a head, the true maps hold no tissue")
    return (e - t).abs()[:, head].mean(1)


def volume_error(estimate: Tensor, truth: TissueMaps) -> Tensor:
    """Relative error of a tissue's area on the slice, |estimated - true| / true, lower is better.

    The sign is dropped so that errors of subjects do not cancel in a mean; a tissue that the truth
    does not contain scores 0 if the estimate has none either, else infinity.
    """
    e, t = _pair(estimate, truth)
    error, size = (e.sum((1, 2)) - t.sum((1, 2))).abs(), t.sum((1, 2))
    return torch.where(error > 0, error / size, 0.0)


def _pair(estimate: Tensor, truth: TissueMaps) -> tuple[Tensor, Tensor]:
    """Return both maps as float64 on the estimate's device, after checking the estimate."""
    if estimate.shape != truth.fraction.shape:
        raise InvalidInput(
            f"an estimate must have the shape of the true maps {tuple(truth.fraction.shape)}, got "
            f"{tuple(estimate.shape)}"
        )
    if estimate.is_complex() or not bool(torch.isfinite(estimate).all()):
        raise InvalidInput(
            "an estimate must be real and finite to be scored, got NaN, infinity or complex numbers"
        )
    e = estimate.detach().to(torch.float64)
    return e, truth.fraction.to(e)


def _labels(fraction: Tensor) -> Tensor:
    """Return labels 0 background, 1 GM, 2 WM, 3 CSF, shape `(y, x)`."""
    return torch.cat([1 - fraction.sum(0, keepdim=True), fraction]).argmax(0)


def _overlap(predicted: Tensor, true: Tensor, tissues: int) -> Tensor:
    label = torch.arange(1, tissues + 1, device=predicted.device)[:, None, None]
    p, t = (predicted == label).double(), (true == label).double()
    total = (p + t).sum((1, 2))
    return torch.where(total > 0, 2 * (p * t).sum((1, 2)) / total, 1.0)


SCORES: Final[tuple[Score, ...]] = (
    Score("psnr_db", psnr_db, higher_is_better=True, unit="dB"),
    Score("ssim", ssim, higher_is_better=True, unit="1"),
    Score("dice", dice, higher_is_better=True, unit="1"),
    Score("dice_paper", dice_paper, higher_is_better=True, unit="1"),
    Score("soft_dice", soft_dice, higher_is_better=True, unit="1"),
    Score("mae", mae, higher_is_better=False, unit="1"),
    Score("volume_error", volume_error, higher_is_better=False, unit="1"),
)
"""Every score, in the order of tables."""


def score_named(name: str) -> Score:
    """Return the score of that name.

    Raises
    ------
    InvalidInput
        If there is none; names the closest.
    """
    by_name = {score.name: score for score in SCORES}
    return by_name[require_choice("a score", name, by_name)]
