"""Fitting a scan: the posterior in closed form, gradients, recovery of what was put in."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scan_phantom import blurred_cohort, head_fractions, made_up_response, prior_of, scan_of

from bmapest_ray.scan.components import simplex_components
from bmapest_ray.scan.estimate import ScanFit, fit_scan, make_head
from bmapest_ray.scan.estimation import Task
from bmapest_ray.scan.nuisances import Layout, SignalModel
from bmapest_ray.scan.posterior import Observed, posterior
from bmapest_ray.scan.settings import ScanSettings
from bmapest_ray.scan.verdict import misfit, nuisance_lines
from bmapest_ray.scan.voxels import NoiseLevel, Voxels
from bmapest_ray.scan.workplace import Workplace

SETTINGS = ScanSettings(sample=1000, block=3000, sweeps=1)
QUIET = 40.0
TILT = 0.13


def silent(*_: object) -> None:
    """Take no notice."""


def observed(intensity: torch.Tensor, variance: float, parts: object) -> Observed:
    count = len(parts.points)  # type: ignore[attr-defined]
    return Observed(
        intensity,
        torch.full_like(intensity, variance),
        torch.zeros(len(intensity), count),
        torch.full((len(intensity),), -QUIET),
    )


def test_components_lie_in_the_simplex_and_their_spreads_in_their_faces() -> None:
    parts = simplex_components()
    assert float(parts.shares.sum()) == pytest.approx(1)
    assert float(parts.points.min()) >= 0
    assert float(parts.points.sum(1).max()) <= 1 + 1e-6
    for face, basis in zip(parts.faces, parts.bases, strict=True):
        away = parts.points[face] - parts.points[face][0]
        projector = basis @ torch.linalg.pinv(basis) if basis.numel() else torch.eye(3)
        assert torch.allclose(away @ projector, away, atol=1e-5)


@pytest.mark.parametrize("contrasts", [1, 2, 3])
def test_the_posterior_is_that_of_brute_force(contrasts: int) -> None:
    parts = simplex_components()
    generator = torch.Generator().manual_seed(3)
    signal = torch.rand(4, contrasts, 3, generator=generator) * 2 - 0.5
    intensity = torch.rand(4, contrasts, generator=generator)
    found = posterior(observed(intensity, 0.04, parts), signal, parts)
    total, moment, square = torch.zeros(4), torch.zeros(4, 3), torch.zeros(4, 3, 3)
    for face, basis in zip(parts.faces, parts.bases, strict=True):
        nodes, weights = np.polynomial.hermite_e.hermegauss(24)
        axes = torch.tensor(nodes).float(), torch.tensor(weights / np.sqrt(2 * np.pi)).float()
        latent, mass = torch.zeros(1, 0), torch.ones(1)
        for _ in range(basis.shape[1]):
            rows = [latent.repeat_interleave(24, 0), axes[0].repeat(len(latent))[:, None]]
            latent, mass = torch.cat(rows, 1), (mass[:, None] * axes[1]).flatten()
        for point, share in zip(parts.points[face], parts.shares[face], strict=True):
            where = point + latent @ basis.T
            sign = torch.where(signal @ point < 0, -1.0, 1.0)
            miss = sign[:, None] * intensity[:, None] - where @ signal.transpose(1, 2)
            log = (-0.5 * miss.square() / 0.04 - 0.5 * np.log(0.04)).sum(2)
            weight = share * mass * log.exp()
            total += weight.sum(1)
            moment += weight @ where
            square += torch.einsum("vz,zt,zu->vtu", weight, where, where)
    assert torch.allclose(found.log_evidence, total.log(), atol=2e-3)
    assert torch.allclose(found.mean, moment / total[:, None], atol=2e-3)
    assert torch.allclose(found.second, square / total[:, None, None], atol=2e-3)


def made_task(contrasts: int, voxels: int = 60) -> tuple[Task, torch.Tensor, NoiseLevel]:
    parts = simplex_components()
    model = SignalModel(made_up_response(contrasts), Layout(contrasts, 3))
    generator = torch.Generator().manual_seed(1)
    where = torch.rand(voxels, 3, generator=generator) * 2 - 1
    truth = torch.randn(model.layout.total, generator=generator).double() * 0.03
    fraction = torch.rand(voxels, 3, generator=generator)
    fraction /= fraction.sum(1, keepdim=True)
    value = model.signals(truth, where, torch.ones(voxels)).value
    intensity = (value @ fraction[:, :, None])[:, :, 0].abs()
    prior = torch.zeros(voxels, len(parts.points))
    data = Voxels(intensity, where, torch.ones(voxels), prior, torch.full((voxels,), -QUIET))
    spread = model.layout.spreads()
    level = NoiseLevel(torch.full((contrasts,), 0.05), torch.zeros(contrasts))
    return Task(data, model, parts, torch.zeros_like(spread), spread), truth, level


@pytest.mark.parametrize("contrasts", [1, 2])
def test_the_score_is_the_slope_of_the_evidence(contrasts: int) -> None:
    task, vector, level = made_task(contrasts)
    score = task.gather(vector, level).score
    generator = torch.Generator().manual_seed(5)
    for _ in range(3):
        direction = torch.randn(len(vector), generator=generator).double()
        step = 2e-3
        ends = [task.gather(vector + s * direction, level).log_evidence for s in (step, -step)]
        slope = (ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx(float(score @ direction), rel=0.02, abs=0.05)


def fitted(folder: Path, scale: float = 700.0, tilt: float = TILT, **changes: object) -> ScanFit:
    """Fit two images of the made-up head with a bias, tissue values off, and noise."""
    fraction = head_fractions()
    mask = fraction.sum(0) > 0.5
    response = made_up_response()
    model = SignalModel(response, Layout(2, 3))
    vector = torch.zeros(model.layout.total, dtype=torch.float64)
    places = model.layout.places()
    vector[places["scale"]] = torch.tensor([scale, 3 * scale]).double().log()
    vector[places["bias"]][:3] = tilt
    vector[places["t1"]] = 0.05
    z, y, x = np.nonzero(mask)
    place = torch.from_numpy(np.stack([x, y, z], 1)).float()
    where = 2 * (place - place.amin(0)) / (place.amax(0) - place.amin(0)) - 1
    value = model.signals(vector, where, torch.ones(len(where))).value
    shown = (value @ torch.from_numpy(fraction[:, mask].T.copy())[:, :, None])[:, :, 0].abs()
    images = np.zeros((2, *mask.shape), dtype=np.float32)
    noise = np.random.default_rng(0).standard_normal((2, 2, *mask.shape))
    images[:, mask] = shown.T.numpy()
    sigma = images.max(axis=(1, 2, 3), keepdims=True) / 60
    images = np.hypot(images + sigma * noise[0], sigma * noise[1]).astype(np.float32)
    scan = scan_of(images)
    head, level = make_head(scan, mask, prior_of(fraction, mask))
    level = replace(level, noise=torch.from_numpy(sigma).flatten())
    settings = replace(SETTINGS, **changes)  # type: ignore[arg-type]
    return fit_scan(scan, head, level, response, settings, Workplace(folder, "k" * 20), silent)


@pytest.fixture(scope="module")
def good_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def good_fit(good_work: Path) -> ScanFit:
    return fitted(good_work)


def test_maps_are_recovered_better_than_without_nuisances(
    good_fit: ScanFit, tmp_path: Path
) -> None:
    truth, mask = head_fractions(), good_fit.mask
    ignorant = fitted(tmp_path, fixed=("bias", "t1", "t2", "pd", "offset", "b1"))
    error, worse = (np.abs(f.fraction - truth)[:, mask].mean() for f in (good_fit, ignorant))
    assert error < 0.02
    assert error < 0.6 * worse


def test_nuisances_lie_within_their_intervals(good_fit: ScanFit) -> None:
    lines = {line.name: line for line in nuisance_lines(good_fit)}
    for name in ("GM", "WM"):
        line = lines[f"t1 {name}"]
        assert abs(line.value - 0.05) < 3 * line.spread < 3 * line.prior_spread
    split = good_fit.model.layout.split
    bias, spread = (
        split(v)["bias"][0, :3] for v in (good_fit.nuisances.vector, good_fit.nuisances.spread)
    )
    assert bool(((bias - TILT).abs() < 3 * spread + 0.01).all())
    assert misfit(good_fit) == []


def test_volumes_lie_within_their_intervals(good_fit: ScanFit) -> None:
    truth = head_fractions().sum((1, 2, 3)) * good_fit.scan.voxel_ml
    assert bool(
        (np.abs(good_fit.volume_ml - truth) < 3 * good_fit.volume_sd_ml + 0.01 * truth).all()
    )
    assert bool((good_fit.volume_sd_ml < 0.2 * truth).all())


def test_a_scan_goes_on_from_what_is_there(
    good_fit: ScanFit, good_work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = sorted(good_work.rglob("sweep-1-block-1.npz"))
    assert len(blocks) == 1
    blocks[0].unlink()
    monkeypatch.setattr("bmapest_ray.scan.estimate.fit_nuisances", None)  # must not be called
    again = fitted(good_work)
    assert np.array_equal(good_fit.fraction, again.fraction)
    assert np.array_equal(good_fit.volume_sd_ml, again.volume_sd_ml)


def test_images_of_another_contrast_are_flagged(tmp_path: Path) -> None:
    fraction = head_fractions()
    mask = fraction.sum(0) > 0.5
    inverted = np.einsum("t,tzyx->zyx", [500.0, 300.0, 1500.0], fraction)[None]
    scan = scan_of(inverted + np.random.default_rng(0).normal(0, 5, inverted.shape) ** 2)
    head, level = make_head(scan, mask, prior_of(fraction, mask))
    place = Workplace(tmp_path, "k" * 20)
    fit = fit_scan(scan, head, level, made_up_response(1), SETTINGS, place, silent)
    assert any(sentence.startswith("MISFIT") for sentence in misfit(fit))


def test_a_cohort_covers_the_phantom() -> None:
    cohort = blurred_cohort(head_fractions())
    assert cohort.mean.shape[1:] == head_fractions().shape[1:]
