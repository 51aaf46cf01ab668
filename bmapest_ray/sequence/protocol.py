"""Contrasts, chains and protocols: frozen, hashable, digestible data."""

import math
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cached_property

from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import InvalidInput, require_choice
from bmapest_ray.sequence.catalogue import sequence_named
from bmapest_ray.sequence.parameters import Value, keywords_of, resolve
from bmapest_ray.sequence.scanner import PAPER_SCANNER, Scanner
from bmapest_ray.sequence.score import Score

MAX_PAUSE_S = 600.0


@dataclass(frozen=True)
class StateAccuracy:
    """How finely the phase distribution graph of a protocol is followed (MR-zero's thresholds).

    Parameters
    ----------
    max_state_count
        Most states kept per repetition.
    min_state_mag
        States weaker than this are dropped when the graph is built; with 1e-3 and a mean tissue
        whole k-space lines vanish.
    min_latent_signal, min_emitted_signal
        Relative thresholds below which states are not propagated or not measured.
    probes
        ``tissues``: a state stays if it matters for any tissue. ``mean``: for the mean tissue of a
        head alone, as in MR-zero's default pre-pass, which loses lines where the mean crosses zero.
        ``mean-of-maps``: for the mean of the maps that are simulated, so that the graph follows a
        fit, as in BMapEst.
    """

    max_state_count: int = 5000
    min_state_mag: float = 5e-5
    min_latent_signal: float = 5e-5
    min_emitted_signal: float = 5e-4
    probes: str = "tissues"

    def __post_init__(self) -> None:
        """Settle the types, which are content, and refuse thresholds out of range."""
        object.__setattr__(self, "max_state_count", int(self.max_state_count))
        require_choice("probes", self.probes, ("tissues", "mean", "mean-of-maps"))
        for key in ("min_state_mag", "min_latent_signal", "min_emitted_signal"):
            object.__setattr__(self, key, float(getattr(self, key)))
        if self.max_state_count < 1:
            raise InvalidInput(
                f"max_state_count must be at least 1, got {self.max_state_count}; raise it"
            )
        for key in ("min_state_mag", "min_latent_signal", "min_emitted_signal"):
            if not 0 <= getattr(self, key) < 1:
                raise InvalidInput(
                    f"{key} must be in [0, 1), got {getattr(self, key)}; 1e-4 is the default"
                )

    @property
    def is_for_mean(self) -> bool:
        """Whether states are chosen for a mean tissue alone."""
        return self.probes != "tissues"

    @property
    def follows_maps(self) -> bool:
        """Whether that is the mean of the maps which are simulated."""
        return self.probes == "mean-of-maps"


@dataclass(frozen=True)
class Contrast:
    """One sequence with its parameters and the pause after it.

    `parameters` are completed with the defaults of the sequence and sorted, so that equal content
    is equal data.
    """

    name: str
    sequence: str
    parameters: tuple[tuple[str, Value], ...] = ()
    pause_s: float = 0.0

    def __post_init__(self) -> None:
        """Complete and check the parameters."""
        resolved = resolve(sequence_named(self.sequence), self.parameters)
        object.__setattr__(self, "parameters", resolved)
        object.__setattr__(self, "pause_s", float(self.pause_s))
        if not self.name or not 0 <= self.pause_s <= MAX_PAUSE_S:
            raise InvalidInput(
                f"a contrast needs a name and a pause_s in 0..{MAX_PAUSE_S:g} s, got "
                f"'{self.name}' with {self.pause_s} s; correct it"
            )

    def play(self, score: Score) -> None:
        """Write the sequence into a score, without the pause."""
        function = sequence_named(self.sequence)
        function(score, **keywords_of(function, self.parameters))

    def with_parameters(self, **values: Value) -> "Contrast":
        """Return the contrast with some parameters replaced."""
        return replace(self, parameters=tuple({**dict(self.parameters), **values}.items()))


@dataclass(frozen=True)
class Chain:
    """Contrasts played one after the other from equilibrium, magnetisation carried over.

    `dummy_cycles` plays the whole chain so many times without receiving before it counts, to come
    close to a steady state.
    """

    contrasts: tuple[Contrast, ...]
    dummy_cycles: int = 0

    def __post_init__(self) -> None:
        """Refuse an empty chain."""
        if not self.contrasts:
            raise InvalidInput("a chain must hold at least one contrast, got none; name one")
        if not 0 <= self.dummy_cycles <= 100:
            raise InvalidInput(f"dummy_cycles must be in 0..100, got {self.dummy_cycles}; lower it")

    def digest(self, scanner: Scanner, accuracy: StateAccuracy) -> str:
        """Return the content digest: contrasts (with names), dummy cycles, scanner, accuracy."""
        return digest({"chain": self, "scanner": scanner, "accuracy": accuracy})

    def write(self, matrix: int, fov_m: float, scanner: Scanner) -> Score:
        """Write the chain as a score: all times, pulses and readouts, without pypulseq.

        Raises
        ------
        InvalidInput
            If a limit of the scanner or a requested time cannot be kept, or nothing is received.
        """
        score = Score(matrix, fov_m, scanner)
        for cycle in range(self.dummy_cycles + 1):
            score.recording = cycle == self.dummy_cycles
            for contrast in self.contrasts:
                score.begin(contrast.name)
                contrast.play(score)
                score.wait(contrast.pause_s)
        if not score.readouts:
            raise InvalidInput("a chain must receive at least one line, got none; add a readout")
        return score


@dataclass(frozen=True)
class Protocol:
    """Chains, the scanner that plays them and how finely they are simulated.

    `continuous` protocols are one chain: what a scanner does that never waits for equilibrium.
    """

    name: str = field(metadata={"digest": False})
    chains: tuple[Chain, ...]
    scanner: Scanner = PAPER_SCANNER
    accuracy: StateAccuracy = StateAccuracy()
    continuous: bool = False

    def __post_init__(self) -> None:
        """Join the chains of a continuous protocol; refuse two contrasts of one name."""
        if not self.chains:
            raise InvalidInput("a protocol must hold at least one chain, got none; name a contrast")
        repeated = [n for n, count in Counter(c.name for c in self.contrasts).items() if count > 1]
        if repeated:
            raise InvalidInput(
                f"contrast names must be unique in a protocol, got '{repeated[0]}' more than once; "
                "leave one out or rename it"
            )
        if self.continuous and len(self.chains) > 1:
            cycles = max(chain.dummy_cycles for chain in self.chains)
            object.__setattr__(self, "chains", (Chain(self.contrasts, cycles),))

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """All contrasts in the order they are played."""
        return tuple(contrast for chain in self.chains for contrast in chain.contrasts)

    @cached_property
    def digest(self) -> str:
        """Content digest; the display name is not part of it."""
        return digest(self)

    @property
    def chain_digests(self) -> tuple[str, ...]:
        """Digest of each chain with this protocol's scanner and accuracy."""
        return tuple(chain.digest(self.scanner, self.accuracy) for chain in self.chains)

    def scan_time_s(self, matrix: int, fov_m: float) -> float:
        """Return the time on the scanner, every pause and dummy cycle included."""
        return sum(chain.write(matrix, fov_m, self.scanner).time_s for chain in self.chains)

    def rf_energy_t2_s(self, matrix: int, fov_m: float) -> float:
        """Return the integral of |B1|^2 over all pulses [T^2 s], to which SAR is proportional."""
        scores = (chain.write(matrix, fov_m, self.scanner) for chain in self.chains)
        return sum(score.rf_energy_t2_s for score in scores)

    def b1_rms_t(self, matrix: int, fov_m: float) -> float:
        """Return the root mean square of B1 over the whole scan [T]."""
        mean_square = self.rf_energy_t2_s(matrix, fov_m) / self.scan_time_s(matrix, fov_m)
        return math.sqrt(mean_square)
