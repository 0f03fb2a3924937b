"""Some eighty mistakes that newcomers make, and the message each gets: in their notation, with what to write instead."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import probflow as pf
from probflow import KL, E, errors, log


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(8 + 3, 4)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        loc, scale = self.net(torch.cat([x, y], dim=1)).chunk(2, dim=1)
        return {"loc": loc, "scale": F.softplus(scale)}


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(2 + 3, 8)

    def forward(self, z: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"logits": self.net(torch.cat([z, y], dim=1))}


class Partial(Encoder):
    def forward(self, y: Tensor, h: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        return super().forward(h, y)


class WrongNames(Encoder):
    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        out = super().forward(x, y)
        return {"mean": out["loc"], "std": out["scale"]}


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.latent, self.label = nn.Linear(2, 8), nn.Linear(3, 8)

    def forward(self, h: Tensor, c: Tensor) -> dict[str, Tensor]:
        return {"logits": self.latent(h) + self.label(c)}


class Noisy(TwoLayers):
    def forward(self, h: Tensor, c: Tensor) -> dict[str, Tensor]:
        return {"logits": super().forward(h, c)["logits"] + torch.rand(())}


class Coarse(Encoder):
    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {name: value.bfloat16() for name, value in super().forward(x, y).items()}


COARSE, FINE = pf.Normal("q(z | x, y)", Coarse()), pf.Bernoulli("p(w | z)", pf.nn.MLP(2, [4], {"logits": 8}).float())
Q, P = pf.Normal("q(z | x, y)", Encoder()), pf.Bernoulli("p(x | z, y)", Decoder())
PRIOR = pf.Normal("p(z)", loc=0.0, scale=1.0, features_shape=2)
PER_ROW = KL(Q, PRIOR) - E(Q)[log(P)]
LOSS = PER_ROW.mean()
CLASSES = pf.Categorical("p(y | x)", lambda x: {"logits": x[:, :3]})
FLOW = pf.flows.MAF("p(y | x)", features=1, context=1, layers=1, hidden=(4,)).float()
X = torch.ones(5, 8, dtype=torch.float32)
Y = torch.eye(3, dtype=torch.float32)[[0, 1, 2, 0, 1]]


def negative_scale() -> Tensor:
    p = pf.Normal("p(x | z)", lambda z: {"loc": z, "scale": -torch.ones_like(z)})
    return log(p).eval({"x": X, "z": X})


NAN = X.clone()
NAN[2, 3] = float("nan")

MISTAKES = {
    "missing variable": (
        lambda: LOSS.eval({"x": X}),
        errors.MissingVariable,
        ["needs a value for 'y'", "loss.eval({'y': ...})"],
    ),
    "wrong name": (lambda: LOSS.eval({"x": X, "Y": Y}), errors.MissingVariable, ["is 'Y' meant to be 'y'?"]),
    "wrong width": (
        lambda: LOSS.eval({"x": X[:, :7], "y": Y}),
        errors.NetworkError,
        ["q(z|x,y)", "takes 11 features", "x 7 + y 3"],
    ),
    "swapped network arguments": (
        lambda: pf.Normal("q(z | x, y)", Partial()),
        errors.ArgumentError,
        ["Partial(y, h) names 'y'", "gets 'x'"],
    ),
    "swapped ELBO arguments": (lambda: pf.ELBO(Q, P * PRIOR), errors.LossError, ["swapped", "ELBO(p, q)"]),
    "no batch dimension": (lambda: LOSS.eval({"x": X[0], "y": Y[0]}), errors.ShapeError, ["Dimension 0", "x[None]"]),
    "labels as floats": (
        lambda: log(CLASSES).eval({"x": X, "y": torch.tensor([0.0, 1.0, 2.0, 0.0, 1.0])}),
        errors.ShapeError,
        ["one-hot", "labels.long()"],
    ),
    "soft labels": (
        lambda: log(CLASSES).eval({"x": X, "y": Y * 0.5 + 0.1}),
        errors.SupportError,
        ["'y'", "one-hot", "[0.6, 0.1, 0.1]"],
    ),
    "class indices into a network": (
        lambda: LOSS.eval({"x": X, "y": Y.argmax(1)}),
        errors.NetworkError,
        ["torch.int64", "F.one_hot(y, K)"],
    ),
    "grey pixels in a Bernoulli": (
        lambda: LOSS.eval({"x": X * 0.5, "y": Y}),
        errors.SupportError,
        ["'x'", "{0, 1}", "0.5 at [0, 0]"],
    ),
    "a cycle": (
        lambda: pf.Normal("p(x | z)", loc="z", scale=1.0) * pf.Normal("p(z | x)", loc="x", scale=1.0),
        errors.CycleError,
        ["x -> z -> x"],
    ),
    "a duplicate variable": (
        lambda: PRIOR * pf.Normal("r(z)", loc=0.0, scale=1.0),
        errors.DuplicateVariable,
        ["'z'", "p(z) and r(z)"],
    ),
    "a negative scale": (negative_scale, errors.ParameterError, ["p(x|z)", "scale", "-1 at [0, 0]", "softplus"]),
    "a negative constant scale": (
        lambda: pf.Normal("p(z)", loc=0.0, scale=-1.0),
        errors.ParameterError,
        ["scale must be positive", "-1"],
    ),
    "NaN data": (lambda: LOSS.eval({"x": NAN, "y": Y}), errors.ValuesError, ["nan in 'x'", "[2, 3]"]),
    "unknown keyword": (lambda: PRIOR.sample(batchn=7), TypeError, ["batchn"]),  # type: ignore[arg-type]
    "unknown parameter": (lambda: pf.Normal("p(z)", loc=0.0, sigma=1.0), errors.ParameterError, ["'sigma'", "loc, scale"]),
    "KL of different variables": (lambda: KL(Q, P), errors.LossError, ["first:  z", "second: x"]),
    "missing .mean()": (lambda: pf.Model(PER_ROW), errors.ModelError, ["one number per batch element", ".mean()"]),
    "a string for a list": (lambda: pf.Model(LOSS, distributions="p"), errors.ProbflowError, ["distributions"]),  # type: ignore[arg-type]
    "numpy arrays": (lambda: LOSS.eval({"x": np.ones((5, 8)), "y": Y}), errors.ValuesError, ["ndarray", "torch.from_numpy"]),  # type: ignore[dict-item]
    "tensor instead of dict": (lambda: LOSS.eval(X), errors.ValuesError, ["dict", "{'x': ..., 'y': ...}"]),  # type: ignore[call-overload]
    "wrong device": (
        lambda: LOSS.eval({"x": X.to("meta"), "y": Y.to("meta")}),
        errors.NetworkError,
        ["weights are on cpu", "x is on meta"],
    ),
    "wrong dtype": (lambda: LOSS.eval({"x": X.double(), "y": Y.double()}), errors.NetworkError, ["x.to(torch.float32)"]),
    "mixed precision by hand": (
        lambda: E(COARSE)[log(FINE)].eval({"x": X, "y": Y, "w": X}),
        errors.NetworkError,
        ["z is drawn from q(z|x,y), whose network returns torch.bfloat16", "its outputs, .to(torch.float32)", "autocast"],
    ),
    "the same, compiled": (
        lambda: E(COARSE)[log(FINE)].compile(backend="eager")({"x": X, "y": Y, "w": X}),
        errors.NetworkError,
        ["whose network returns torch.bfloat16"],
    ),
    "the same, sampling": (
        lambda: (FINE * COARSE).sample({"x": X, "y": Y}),
        errors.NetworkError,
        ["p(w|z): its network failed", "z is drawn from q(z|x,y), whose network returns torch.bfloat16"],
    ),
    "a prior of another precision": (
        lambda: E(pf.Normal("p(z)", loc=torch.zeros(2).double(), scale=1.0))[log(P)].eval({"x": X, "y": Y}),
        errors.NetworkError,
        ["z is drawn from p(z), whose parameters are torch.float64.\nConvert these, .to(torch.float32).\n"],
    ),
    "a given value of another precision": (
        lambda: log(P).eval({"x": X, "y": Y, "z": X[:, :2].double()}),
        errors.NetworkError,
        ["z is torch.float64: convert one, z.to(torch.float32)"],
    ),
    "wrong output names": (
        lambda: pf.Normal("q(z | x, y)", WrongNames()).sample({"x": X, "y": Y}),
        errors.NetworkError,
        ["'mean'", "loc, scale"],
    ),
    "a class for a network": (lambda: pf.Normal("q(z | x, y)", Encoder), errors.ArgumentError, ["pass an instance"]),
    "an unclosed statement": (lambda: pf.Normal("q(z | x, y", Encoder()), errors.StatementError, ["^"]),
    "different batch sizes": (lambda: LOSS.eval({"x": X, "y": Y[:3]}), errors.ShapeError, ["x: (5, 8)", "y: (3, 3)"]),
    "torch function of a loss": (lambda: torch.exp(LOSS), errors.LossError, [".exp()"]),  # type: ignore[arg-type]
    "a distribution for a loss": (lambda: LOSS + P, errors.LossError, ["log(p)"]),
    "rows asked of values that have rows": (
        lambda: FLOW.sample({"x": X[:1, :1]}, batch_n=7),
        errors.ShapeError,
        ["batch_n=7, but the given values have batch 1", "sample_shape=7 asks for 7 of each"],
    ),
    "the same of a flow's density": (
        lambda: FLOW.sample_with_log_prob({"x": X[:1, :1]}, batch_n=7),
        errors.ShapeError,
        ["sample_shape=7 asks for 7 of each"],
    ),
    "a shape, in first place": (
        lambda: PRIOR.rsample(torch.Size([3, 2])),  # type: ignore[arg-type]
        errors.ArgumentError,
        ["Write sample_shape=[3, 2]."],
    ),
    "the same of a flow": (
        lambda: FLOW.sample_with_log_prob((8,)),  # type: ignore[arg-type]
        errors.ValuesError,
        ["batch_n=8 for rows"],
    ),
    "a weight of the bound": (
        lambda: pf.ELBO(P * PRIOR, pf.Normal("q(z | x, y)", Encoder()), beta=4),  # type: ignore[arg-type]
        errors.ArgumentError,
        ["E(q)[log(p)] - beta * KL(q, prior)"],
    ),
    "samples of the bound": (
        lambda: pf.ELBO(P * PRIOR, pf.Normal("q(z | x, y)", Encoder()), samples=4),  # type: ignore[arg-type]
        errors.ArgumentError,
        ["Write sample_shape=[K]."],
    ),
    "one number for the batch": (
        lambda: pf.Function(lambda z: z.mean(), ["z"], "MMD").eval({"z": X}),
        errors.ShapeError,
        ["shape (5,), got ()", "the same in every row: .expand(len(z))."],
    ),
    "torch.compile of an expression": (lambda: torch.compile(LOSS), errors.LossError, ["loss.compile()"]),
    "one condition for all rows": (
        lambda: FLOW.log_prob({"y": X[:, :1], "x": X[:1, :1]}),
        errors.ShapeError,
        ["x: (1, 1), batch 1", "One row for all of the others: x.expand(5, -1)."],
    ),
    "all conditions for one row": (
        lambda: FLOW.log_prob({"y": X[:1, :1], "x": X[:, :1]}),
        errors.ShapeError,
        ["One row for all of the others: y.expand(5, -1)."],
    ),
    "other sizes": (
        lambda: FLOW.log_prob({"y": X[:2, :1], "x": X[:, :1]}),
        errors.ShapeError,
        ["say so: log_prob(values, sample_dims={'x': 1})"],
    ),
    "one feature without its dimension": (
        lambda: log(FLOW).eval({"y": X[:, 0], "x": X[:, :1]}),
        errors.ShapeError,
        ["'y' has shape (5,), but the flow takes (batch, 1)", "write y[..., None]"],
    ),
    "one feature for a coupling": (
        lambda: pf.flows.RealNVP("p(y)", features=1),
        errors.ArgumentError,
        ["nothing to split", "NSF", "MAF"],
    ),
    "the mean of a flow": (
        lambda: FLOW.mean({"x": X[:, :1]}),
        errors.NoClosedForm,
        ["p(y|x) has no known mean", "p.sample(values, sample_shape=1000)['y'].mean(0)"],
    ),
    "the variance of a flow": (
        lambda: pf.flows.MAF("p(y)", features=2).variance(),
        errors.NoClosedForm,
        ["p.sample(batch_n=1, sample_shape=1000)['y'].var(0)"],
    ),
    "a compiled loss in a model": (
        lambda: pf.Model(LOSS.compile(backend="eager")),  # type: ignore[arg-type]
        errors.ModelError,
        ["is compiled already", "Model(loss, compile=True)"],
    ),
    "validation without a variable": (
        lambda: pf.Model(LOSS).fit({"x": X, "y": Y}, 1, validation={"x": X}, progress=False),
        errors.MissingVariable,
        ["validation has no 'y'", "needs: x, y", "has:         x", "test_loss"],
    ),
    "a row of the gradient's report": (
        lambda: pf.gradient_report(LOSS, {"x": X, "y": Y}, draws=2)["q"],
        errors.LossError,
        ["no row 'q'", "named 'q(z|x,y)', 'p(x|z,y)'"],
    ),
    "a distribution for a row": (
        lambda: pf.gradient_report(LOSS, {"x": X, "y": Y}, draws=2)[Q],  # type: ignore[index]
        errors.LossError,
        ["no row for a Normal; its rows are named 'q(z|x,y)'"],
    ),
    "a parameter for the statement": (lambda: pf.Normal(torch.tensor(0.0)), errors.ArgumentError, ["statement"]),  # type: ignore[arg-type]
    "constants of two shapes": (
        lambda: pf.Normal("p(z)", loc=torch.zeros(2), scale=torch.ones(3)),
        errors.ParameterError,
        ["loc:   (2,)", "scale: (3,)", "Make scale (2,)"],
    ),
    "a constant that does not fit the network": (
        lambda: pf.Normal("p(x | z)", lambda z: {"loc": z}, scale=torch.ones(3)).sample({"z": X}),
        errors.ShapeError,
        ["p(x|z)", "loc:   (5, 8)", "scale: (3,), a constant", "Give scale the shape (8,)"],
    ),
    "a constant that does not fit a variable": (
        lambda: log(pf.Normal("p(x | z)", loc="z", scale=torch.ones(3))).eval({"x": X, "z": X}),
        errors.ShapeError,
        ["scale: (3,), a constant", "Give scale the shape (8,)"],
    ),
    "outputs of two shapes": (
        lambda: log(pf.Normal("p(x | z)", lambda z: {"loc": z, "scale": z[:, :3].exp()})).eval({"x": X, "z": X}),
        errors.ShapeError,
        ["loc:   (5, 8)", "scale: (5, 3)", "Make scale (5, 8) as loc is"],
    ),
    "another order than the network's": (
        lambda: pf.Bernoulli("p(x | y, z)", TwoLayers()).sample({"y": Y, "z": X[:, :2]}),
        errors.NetworkError,
        ["in the order of the statement", "In the order z, y it runs: write p(x|z,y)"],
    ),
    "options of the optimizer": (
        lambda: pf.Model(LOSS, lr=1e-3),  # type: ignore[arg-type]
        errors.ArgumentError,
        ["'lr'", "optimizer_params={'lr': 0.001}"],
    ),
    "a misspelt option": (lambda: pf.Model(LOSS, optimiser=None), errors.ArgumentError, ["Did you mean 'optimizer'?"]),  # type: ignore[arg-type]
    "torch.log of a distribution": (lambda: torch.log(P), errors.LossError, ["torch.log", "p(x|z,y)", "pf.log(p)"]),  # type: ignore[arg-type]
    "torch.exp of a distribution": (lambda: torch.exp(P), errors.LossError, ["pf.Prob(p)"]),  # type: ignore[arg-type]
    "a loss function of torch": (lambda: F.mse_loss(P, X), errors.LossError, ["torch.mse_loss", "p.sample"]),  # type: ignore[arg-type]
    "p.log()": (lambda: P.log(), errors.LossError, ["pf.log(p)"]),
    "p.log_prob()": (lambda: P.log_prob(), errors.ArgumentError, ["'x': ..., 'z': ..., 'y': ...", "log(p)"]),
    "p.log_prob(x=x)": (lambda: PRIOR.log_prob(z=X), errors.ArgumentError, ["{'z': ...}"]),  # type: ignore[arg-type]
    "p(x)": (lambda: P(X), errors.ArgumentError, ["p(x|z,y) is not called", "p.sample({'z': ..., 'y': ...})", "log(p)"]),
    "p - q": (lambda: P - Q, errors.LossError, ["p(x|z,y)", "'-'", "log(p)"]),
    "2 * p": (lambda: 2 * P, errors.LossError, ["'*'", "p * q"]),
    "-p": (lambda: -P, errors.LossError, ["log(p)"]),
    "loss.item()": (lambda: LOSS.item(), errors.UnknownAttribute, ["loss.eval(values).item()"]),  # type: ignore[attr-defined]
    "loss.shape": (lambda: LOSS.shape, errors.UnknownAttribute, ["loss.eval(values).shape."]),  # type: ignore[attr-defined]
    "loss.to(device)": (lambda: LOSS.to("cpu"), errors.UnknownAttribute, ["p.to(...)"]),  # type: ignore[attr-defined]
    "loss.evaluate": (lambda: LOSS.evaluate({}), errors.UnknownAttribute, ["Did you mean 'eval'?"]),  # type: ignore[attr-defined]
    "loss(x, y)": (lambda: LOSS(X, Y), errors.ArgumentError, ["loss.eval({'x': x, 'y': y})"]),  # type: ignore[arg-type]
    "loss.eval(x=x)": (lambda: LOSS.eval(x=X, y=Y), errors.ArgumentError, ["loss.eval({'x': x, 'y': y})"]),  # type: ignore[call-overload]
    "loss.mean(0)": (lambda: PER_ROW.mean(0), errors.LossError, [".mean() goes over the batch"]),  # type: ignore[arg-type]
    "loss.sum(dim=1)": (lambda: PER_ROW.sum(dim=1), errors.LossError, ["takes no dimension"]),  # type: ignore[arg-type]
    "sigma": (lambda: pf.Normal("p(x | z)", loc="z", sigma=1.0), errors.ParameterError, ["It is called 'scale' here"]),
    "log-variance": (
        lambda: pf.Normal("p(x | z)", loc="z", logvar=1.0),
        errors.ParameterError,
        ["Write scale=(0.5 * logvar).exp()"],
    ),
    "parameters by position": (
        lambda: pf.Normal("p(z)", 0.0, 1.0),  # type: ignore[arg-type]
        errors.ArgumentError,
        ["Normal('p(z)', loc=..., scale=...)"],
    ),
    "one output for two parameters": (
        lambda: pf.Normal("p(x | z)", nn.Linear(8, 16)).sample({"z": X}),
        errors.NetworkError,
        ["{'loc': ..., 'scale': ...}", "chunk"],
    ),
    "one output, and two ways to read it": (
        lambda: pf.Categorical("p(y | x)", nn.Linear(8, 3)).sample({"x": X}),
        errors.NetworkError,
        ["Return a dict, {'logits': ...}"],
    ),
    "a torch distribution": (
        lambda: KL(Q, torch.distributions.Normal(0.0, 1.0)),  # type: ignore[arg-type]
        errors.LossError,
        ["torch.distributions.Normal", 'pf.Normal("p(x)", loc=..., scale=...)'],
    ),
    "a network that returns one": (
        lambda: pf.Normal("p(x | z)", lambda z: torch.distributions.Normal(z, 1.0)).sample({"z": X}),
        errors.NetworkError,
        ["got a torch.distributions.Normal"],
    ),
    "E[q]": (lambda: E[P], errors.LossError, ["E(p)[f]"]),  # type: ignore[misc]
    "E(q, K=5)": (lambda: E(Q, K=5), errors.ArgumentError, ["sample_shape=[K]"]),  # type: ignore[arg-type]
    "a number of samples": (lambda: PRIOR.sample(10), errors.ArgumentError, ["batch_n=10"]),  # type: ignore[arg-type]
    "a shape of samples": (lambda: Q.sample((4,)), errors.ArgumentError, ["sample_shape=[4]"]),  # type: ignore[arg-type]
    "sample(x=x)": (lambda: Q.sample(x=X, y=Y), errors.ArgumentError, ["{'x': ..., 'y': ...}"]),  # type: ignore[arg-type]
    "batch_size": (lambda: PRIOR.sample(batch_size=7), errors.ArgumentError, ["batch_n=..."]),  # type: ignore[arg-type]
    "half a sample": (lambda: PRIOR.sample(sample_shape=2.5), errors.ArgumentError, ["2.5"]),  # type: ignore[arg-type]
    "the ELBO without a prior": (lambda: pf.ELBO(P, Q), errors.LossError, ["conditioned on z", "ELBO(p * prior, q)"]),
    "a comma for the bar": (lambda: pf.Normal("q(z, x, y)", Encoder()), errors.ArgumentError, ['"q(z | x)"']),
    "the entropy of two": (lambda: pf.Entropy(P, Q), errors.LossError, ["CrossEntropy(q, p)"]),  # type: ignore[arg-type]
    "model.parameters()": (lambda: pf.Model(LOSS).parameters(), errors.UnknownAttribute, ["model.loss.parameters()"]),  # type: ignore[attr-defined]
    "model.eval()": (lambda: pf.Model(LOSS).eval(), errors.UnknownAttribute, ["model.test(values)"]),  # type: ignore[attr-defined]
    "a name of another library": (lambda: pf.KLDivergence, AttributeError, ["pf.KL(q, p)"]),  # type: ignore[attr-defined]
    "a name of a sub-package": (lambda: pf.RealNVP, AttributeError, ["probflow.flows.RealNVP"]),  # type: ignore[attr-defined]
}


class Forward(pf.Normal):
    """A subclass with its own network keeps it callable."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"loc": x, "scale": torch.ones_like(x)}


def test_a_subclass_with_a_network_is_called_as_a_module() -> None:
    assert set(Forward("q(z | x)")(X)) == {"loc", "scale"}
    assert pf.log(Forward("q(z | x)")).eval({"x": X, "z": X}).isfinite().all()


def test_losses_are_still_copied_and_looked_through() -> None:
    assert copy.copy(LOSS) is LOSS and pickle.loads(pickle.dumps(PER_ROW.input_var)) == ("x", "y")
    assert copy.deepcopy(PER_ROW).input_var == ("x", "y")
    assert not hasattr(LOSS, "item") and not hasattr(LOSS, "_repr_html_") and not hasattr(pf.Model(LOSS), "parameters")
    assert copy.copy(pf.Model(LOSS)).loss is LOSS


def test_the_random_state_is_that_of_one_failure() -> None:
    """Trying the other orders draws nothing from the user's stream."""
    p = pf.Bernoulli("p(x | y, z)", Noisy())
    torch.manual_seed(0)
    with pytest.raises(errors.NetworkError, match="it runs"):
        p.sample({"y": Y, "z": X[:, :2]})
    after = torch.rand(())
    torch.manual_seed(0)
    assert torch.rand(()) == after


@pytest.fixture(autouse=True)
def single_precision() -> object:
    torch.set_default_dtype(torch.float32)
    return None


@pytest.mark.parametrize("name", MISTAKES)
def test_the_message_says_what_and_where_and_what_to_write(name: str) -> None:
    mistake, kind, words = MISTAKES[name]
    with pytest.raises(kind) as caught:
        mistake()
    for word in words:
        assert word in str(caught.value)


def test_the_same_program_without_mistakes_runs() -> None:
    assert LOSS.eval({"x": X, "y": Y}).isfinite()


def test_what_is_recommended_works() -> None:
    x, y = X[:, :1], X[:1, :1].expand(5, -1)
    assert FLOW.log_prob({"y": X[:, 0][..., None], "x": x}).shape == FLOW.log_prob({"y": y, "x": x}).shape == (5,)
    assert FLOW.sample({"x": x}, sample_shape=1000)["y"].mean(0).shape == (5, 1)
    two = pf.flows.MAF("p(y)", features=2, layers=1)
    assert two.sample(batch_n=1, sample_shape=1000)["y"].var(0).shape == (1, 2)
    assert pf.Model(LOSS, test_loss=-log(CLASSES).mean()).fit({"x": X, "y": Y}, 1, {"x": X, "y": Y}, progress=False)


def test_a_string_serves_where_one_name_is_meant() -> None:
    a = pf.Normal(var="z", cond_var="x", name="q", loc="x", scale=1.0)
    b = pf.Normal(var=["z"], cond_var=("x",), name="q", loc="x", scale=1.0)
    assert str(a.statement) == str(b.statement) == "q(z|x)"


def test_a_backward_of_the_expression() -> None:
    loss = (-pf.log(pf.Normal("p(x)", loc=0.0, scale=1.0))).mean()
    with pytest.raises(pf.errors.LossError, match=r"loss\.eval\(values\)\.backward\(\)"):
        loss.backward()


def test_an_expectation_in_round_brackets() -> None:
    q, p = pf.Normal("q(z)", loc=0.0, scale=1.0), pf.Normal("p(z)", loc=0.0, scale=1.0)
    with pytest.raises(pf.errors.LossError, match=r"square brackets: E\(q\)\[log p\(z\)\]"):
        pf.E(q)(pf.log(p))
    with pytest.raises(pf.errors.LossError, match=r"round brackets; write E\(q\)\[log p\(z\)\]"):
        pf.E(q, pf.log(p))  # type: ignore[arg-type]


def test_a_misspelled_family() -> None:
    with pytest.raises(AttributeError, match="Did you mean 'Normal'"):
        pf.normal  # type: ignore[attr-defined]  # noqa: B018
