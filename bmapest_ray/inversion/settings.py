"""Solver settings: frozen, hashable data that decide a result and enter its digest."""

from __future__ import annotations

from dataclasses import dataclass

from bmapest_ray.base.errors import InvalidInput, require_choice

FIRST_ORDER = ("adam", "adamw", "sgd", "lbfgs")
SOLVERS = ("gauss-newton", *FIRST_ORDER)
LOSSES = (
    "auto", "magnitude", "complex", "kspace-magnitude", "kspace-complex", "raw",
    "kspace-smoothed", "ssim", "rician",
)  # fmt: skip
SIGNS = ("none", "auto", "search")
SUPPORTS = ("auto", "all")
FFTS = ("orthonormal", "unnormalised")
WEIGHTINGS = ("auto", "whitened", "equal", "sequence-mean")


@dataclass(frozen=True)
class SolverSettings:
    """How to solve.

    Parameters
    ----------
    name
        One of `SOLVERS`.
    loss
        One of `LOSSES`; ``auto`` is ``complex`` for complex data, and for magnitudes ``rician``
        where the noise level is known and ``magnitude`` where it is not.
    weighting
        Weight of each channel: ``whitened`` by the noise level, ``equal`` (mean square error over
        all samples), ``sequence-mean`` (mean over a sequence's contrasts, summed over sequences,
        as in the paper); ``auto`` whitens where the noise level is known.
    fft
        ``unnormalised`` weighs the images as an FFT without norm scales them, by the number of
        pixels; all that it changes is how large gradients are beside Adam's epsilon.
    contrast_weights
        Extra factors on the squared weight of named contrasts, e.g. ``(("dir[0]", 0.5),)``.
    max_iterations
        Outer iterations; None is 40 for Gauss-Newton and 501 for first-order methods.
    inner_iterations
        Most operator pairs inside one Gauss-Newton iteration.
    gradient_tolerance
        Stop when a projected gradient step (Gauss-Newton) or the last update (first order) would
        move the unknowns by less than this (root mean square, in units of a fraction).
    decrease_tolerance
        Stop when the relative decrease of the objective stays below this for 3 iterations
        (Gauss-Newton) or over 50 (first order).
    noise_tolerance
        With a known noise level, stop when the model promises a further shift of less than this
        many posterior standard deviations per fraction (root mean square).
    damping
        Levenberg damping to start from, relative to the diagonal blocks.
    signs
        ``auto`` starts inversion-recovery magnitudes from known signs where that is valid, and
        refines noise-free fits by a two-way sign search; ``search`` refines noisy ones too;
        ``none`` does neither.
    support
        ``auto`` holds voxels at zero whose images are nothing but noise, where the noise level
        is known and the constraints keep fractions non-negative; ``all`` leaves every voxel free.
    learning_rate, momentum, weight_decay, gradient_noise, alternate
        First-order methods: step size, momentum (SGD), decoupled decay (AdamW), standard
        deviation of noise added to the gradient relative to its rms, and whether each iteration
        updates one tissue in turn.
    clamp_result
        Clip the final maps to [0, 1], as the paper does before scoring; what is then scored is
        not what was simulated, and the message says so.
    seed
        Of the gradient noise.
    """

    name: str = "gauss-newton"
    loss: str = "auto"
    weighting: str = "auto"
    fft: str = "orthonormal"
    contrast_weights: tuple[tuple[str, float], ...] = ()
    max_iterations: int | None = None
    inner_iterations: int = 10
    gradient_tolerance: float = 1e-6
    decrease_tolerance: float = 1e-9
    noise_tolerance: float = 3e-2
    damping: float = 0.0
    signs: str = "auto"
    support: str = "auto"
    learning_rate: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    gradient_noise: float = 0.0
    alternate: bool = False
    clamp_result: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        require_choice("solver name", self.name, SOLVERS)
        require_choice("solver loss", self.loss, LOSSES)
        require_choice("solver weighting", self.weighting, WEIGHTINGS)
        require_choice("solver fft", self.fft, FFTS)
        require_choice("solver signs", self.signs, SIGNS)
        require_choice("solver support", self.support, SUPPORTS)
        for field in ("max_iterations", "inner_iterations"):
            self._at_least(field, 1)
        for field in ("gradient_tolerance", "decrease_tolerance", "noise_tolerance", "damping",
                      "momentum", "weight_decay", "gradient_noise"):  # fmt: skip
            self._at_least(field, 0)
        if not self.learning_rate > 0:
            msg = f"learning_rate must be above 0, got {self.learning_rate}; try 0.01"
            raise InvalidInput(msg)

    def _at_least(self, field: str, bound: float) -> None:
        value = getattr(self, field)
        if value is not None and not value >= bound:
            msg = f"{field} must be at least {bound}, got {value}; raise it"
            raise InvalidInput(msg)

    @property
    def iterations_limit(self) -> int:
        """Largest number of outer iterations."""
        if self.max_iterations is not None:
            return self.max_iterations
        return 501 if self.first_order else 40

    @property
    def first_order(self) -> bool:
        """Whether the method uses gradients only."""
        return self.name in FIRST_ORDER


PAPER_SOLVER = SolverSettings(
    name="adam",
    loss="magnitude",
    weighting="sequence-mean",
    fft="unnormalised",
    learning_rate=0.01,
    max_iterations=501,
    signs="none",
    support="all",
    gradient_tolerance=0.0,
    decrease_tolerance=0.0,
    noise_tolerance=0.0,
    clamp_result=True,
)
"""The paper's fit: Adam, learning rate 0.01, 501 steps, magnitude-image mean square error."""
