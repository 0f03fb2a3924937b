"""`check_transform`: the laws of an invertible map with its log-determinant."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions.transforms import Transform as TorchTransform

from probflow import domains
from probflow.errors import ArgumentError
from probflow.testing.report import Report, hold
from probflow.testing.transform_laws import LAWS, Subject
from probflow.transforms import Transform
from probflow.transforms.torch_transform import as_transform

ROWS = 5


def check_transform(
    transform: Transform | TorchTransform,
    z: Tensor | None = None,
    context: Tensor | None = None,
    *,
    spread: float = 1.0,
    tolerance: float = 1e-8,
    exempt: Sequence[str] = (),
    without: Sequence[str] = (),
    seed: int = 0,
) -> Report:
    """Hold a transform, or one of ``torch.distributions``, to the laws of its kind; gives a table of what was found, to be printed.

    The laws: *shapes*; *round trip* (each direction undoes the other, and their log-determinants are opposite); *log-determinant*
    (that of the Jacobian by automatic differentiation, in both directions); *rows* (no row of a batch influences another); *batches*
    (of none and of one); *dtype*; *device* (no constant stays behind); *gradients* (reach the weights, the input and the context);
    *copies* (deepcopy, pickle and state_dict keep the map); *training* (computes the same as evaluation).

    They are looked at twice, with the weights as they are and with normal noise of standard deviation `spread` added to them, on
    copies in float64; `transform` itself is left alone, and so is the random state.

    z: values to test at, ``(N, *event)``, at least three rows; standard normal ones where the shape is declared and every real number
    will do.  context: one row for each row of z.  tolerance: of the round trip; the log-determinants get a hundred times as much.
    exempt: parts of names of weights that need get no gradient.  without: names of laws to leave out.

    Errors: BrokenLaw, naming the law and the numbers; ArgumentError where no values to test at are known.

    >>> from probflow.transforms import Coupling
    >>> print(check_transform(Coupling(4, context=2, hidden=(8,)), context=torch.randn(5, 2))["log-determinant"].checked)
    True
    """
    transform = as_transform(transform)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        z = _inputs(transform, context) if z is None else z
        if z.dim() < 1 or len(z) < 3:
            raise ArgumentError(f"check_transform needs three rows of z at least, got shape {tuple(z.shape)}.")
        if transform.context is not None and context is None:
            context = torch.randn(len(z), *transform.context)
        z, context = z.double(), None if context is None else context.double()
        plain = copy.deepcopy(transform).double().eval()
        shaken = copy.deepcopy(plain)
        with torch.no_grad():
            for weight in shaken.parameters():
                weight.add_(spread * torch.randn_like(weight))
        name, kept, noisy = transform._title(), tuple(exempt), bool(spread) and any(True for _ in plain.parameters())
        subjects = [Subject(plain, z, context, tolerance, kept, name, at_start=noisy)]
        if noisy:
            subjects.append(Subject(shaken, z, context, tolerance, kept, f"{name} (with noise of {spread:g} on its weights)"))
        return [hold(subject, LAWS, without, f"{name}: all laws hold") for subject in subjects][-1]


def _inputs(transform: Transform, context: Tensor | None) -> Tensor:
    rows = ROWS if context is None else len(context)
    if transform.shape is None or transform.domain is not domains.real:
        why = "declares no event shape" if transform.shape is None else f"takes {transform.domain.text}"
        raise ArgumentError(
            f"{transform._title()} {why}: say where to test it, for example check_transform(transform, z=torch.rand(5, 3))."
        )
    return torch.randn(rows, *transform.shape)
