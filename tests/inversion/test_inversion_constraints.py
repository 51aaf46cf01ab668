"""Voxel-wise polytopes and the inner quadratic solver, against brute force and KKT conditions."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from synthetic import T1INV, T2PREP, SyntheticOperator, brain

from bmapest_ray.inversion.face_metric import face_metric
from bmapest_ray.inversion.gauss_newton import _give_up
from bmapest_ray.inversion.polytope import polytope
from bmapest_ray.inversion.progress import Progress
from bmapest_ray.inversion.quadratic import Limits, minimise_model
from bmapest_ray.inversion.result import Step


def _blocks(batch, matrix, seed=0, tissues=3):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(
        (batch, tissues, tissues + 1, matrix, matrix), generator=generator, dtype=torch.float64
    )
    return torch.einsum("btkyx,bukyx->btuyx", root, root)


@pytest.mark.parametrize(("name", "faces"), [("simplex", 15), ("box", 27), ("none", 1)])
def test_faces_are_complete_and_their_offsets_lie_on_them(name, faces):
    shape = polytope(name, 3)
    assert len(shape.bases) == faces
    for offset, basis in zip(shape.offsets, shape.bases, strict=True):
        np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)
        active = np.isclose(shape.normals @ offset, shape.bounds) & np.isclose(
            np.abs(shape.normals @ basis).sum(1), 0
        )
        assert active.sum() >= 3 - basis.shape[1]


@pytest.mark.parametrize("name", ["simplex", "box"])
def test_small_program_is_exact(name):
    generator = torch.Generator().manual_seed(1)
    blocks = _blocks(1, 5)
    metric = face_metric(name, blocks, floor=0.0)
    x = torch.rand((1, 3, 5, 5), generator=generator, dtype=torch.float64) / 3
    g = 4 * torch.randn((1, 3, 5, 5), generator=generator, dtype=torch.float64)
    step, _ = metric.minimise(x, g)
    limits = [{"type": "ineq", "fun": lambda q: 1 - q.sum()}] if name == "simplex" else []
    for row in range(5):
        for column in range(5):
            b = blocks[0, :, :, row, column].numpy()
            p, slope = x[0, :, row, column].numpy(), g[0, :, row, column].numpy()
            found = minimize(
                lambda q, p=p, b=b, slope=slope: slope @ (q - p) + 0.5 * (q - p) @ b @ (q - p),
                p, bounds=[(0, 1)] * 3, constraints=limits, method="SLSQP",
                options={"ftol": 1e-14, "maxiter": 500},
            )  # fmt: skip
            d = step[0, :, row, column].numpy()
            assert slope @ d + 0.5 * d @ b @ d <= found.fun + 1e-9
            np.testing.assert_allclose(p + d, found.x, atol=1e-5)


def test_capacity_scales_the_simplex():
    capacity = torch.linspace(0.1, 1.0, 16, dtype=torch.float64).reshape(1, 1, 4, 4)
    metric = face_metric("simplex", _blocks(1, 4), capacity)
    x = torch.zeros((1, 3, 4, 4), dtype=torch.float64)
    step, _ = metric.minimise(x, -100 * torch.ones_like(x))
    torch.testing.assert_close(step.sum(1, keepdim=True), capacity)


def test_tidy_removes_only_rounding():
    metric = face_metric("simplex", _blocks(1, 2))
    p = torch.tensor([0.5, 0.5 + 1e-7, -1e-7], dtype=torch.float64).reshape(1, 3, 1, 1)
    tidy = metric.tidy(p.expand(1, 3, 2, 2))
    assert float(tidy.min()) >= 0
    assert float(tidy.sum(1).max()) <= 1 + 1e-15
    torch.testing.assert_close(tidy[:, :, :1, :1], p, rtol=0, atol=1e-6)


def _model(matrix=8, seed=4, contrasts=T1INV + T2PREP):
    """A whitened complex problem in float64 whose unconstrained minimum is far outside."""
    operator = SyntheticOperator(contrasts, matrix, torch.complex128)
    generator = torch.Generator().manual_seed(seed)
    truth = brain(matrix).double()
    data = operator.forward(truth)
    noise = torch.randn((2, *data.shape), generator=generator, dtype=torch.float64)
    data = data + data.abs().max() / 15 * torch.complex(noise[0], noise[1])

    def product(d):
        return operator.adjoint(operator.forward(d))

    def gradient(p):
        return operator.adjoint(operator.forward(p) - data)

    return operator, product, gradient, truth


@pytest.mark.parametrize("name", ["simplex", "box"])
def test_inner_solver_meets_the_kkt_conditions(name):
    operator, product, gradient, truth = _model()
    metric = face_metric(name, operator.normal_blocks()[None], floor=0.0)
    x = torch.full_like(truth, 0.2)[None]
    limits = Limits(torch.tensor([1e-9], dtype=torch.float64), 500)
    model = minimise_model(x, gradient(x), product, metric, limits)
    p = metric.tidy(x + model.delta)
    g = gradient(p)[0] / operator.normal_blocks().diagonal().mean()
    torch.testing.assert_close(gradient(x + model.delta), model.gradient, rtol=1e-6, atol=1e-9)
    p = p[0]
    at_zero, at_one = p < 1e-7, p > 1 - 1e-7
    full = (p.sum(0) > 1 - 1e-7) & (name == "simplex")
    assert int(at_zero.sum()) > 20
    free = ~at_zero if name == "simplex" else ~(at_zero | at_one)
    multiplier = torch.where(full, -(g * free).sum(0) / free.sum(0).clamp_min(1), 0.0)
    assert bool((multiplier >= -1e-7).all())
    balanced = g + multiplier
    assert float(balanced[free].abs().max()) < 1e-7
    assert float(balanced[at_zero].min()) > -1e-7
    if name == "box":
        assert bool((g[at_one] < 1e-7).all())


def test_unconstrained_conjugate_gradients_match_a_dense_solve():
    operator, product, gradient, truth = _model(matrix=6)
    metric = face_metric("none", operator.normal_blocks()[None], floor=0.0)
    x = torch.zeros_like(truth)[None]
    columns = torch.eye(x.numel(), dtype=torch.float64).reshape(-1, *truth.shape)
    dense = product(columns).reshape(x.numel(), -1)
    exact = torch.linalg.solve(dense, -gradient(x).reshape(-1)).reshape(x.shape)
    limits = Limits(torch.tensor([1e-9], dtype=torch.float64), 200, face_reduction=0.0)
    model = minimise_model(x, gradient(x), product, metric, limits)
    torch.testing.assert_close(model.delta, exact, rtol=1e-6, atol=1e-7)
    assert model.products < 40


def test_model_never_rises_and_batch_items_are_independent():
    operator, product, gradient, truth = _model()
    metric = face_metric("simplex", operator.normal_blocks()[None], floor=0.0)
    x = torch.stack([torch.full_like(truth, 0.2), brain(8, 5).double()])
    g = gradient(x)
    values = []
    for products in (2, 4, 8, 16, 32):
        limits = Limits(torch.tensor([1e-6, 1e-6], dtype=torch.float64), products)
        values.append(minimise_model(x, g, product, metric, limits).decrease(g))
    assert bool((torch.stack(values).diff(dim=0) >= -1e-12).all())
    limits = Limits(torch.tensor([1e-8, 1e-2], dtype=torch.float64), 400)
    both = minimise_model(x, g, product, metric, limits)
    alone = minimise_model(x[1:], g[1:], product, metric, Limits(limits.forcing[1:], 400))
    torch.testing.assert_close(both.delta[1:], alone.delta, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("fallen", "status"), [(0.05, "CONVERGED"), (1.0, "DIVERGED")])
def test_a_start_close_to_the_end_is_no_divergence(fallen, status):
    """The objective hardly falls then; whether anything was gained shows in the gradient."""
    progress = Progress.start(torch.zeros(1, 3, 2, 2))
    sizes = (1e-4, 1e-4 * fallen)
    progress.history[0] = [Step(n, 2e6, projected_gradient=size) for n, size in enumerate(sizes)]
    _give_up(progress, 0)
    assert progress.status[0] == status
