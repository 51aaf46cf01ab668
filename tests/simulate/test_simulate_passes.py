"""The compiled passes are the torch passes, and autograd still runs through the operator."""

from __future__ import annotations

import pytest
import torch

from bmapest_ray.base.seeding import generator
from bmapest_ray.simulate.factors import ImageFactors
from bmapest_ray.simulate.fused import FusedPasses
from bmapest_ray.simulate.lowrank import LowRankOperator
from bmapest_ray.simulate.passes import Passes
from bmapest_ray.tissue.fields import Fields

SIZE, RANKS, TISSUES, IMAGES, COILS, BATCH = 700, 5, 3, 2, 2, 3


def draw(*shape: int, complex_: bool = False, double: bool = True) -> torch.Tensor:
    dtype = torch.complex128 if complex_ else torch.float64
    drawn = torch.randn(*shape, generator=generator("passes", *shape), dtype=dtype)
    return drawn if double else drawn.to(torch.complex64 if complex_ else torch.float32)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("size", [SIZE, 2 * 128**2])
def test_each_compiled_pass_is_the_torch_pass(double: bool, size: int) -> None:
    plain, fused = Passes(), FusedPasses()
    image = torch.tensor([0, 0, 1, 1, 1])
    weights = draw(RANKS, TISSUES, 2 * size, double=double)
    filters = draw(RANKS, size, complex_=True, double=double)
    fractions = draw(BATCH, TISSUES, size, double=double)
    spectra = draw(BATCH, RANKS, COILS, size, complex_=True, double=double)
    kspace = draw(BATCH, IMAGES, COILS, size, complex_=True, double=double)
    field = draw(BATCH, RANKS, 2 * size, double=double)
    torch.testing.assert_close(fused.weigh(fractions, weights), plain.weigh(fractions, weights))
    torch.testing.assert_close(
        fused.spread(kspace, filters, image), plain.spread(kspace, filters, image)
    )
    collected = [torch.ones_like(kspace), torch.ones_like(kspace)]
    projected = [torch.ones_like(fractions), torch.ones_like(fractions)]
    for place, passes in enumerate((plain, fused)):
        passes.collect(spectra, filters, image, collected[place])
        passes.backproject(field, weights, projected[place])
    torch.testing.assert_close(*collected)
    torch.testing.assert_close(*projected)


def test_autograd_through_the_operator_gives_its_adjoint() -> None:
    n = 8
    factors = tuple(
        ImageFactors(
            kspace=draw(rank, n, n, complex_=True),
            object_=draw(rank, 3, n, n, complex_=True),
            error=0,
        )
        for rank in (2, 4)
    )
    fields = Fields(b0_hz=torch.zeros(n, n), b1=torch.ones(n, n), coils=None)
    operator = LowRankOperator(("a", "b"), factors, fields, dtype=torch.complex128)
    fractions = draw(3, n, n).requires_grad_()
    data = draw(2, n, n, complex_=True)
    images = operator.forward(fractions)
    (gradient,) = torch.autograd.grad((images.conj() * data).real.sum(), fractions)
    torch.testing.assert_close(gradient, operator.adjoint(data))
    torch.testing.assert_close(images.detach(), operator.forward(fractions.detach()))
