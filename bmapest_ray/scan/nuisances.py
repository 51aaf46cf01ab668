"""What is not known beside the maps: names, priors, and how intensities depend on it.

The intensity of a voxel full of tissue t in contrast c is

    M_ct(v) = exp(scale_c + sum_k bias_ck phi_k(v)) (exp(pd_t) PD_t s_ct(t1_t, t2_t, B1(v))
              + offset_ct S_c),   B1(v) = map(v) exp(sum_k b1_k phi_k(v)),

with polynomials phi over the head, relative (log) changes of tissue values and, in `offset`, what
the physics leaves unexplained, relative to the strongest tissue S_c.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor

from bmapest_ray.base.errors import InvalidInput, require_choice
from bmapest_ray.scan.response import Response

BIAS_DEGREE = 3
B1_DEGREE = 2

SPREADS: Mapping[str, float] = {
    "scale": 10.0,
    "bias": 0.15,
    "offset": 0.05,
    "t1": 0.10,
    "t2": 0.15,
    "pd": 0.05,
    "b1": 0.05,
}
"""Standard deviations before the scan is seen.

Relative, so 0.1 is 10 %: T1, T2 and PD after the spread between published values at one field
strength (Bojorquez et al., Magn Reson Imaging 2017;35:69; Stanisz et al., Magn Reson Med
2005;54:507), B1 after typical maps at 3 T; the bias of a
polynomial term of degree d is a d-th of the number.
"""


@dataclass(frozen=True)
class Layout:
    """Where each nuisance lies in one flat vector."""

    contrasts: int
    tissues: int
    fixed: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        """Refuse unknown names."""
        for name in self.fixed:
            require_choice("nuisance", name, tuple(SPREADS))

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every nuisance."""
        bias, b1 = n_terms(BIAS_DEGREE) - 1, n_terms(B1_DEGREE)
        return {
            "scale": (self.contrasts,),
            "bias": (self.contrasts, bias),
            "offset": (self.contrasts, self.tissues),
            "t1": (self.tissues,),
            "t2": (self.tissues,),
            "pd": (self.tissues,),
            "b1": (b1,),
        }

    @property
    def total(self) -> int:
        """Length of the vector."""
        return sum(torch.Size(shape).numel() for shape in self.sizes.values())

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the named parts of a vector, in their shapes."""
        counts = [torch.Size(shape).numel() for shape in self.sizes.values()]
        parts = torch.split(vector, counts)
        return {n: p.view(s) for (n, s), p in zip(self.sizes.items(), parts, strict=True)}

    def places(self) -> dict[str, slice]:
        """Return where each name lies."""
        places, start = {}, 0
        for name, shape in self.sizes.items():
            stop = start + torch.Size(shape).numel()
            places[name] = slice(start, stop)
            start = stop
        return places

    def spreads(self, changed: Mapping[str, float] | None = None) -> Tensor:
        """Return the prior standard deviation of every entry; 0 keeps it fixed."""
        known = {**SPREADS, **(changed or {})}
        parts = []
        for name, shape in self.sizes.items():
            value = torch.full(shape, 0.0 if name in self.fixed else known[name]).double()
            parts.append((value / _degrees(BIAS_DEGREE)[1:] if name == "bias" else value).flatten())
        return torch.cat(parts)


def n_terms(degree: int) -> int:
    """Return how many polynomials of three coordinates have at most a total degree."""
    return (degree + 1) * (degree + 2) * (degree + 3) // 6


def polynomials(where: Tensor, degree: int) -> Tensor:
    """Return products of Legendre polynomials of coordinates in [-1, 1].

    Parameters
    ----------
    where
        Shape `(voxel, 3)`.

    Returns
    -------
    Tensor
        Shape `(voxel, term)`; the first term is 1, the order is by total degree.
    """
    one = torch.ones_like(where)
    legendre = [one, where, (3 * where**2 - 1) / 2, (5 * where**3 - 3 * where) / 2]
    if degree >= len(legendre):
        raise InvalidInput(f"polynomials go up to degree 3, got {degree}; lower it")
    columns = [
        legendre[i][:, 0] * legendre[j][:, 1] * legendre[k][:, 2] for i, j, k in _orders(degree)
    ]
    return torch.stack(columns, dim=1)


def _orders(degree: int) -> list[tuple[int, ...]]:
    every = product(range(degree + 1), repeat=3)
    return sorted((orders for orders in every if sum(orders) <= degree), key=_degree_first)


def _degrees(degree: int) -> Tensor:
    return torch.tensor([sum(orders) for orders in _orders(degree)], dtype=torch.float64)


def _degree_first(orders: tuple[int, ...]) -> tuple[int, ...]:
    return (sum(orders), *orders)


@dataclass(frozen=True, eq=False)
class Signals:
    """Intensities of pure tissues at some voxels, and their derivatives.

    Parameters
    ----------
    value
        Shape `(voxel, contrast, tissue)`.
    gain
        ``exp(scale + bias)``, `(voxel, contrast)`.
    """

    value: Tensor
    gain: Tensor
    _terms: Tensor
    _b1_slope: Tensor
    _weights: Tensor
    _slopes: Mapping[str, Tensor]
    _layout: Layout

    def derivative(self, contrast: int) -> Tensor:
        """Return the derivative of ``value[:, contrast]``, `(voxel, parameter, tissue)`."""
        layout, value = self._layout, self.value[:, contrast]
        out = value.new_zeros(len(value), layout.total, layout.tissues)
        places = layout.places()
        gain = self.gain[:, contrast, None]
        out[:, places["scale"].start + contrast] = value
        bias = layout.sizes["bias"][1]
        first = places["bias"].start + contrast * bias
        out[:, first : first + bias] = self._terms[:, 1:, None] * value[:, None]
        first = places["offset"].start + contrast * layout.tissues
        for tissue in range(layout.tissues):
            out[:, first + tissue, tissue] = gain[:, 0] * self._slopes["strongest"][contrast]
            for name in ("t1", "t2", "pd"):
                slope = self._weights @ self._slopes[name][:, contrast, tissue]
                out[:, places[name].start + tissue, tissue] = gain[:, 0] * slope
        terms = self._terms[:, : layout.sizes["b1"][0]]
        out[:, places["b1"]] = terms[:, :, None] * (gain * self._b1_slope[:, contrast])[:, None]
        return out


@dataclass(frozen=True, eq=False)
class SignalModel:
    """From a vector of nuisances to the intensities of pure tissues.

    Parameters
    ----------
    response
        Signals of the tissues, per contrast.
    layout
        Of the vector.
    signed
        Contrasts whose intensities keep their signs; of the others the magnitude is seen.
    """

    response: Response
    layout: Layout
    signed: tuple[int, ...] = ()

    def seen(self, signal: Tensor) -> Tensor:
        """Return what an image shows of signals `(voxel, contrast)`."""
        shown = signal.abs()
        for contrast in self.signed:
            shown[:, contrast] = signal[:, contrast]
        return shown

    def signals(self, vector: Tensor, where: Tensor, b1_map: Tensor) -> Signals:
        """Return the intensities at voxels.

        Parameters
        ----------
        vector
            Nuisances, float64.
        where
            Coordinates in [-1, 1], `(voxel, 3)`, float32.
        b1_map
            Given B1, 1 where unknown, `(voxel,)`.
        """
        parts = {name: part.to(where) for name, part in self.layout.split(vector).items()}
        terms = polynomials(where, BIAS_DEGREE)
        b1 = b1_map * torch.exp(terms[:, : len(parts["b1"])] @ parts["b1"])
        weights, slope = Response.b1_weights(b1)
        at_nodes, slopes = self._tissues(vector, where)
        pure = torch.einsum("vn,nct->vct", weights, at_nodes)
        gain = torch.exp(parts["scale"] + terms[:, 1:] @ parts["bias"].T)
        b1_slope = torch.einsum("vn,nct->vct", slope, at_nodes) * b1[:, None, None]
        return Signals(gain[:, :, None] * pure, gain, terms, b1_slope, weights, slopes, self.layout)

    def _tissues(self, vector: Tensor, like: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return signals `(node, contrast, tissue)` with their slopes along t1, t2 and pd."""
        parts = self.layout.split(vector)
        response = self.response
        pd = response.table.column("pd")
        strongest = (response.values * pd[:, None, None, None]).abs().amax((1, 2, 3, 4))

        def bare(t1: Tensor, t2: Tensor) -> Tensor:
            return response.at(t1, t2) * pd

        step = 1e-4
        t1, t2 = parts["t1"], parts["t2"]
        density = parts["pd"].exp()
        here = bare(t1, t2) * density
        slopes = {
            "t1": (bare(t1 + step, t2) - bare(t1 - step, t2)) * density / (2 * step),
            "t2": (bare(t1, t2 + step) - bare(t1, t2 - step)) * density / (2 * step),
            "pd": here,
            "strongest": strongest,
        }
        value = here + parts["offset"] * strongest[:, None]
        return value.to(like), {name: slope.to(like) for name, slope in slopes.items()}
