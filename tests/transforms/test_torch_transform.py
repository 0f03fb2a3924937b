"""Transforms of torch.distributions in chains and flows: events of several ranks, values without a preimage, what they are called."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributions as td
from torch.distributions import transforms as tt
from torch.testing import assert_close

from probflow.distributions import Flow, Normal
from probflow.errors import ArgumentError, ShapeError
from probflow.transforms import Affine, Compose, Conv1x1, Exp, Logit, Softplus, TorchTransform

Layers = Callable[[], list[object]]
HALF_EXP: dict[str, Any] = {"dim": -1, "tseq": [tt.ExpTransform(), tt.AffineTransform(0.0, -2.0)]}

CHAINS: dict[str, tuple[Layers, int]] = {
    "stick breaking": (lambda: [Affine(3), tt.StickBreakingTransform()], 3),
    "there and back": (lambda: [tt.StickBreakingTransform(), tt.StickBreakingTransform().inv, Affine(3)], 3),
    "Cholesky factors": (lambda: [Affine(3), tt.CorrCholeskyTransform()], 3),
    "independent": (lambda: [Affine(3), tt.IndependentTransform(tt.ExpTransform(), 1), Exp().inv, Affine(3)], 3),
    "reshape": (lambda: [Affine(4), tt.ReshapeTransform(torch.Size((4,)), torch.Size((1, 2, 2))), Conv1x1((1, 2, 2))], 4),
    "reshape, turned": (lambda: [Affine(4), tt.ReshapeTransform(torch.Size((2, 2)), torch.Size((4,))).inv, Affine((2, 2))], 4),
    "cat": (lambda: [Affine(3), tt.CatTransform(**HALF_EXP, lengths=[1, 2]), Affine(3)], 3),
    "stack": (lambda: [Affine(2), tt.StackTransform(**HALF_EXP), Affine(2)], 2),
    "tanh": (lambda: [tt.TanhTransform(), tt.TanhTransform().inv, Affine(3)], 3),
    "distribution functions": (
        lambda: [tt.CumulativeDistributionTransform(td.Laplace(0.0, 1.0)), Logit(), Affine(3), tt.SoftplusTransform()],
        3,
    ),
    "chain of torch": (lambda: [tt.ComposeTransform([tt.AffineTransform(0.0, 2.0), tt.StickBreakingTransform()])], 3),
}


def base(features: int) -> Normal:
    return Normal("p(z)", loc=0.0, scale=1.0, features_shape=features)


@pytest.mark.parametrize("name", CHAINS)
def test_a_flow_with_layers_of_torch(name: str) -> None:
    """The density along the draw, at the draw, and with the volume by autograd."""
    make, features = CHAINS[name]
    torch.manual_seed(0)
    p = Flow(base(features), make(), "p(x)")
    values, log_prob = p.sample_with_log_prob(batch_n=5, sample_shape=(2,))
    assert log_prob.shape == (2, 5)
    assert_close(p.log_prob(values), log_prob)
    z = p.to_noise(values)["z"]
    assert_close(p.from_noise({"z": z}), values["x"])
    jacobian = torch.autograd.functional.jacobian(lambda v: p.transform.forward(v[None]).flatten(), z[0, 0])
    if jacobian.shape[0] == jacobian.shape[1]:
        expected = base(features).log_prob({"z": z[0, :1]}) - torch.linalg.slogdet(jacobian)[1]
        assert_close(log_prob[0, :1], expected)


def test_the_density_is_that_of_torch() -> None:
    own = [tt.AffineTransform(1.0, 2.0), tt.StickBreakingTransform()]
    p = Flow(base(3), own, "p(x)")
    q = td.TransformedDistribution(td.Normal(torch.zeros(3), 1.0), own)
    x = q.sample((7,))
    assert_close(p.log_prob({"x": x}), q.log_prob(x))


OUTSIDE: dict[str, tuple[Callable[[], tt.Transform], list[Any]]] = {
    "tanh, at its end": (tt.TanhTransform, [[-1.0, 0.3], [0.1, 1.0]]),
    "exp of vectors": (lambda: tt.IndependentTransform(tt.ExpTransform(), 1), [[-1.0, 0.3], [0.0, 1.0]]),
    "stick breaking": (tt.StickBreakingTransform, [[0.5, 0.6], [0.0, 1.0]]),
    "side by side": (lambda: tt.CatTransform(**HALF_EXP, lengths=[1, 1]), [[-1.0, 0.3], [0.0, 1.0]]),
    "Cholesky factors": (tt.CorrCholeskyTransform, [[[1.0, 0.0], [0.9, 0.9]], [[-1.0, 0.0], [0.6, 0.8]]]),
    "not a number": (tt.SigmoidTransform, [[float("nan"), 0.3], [0.2, float("inf")]]),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_value_without_a_preimage_has_density_zero_and_spoils_no_other(name: str) -> None:
    make, outside = OUTSIDE[name]
    transform = TorchTransform(make())
    bad = torch.tensor(outside)
    good = transform.forward(torch.randn(1, *transform.inverse_shape(tuple(bad.shape[1:]))))
    x = torch.cat([bad, good]).requires_grad_()
    z, logdet = transform.inverse_and_logdet(x)
    assert bool(z.isfinite().all()) and logdet[:2].tolist() == [-torch.inf, -torch.inf]
    (z.sum() + logdet[2]).backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())
    turned = TorchTransform(make().inv)
    assert turned.forward_and_logdet(x.detach())[1][:2].tolist() == [-torch.inf, -torch.inf]


def test_ranks_where_the_number_of_dimensions_changes() -> None:
    chain = Compose([tt.ReshapeTransform(torch.Size((4,)), torch.Size((1, 2, 2))), Conv1x1((1, 2, 2))])
    assert (chain.shape, chain.output_shape) == ((4,), (1, 2, 2))
    chain = Compose([Softplus().inv, tt.CorrCholeskyTransform()])
    assert (chain.event_rank, chain.output_rank) == (1, 2)
    assert (chain.inv.event_rank, chain.inv.output_rank) == (2, 1)
    with pytest.raises(ShapeError, match="at least 2 dimension"):
        chain.inverse(torch.ones(5, 3))


def test_copies_know_their_domains() -> None:
    for make in (tt.StickBreakingTransform, tt.CorrCholeskyTransform, lambda: tt.CatTransform(**HALF_EXP, lengths=[1, 2])):
        transform = TorchTransform(make())
        z = torch.randn(4, 3)
        for again in (copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))):
            assert_close(again.forward(z), transform.forward(z))
            assert again.codomain.text == transform.codomain.text
            assert bool(_inside(again, again.forward(z)).all())


def _inside(transform: TorchTransform, x: Tensor) -> Tensor:
    return transform.inverse_and_logdet(x)[1].isfinite()


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: TorchTransform(tt.CatTransform([tt.ExpTransform()], lengths=[3])), "dimension 0 is the batch. Write dim=1"),
        (lambda: TorchTransform(tt.SoftmaxTransform()), "SoftmaxTransform is not a bijection"),
        (lambda: Compose([Affine(3), tt.ExpTransform().inv]), r"ExpTransform.inv\) takes positive numbers"),
        (lambda: Compose([tt.StickBreakingTransform(), Affine(4)]), "takes real numbers, but .* gives probability vectors"),
    ],
)
def test_errors_name_the_transform(make: Callable[[], object], text: str) -> None:
    with pytest.raises(ArgumentError, match=text):
        make()
