"""All scores of one estimate."""

from torch import Tensor

from bmapest_ray.anatomy.maps import TissueMaps
from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.metrics.scores import SCORES, SSIM_MATRIX


def scorecard(estimate: Tensor, truth: TissueMaps) -> dict[str, dict[str, float]]:
    """Return ``{tissue: {score: value}}`` of an estimate of shape `(tissue, y, x)`.

    A score that is not defined for these maps is left out, see `undefined_scores`. Values may be
    infinite (`psnr_db` of a perfect map).

    Raises
    ------
    InvalidInput
        If the estimate has another shape than the truth or is not finite.
    """
    skipped = undefined_scores(truth)
    defined = [score for score in SCORES if score.name not in skipped]
    values = {score.name: score.function(estimate, truth).tolist() for score in defined}
    return {
        tissue: {name: float(per_tissue[index]) for name, per_tissue in values.items()}
        for index, tissue in enumerate(TISSUES)
    }


def undefined_scores(truth: TissueMaps) -> dict[str, str]:
    """Return the scores that true maps do not allow, with the reason."""
    reasons = {}
    if truth.matrix < SSIM_MATRIX:
        reasons["ssim"] = f"the matrix is smaller than its window of {SSIM_MATRIX} pixels"
    if truth.corner_labels is None:
        reasons["dice_paper"] = "the labels of the original volume are not known"
    if not bool(truth.head.any()):
        reasons["mae"] = "the slice holds no tissue"
    return reasons
