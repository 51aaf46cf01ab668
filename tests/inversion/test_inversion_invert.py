"""`invert`: recovers truth from afar, respects constraints, says how it ended, resumes exactly."""

import itertools

import pytest
import torch
from synthetic import T1INV, T2PREP, SyntheticOperator, brain, cohort_mean, psnr

from bmapest_ray.base.errors import InvalidInput, SolveError
from bmapest_ray.inversion.checkpoint import Checkpoint
from bmapest_ray.inversion.result import Status
from bmapest_ray.inversion.settings import PAPER_SOLVER, SolverSettings
from bmapest_ray.inversion.solve import BatchMeasurement, invert, invert_batch

MATRIX = 24
GN = SolverSettings(signs="none")


def noisy(images, snr, seed=0):
    sigma = float(images.abs().max()) / snr
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn((2, *images.shape), generator=generator)
    return images + sigma * torch.complex(noise[0], noise[1]), torch.full(
        (images.shape[-3],), sigma
    )


@pytest.fixture(scope="module")
def operator():
    return SyntheticOperator(T1INV + T2PREP, MATRIX)


@pytest.fixture(scope="module")
def start():
    return cohort_mean(MATRIX)


@pytest.mark.parametrize("signal", ["complex", "magnitude"])
def test_noise_free_data_give_back_the_truth_in_float32(operator, start, signal):
    truth = brain(MATRIX)
    images = operator.forward(truth)
    images = images if signal == "complex" else images.abs()
    result = invert(BatchMeasurement(images, signal), operator, solver=GN, start=start)
    assert result.converged, result.message
    assert min(psnr(result.maps, truth)) > (95 if signal == "complex" else 80)
    assert result.products <= 60
    assert float(result.maps.min()) >= 0
    assert float(result.maps.sum(0).max()) <= 1 + 1e-6


def test_magnitudes_with_noise_end_at_the_noise_floor(operator, start):
    truth = brain(MATRIX)
    images, sigma = noisy(operator.forward(truth), 100)
    result = invert(
        BatchMeasurement(images.abs(), "magnitude", sigma), operator, solver=GN, start=start
    )
    assert result.converged
    assert "noise floor" in result.message
    exact = SolverSettings(signs="none", noise_tolerance=0.0, max_iterations=200)
    further = invert(
        BatchMeasurement(images.abs(), "magnitude", sigma),
        operator,
        solver=exact,
        start=result.maps,
    )
    assert result.objective - further.objective < 1e-3 * result.maps.numel()
    assert psnr(result.maps, truth)[0] > 28


@pytest.mark.parametrize("signal", ["complex", "magnitude"])
@pytest.mark.parametrize("constraints", ["simplex", "box"])
def test_solution_meets_the_kkt_conditions(signal, constraints):
    operator = SyntheticOperator(T1INV + T2PREP, 12, torch.complex128)
    images, sigma = noisy(operator.forward(brain(12).double()), 30)
    data = images if signal == "complex" else images.abs()
    settings = SolverSettings(
        loss=signal, signs="none", support="all", noise_tolerance=0.0, gradient_tolerance=1e-10,
        decrease_tolerance=0.0, inner_iterations=200, max_iterations=200,
    )  # fmt: skip
    result = invert(
        BatchMeasurement(data, signal, sigma.double()), operator, solver=settings,
        start=cohort_mean(12).double(), constraints=constraints,
    )  # fmt: skip
    assert result.converged, result.message
    p = result.maps
    s = operator.forward(p)
    residual = s - data if signal == "complex" else (1 - data / s.abs()) * s
    g = operator.adjoint(residual) / operator.normal_blocks().diagonal().mean()
    zero, one = p < 1e-8, p > 1 - 1e-8
    full = (p.sum(0) > 1 - 1e-8) & (constraints == "simplex")
    free = ~zero if constraints == "simplex" else ~(zero | one)
    assert 10 < int(zero.sum()) < p.numel()
    multiplier = torch.where(full, -(g * free).sum(0) / free.sum(0).clamp_min(1), 0.0)
    assert float(multiplier.min()) > -1e-6
    assert float((g + multiplier)[free].abs().max()) < 1e-6
    assert float((g + multiplier)[zero].min()) > -1e-6


def test_objective_falls_in_every_iteration(operator, start):
    images, sigma = noisy(operator.forward(brain(MATRIX)), 50)
    result = invert(
        BatchMeasurement(images.abs(), "magnitude", sigma), operator, solver=GN, start=start
    )
    objectives = [step.objective for step in result.history]
    assert all(b <= a * (1 + 1e-6) for a, b in itertools.pairwise(objectives))
    assert [step.iteration for step in result.history] == list(range(len(objectives)))


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "lbfgs"])
def test_first_order_methods_lower_the_objective(operator, start, name):
    images = operator.forward(brain(MATRIX)).abs()
    rate = 2e4 if name == "sgd" else 0.01
    settings = SolverSettings(name, max_iterations=40, learning_rate=rate, signs="none")
    result = invert(BatchMeasurement(images, "magnitude"), operator, solver=settings, start=start)
    assert result.status is Status.MAX_ITERATIONS
    assert "40" in result.message
    assert result.objective < (0.05 if name == "lbfgs" else 0.5) * result.history[0].objective


def test_paper_configuration_clamps_only_the_result(operator, start):
    images = operator.forward(brain(MATRIX)).abs()
    settings = SolverSettings(**{**vars(PAPER_SOLVER), "max_iterations": 30})
    result = invert(BatchMeasurement(images, "magnitude"), operator, solver=settings, start=start)
    free = SolverSettings(**{**vars(settings), "clamp_result": False})
    unclamped = invert(BatchMeasurement(images, "magnitude"), operator, solver=free, start=start)
    assert float(unclamped.maps.min()) < 0
    assert torch.equal(result.maps, unclamped.maps.clamp(0, 1))
    assert "clamped" in result.message


def test_first_order_constraints_alternation_and_noise(operator, start):
    images = operator.forward(brain(MATRIX)).abs()
    measurement = BatchMeasurement(images, "magnitude")
    settings = SolverSettings("adam", max_iterations=1, alternate=True)
    result = invert(measurement, operator, solver=settings, start=start)
    moved = (result.maps - start).abs().flatten(1).amax(1) > 1e-4
    assert moved.tolist() == [True, False, False]
    result = invert(measurement, operator, solver=settings, start=start, constraints="simplex")
    assert float(result.maps.min()) >= 0
    noise = [
        invert(measurement, operator, start=start,
               solver=SolverSettings("adam", max_iterations=3, gradient_noise=0.5, seed=seed))
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert torch.equal(noise[0].maps, noise[1].maps)
    assert not torch.equal(noise[0].maps, noise[2].maps)


def test_batch_equals_single_solves(operator, start):
    truths = torch.stack([brain(MATRIX, seed) for seed in range(3)])
    images, sigma = noisy(operator.forward(truths), 60)
    together = invert_batch(
        BatchMeasurement(images.abs(), "magnitude", sigma), operator, solver=GN, start=start
    )
    for item, result in enumerate(together):
        alone = invert(
            BatchMeasurement(images[item].abs(), "magnitude", sigma),
            operator,
            solver=GN,
            start=start,
        )
        assert alone.iterations == result.iterations
        torch.testing.assert_close(alone.maps, result.maps, rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", ["gauss-newton", "adam", "adamw", "sgd", "lbfgs"])
def test_resume_is_bit_identical(operator, start, tmp_path, name):
    images, sigma = noisy(operator.forward(torch.stack([brain(MATRIX), brain(MATRIX, 1)])), 100)
    measurement = BatchMeasurement(images.abs(), "magnitude", sigma)
    settings = SolverSettings(
        name, max_iterations=6, signs="none", gradient_noise=0.1, momentum=0.5, learning_rate=1e-7
        if name == "sgd" else 0.01,
    )  # fmt: skip
    whole = invert_batch(measurement, operator, solver=settings, start=start)

    class Killed(Exception):  # noqa: N818
        pass

    def kill(snapshot):
        if snapshot.step.iteration == 3:
            raise Killed

    checkpoint = Checkpoint(tmp_path / "deep" / "state.pt")
    with pytest.raises(Killed):
        invert_batch(
            measurement,
            operator,
            solver=settings,
            start=start,
            callback=kill,
            checkpoint=checkpoint,
        )
    seen = []
    resumed = invert_batch(
        measurement, operator, solver=settings, start=start, checkpoint=checkpoint,
        callback=lambda snapshot: seen.append(snapshot.step.iteration),
    )  # fmt: skip
    assert min(seen) == 3
    for a, b in zip(whole, resumed, strict=True):
        assert torch.equal(a.maps, b.maps)
        assert [s.objective for s in a.history] == [s.objective for s in b.history]


def test_checkpoint_of_another_problem_is_refused(operator, start, tmp_path):
    images = operator.forward(brain(MATRIX))
    checkpoint = Checkpoint(tmp_path / "state.pt")
    quick = SolverSettings(max_iterations=1)
    invert(
        BatchMeasurement(images, "complex"),
        operator,
        solver=quick,
        start=start,
        checkpoint=checkpoint,
    )
    with pytest.raises(SolveError, match="same data"):
        invert(
            BatchMeasurement(2 * images, "complex"),
            operator,
            solver=quick,
            start=start,
            checkpoint=checkpoint,
        )
    checkpoint.path.write_bytes(b"broken")
    with pytest.raises(SolveError, match="cannot be read"):
        invert(
            BatchMeasurement(images, "complex"),
            operator,
            solver=quick,
            start=start,
            checkpoint=checkpoint,
        )


@pytest.mark.parametrize("name", ["gauss-newton", "adam"])
def test_callback_stops_and_sees_the_maps_of_its_step(operator, start, name):
    images = operator.forward(brain(MATRIX))
    seen = {}

    def stop(snapshot):
        seen[snapshot.step.iteration] = snapshot.maps()
        return snapshot.step.iteration < 1

    result = invert(
        BatchMeasurement(images, "complex"),
        operator,
        solver=SolverSettings(name),
        start=start,
        callback=stop,
    )
    assert result.status is Status.STOPPED
    assert torch.equal(seen[0], start) or name == "gauss-newton"
    assert torch.equal(result.maps, seen[1])
    assert len(result.history) == 2


def test_hopeless_data_end_with_a_status_and_a_sentence(operator, start):
    images = operator.forward(brain(MATRIX))
    broken = images.clone()
    broken[0, 0, 0] = torch.nan
    results = invert_batch(
        BatchMeasurement(torch.stack([broken, torch.zeros_like(images), images]), "complex"),
        operator, solver=GN, start=start,
    )  # fmt: skip
    assert [r.status for r in results] == [Status.INVALID, Status.INVALID, Status.CONVERGED]
    assert "NaN" in results[0].message
    assert "zero" in results[1].message
    torch.testing.assert_close(results[0].maps, start, rtol=0, atol=1e-6)
    assert min(psnr(results[2].maps, brain(MATRIX))) > 90


def test_fewer_contrasts_than_unknowns_is_said_and_the_prior_offered(start):
    operator = SyntheticOperator(T1INV[:1], MATRIX)
    images = operator.forward(brain(MATRIX)).abs()
    result = invert(BatchMeasurement(images, "magnitude"), operator, solver=GN, start=start)
    assert result.status is Status.UNDERDETERMINED
    assert "1 contrast(s) stand against 3 unknown" in result.message
    assert "prior" in result.message
    assert result.objective < 1e-3 * result.history[0].objective


def test_diverging_first_order_solver_says_so(operator, start):
    images = operator.forward(brain(MATRIX)).abs()
    settings = SolverSettings("sgd", learning_rate=1e9, signs="none")
    result = invert(BatchMeasurement(images, "magnitude"), operator, solver=settings, start=start)
    assert result.status is Status.DIVERGED
    assert bool(torch.isfinite(result.maps).all())


def test_gauss_newton_with_a_wrong_gradient_never_claims_convergence(start):
    class Wrong(SyntheticOperator):
        def vjp(self, p, s):
            return -super().vjp(p, s)

    operator = Wrong(T1INV + T2PREP, MATRIX)
    images = SyntheticOperator(T1INV + T2PREP, MATRIX).forward(brain(MATRIX))
    settings = SolverSettings(signs="none", max_iterations=8)
    result = invert(BatchMeasurement(images, "complex"), operator, solver=settings, start=start)
    assert not result.converged
    torch.testing.assert_close(result.maps, start, rtol=0, atol=1e-3)


def _zeros(*lead):
    return torch.zeros((*lead, MATRIX, MATRIX))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"constraints": "ball"}, "simplex"),
        ({"start": torch.full((3, MATRIX, MATRIX), torch.nan)}, "finite"),
        ({"start": torch.zeros((3, 8, 8))}, "one matrix"),
        ({"solver": SolverSettings(loss="ssim")}, "linearisation"),
        ({"measurement": BatchMeasurement(_zeros(3), "magnitude")}, "8 channels"),
        ({"measurement": BatchMeasurement(_zeros(8), "magnitude", torch.zeros(8))}, "sigma"),
        ({"measurement": BatchMeasurement(_zeros(1, 8), "magnitude")}, "invert_batch"),
    ],
)  # fmt: skip
def test_wrong_calls_are_refused_in_one_sentence(operator, start, change, match):
    arguments = {
        "measurement": BatchMeasurement(operator.forward(brain(MATRIX)).abs(), "magnitude"),
        "solver": GN, "start": start, **change,
    }  # fmt: skip
    with pytest.raises(InvalidInput, match=match):
        invert(arguments.pop("measurement"), operator, **arguments)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "newton"},
        {"loss": "l3"},
        {"max_iterations": 0},
        {"learning_rate": 0.0},
        {"damping": -1.0},
    ],
)
def test_settings_are_checked(wrong):
    with pytest.raises(InvalidInput):
        SolverSettings(**wrong)


def test_settings_are_hashable_and_every_status_has_a_sentence():
    assert len({SolverSettings(), SolverSettings(), PAPER_SOLVER}) == 2
    assert all(status.sentence.endswith(".") for status in Status)
