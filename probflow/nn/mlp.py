"""The multilayer perceptron with named outputs: enough network for most encoders and decoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from probflow.errors import ArgumentError, ShapeError
from probflow.nn.activation import made

Transform = Callable[[Tensor], Tensor]


class MLP(nn.Module):
    r"""Linear layers with an activation between them:
    :math:`h_0 = [x_1, x_2, \dots]`, :math:`h_{l+1} = a(W_l h_l + b_l)`, output :math:`W_L h_L + b_L`.

    Shapes: takes one tensor or several, each (N, ...), flattened after dimension 0 and concatenated along dimension 1. Returns
    (N, out), or a dict name -> (N, width) when `out` is a dict; the named outputs are slices of one last layer.

    `in_features` is the total width, or one width per input; `hidden` the widths between, possibly none; `activation` makes one
    module per hidden layer. `output` is applied at the end: a function, or a dict of them when `out` is one; a name left out
    stays as it is.

    Errors: `ArgumentError` when it cannot be built, `ShapeError` when called with other inputs than it was built for.

    >>> from torch.nn.functional import softplus
    >>> encoder = MLP([784, 10], hidden=[512, 512], out={"loc": 64, "scale": 64}, output={"scale": softplus})
    >>> q = encoder(torch.zeros(3, 1, 28, 28), torch.zeros(3, 10))
    >>> {name: tuple(value.shape) for name, value in q.items()}
    {'loc': (3, 64), 'scale': (3, 64)}
    >>> bool((q["scale"] > 0).all())
    True
    >>> tuple(MLP(64, hidden=[], out=2)(torch.zeros(5, 64)).shape)
    (5, 2)
    """

    def __init__(
        self,
        in_features: int | Sequence[int],
        hidden: Sequence[int],
        out: int | Mapping[str, int],
        activation: Callable[[], nn.Module] = nn.ReLU,
        output: Transform | Mapping[str, Transform] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(hidden, int):
            raise ArgumentError(f"MLP(hidden={hidden}): expected the widths of the hidden layers. Write: hidden=[{hidden}]")
        self.in_features = _widths("in_features", [in_features] if isinstance(in_features, int) else list(in_features))
        self.one_total = isinstance(in_features, int)
        self.out = dict(out) if isinstance(out, Mapping) else out
        self.output = _transforms(self.out, output)
        # Transforms may be plain functions; those that are modules have parameters to find.
        outputs = [function for function in self.output.values() if isinstance(function, nn.Module)]
        if outputs:
            self.output_modules = nn.ModuleList(outputs)

        named = list(self.out.values()) if isinstance(self.out, dict) else [self.out]
        widths = [sum(self.in_features), *_widths("hidden", list(hidden)), sum(_widths("out", named))]
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths[:-1]):
            layers += [nn.Linear(width, next_width), made(activation)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))

    def forward(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        flat = [x.flatten(1) if x.dim() > 1 else x.unsqueeze(-1) for x in inputs]
        self._check(inputs, flat)
        h = self.layers(flat[0] if len(flat) == 1 else torch.cat(flat, dim=1))
        if not isinstance(self.out, dict):
            return self.output[""](h) if self.output else h
        parts = dict(zip(self.out, h.split(list(self.out.values()), dim=1), strict=True))
        return {name: self.output[name](part) if name in self.output else part for name, part in parts.items()}

    def _check(self, inputs: tuple[Tensor, ...], flat: list[Tensor]) -> None:
        got = tuple(x.shape[-1] for x in flat)
        fits = sum(got) == self.in_features[0] if self.one_total else got == self.in_features
        if inputs and fits and all(x.dim() > 0 for x in inputs):
            return
        expected = f"{self.in_features[0]} in all" if self.one_total else ", ".join(map(str, self.in_features))
        raise ShapeError(
            f"MLP(in_features={self.in_features[0] if self.one_total else list(self.in_features)}) got inputs of shape "
            f"{', '.join(str(tuple(x.shape)) for x in inputs) or 'nothing'}.\n"
            f"  width per row after dimension 0, expected: {expected}\n"
            f"  got:                                       {', '.join(map(str, got)) or 'nothing'}"
        )


def _widths(what: str, widths: list[int]) -> tuple[int, ...]:
    for width in widths:
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise ArgumentError(f"MLP: {what} has a width of {width!r}; expected integers of at least 1.")
    if not widths and what != "hidden":
        raise ArgumentError(f"MLP: {what} is empty; expected at least one width.")
    return tuple(widths)


def _transforms(out: int | dict[str, int], output: Transform | Mapping[str, Transform] | None) -> dict[str, Transform]:
    """Name -> transform; the only output of an `out` without names is called ""."""
    if output is None:
        return {}
    if isinstance(output, Mapping) and isinstance(out, dict):
        if unknown := [name for name in output if name not in out]:
            raise ArgumentError(f"MLP: output transforms {unknown[0]!r}, but out has only {', '.join(map(repr, out))}.")
        return dict(output)
    if isinstance(output, Mapping) or isinstance(out, dict):
        raise ArgumentError(
            f"MLP: out={out!r} and output={output!r} do not fit: with named outputs, output is a dict name -> function; "
            f"with one output it is a function."
        )
    return {"": output}
