"""The laws of transforms, one function each."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from probflow.testing.report import Outcome, require, require_close
from probflow.transforms import Transform

DIRECTIONS = ("forward", "inverse")


@dataclass(frozen=True)
class Subject:
    """A transform and where to test it, all in float64."""

    transform: Transform
    z: Tensor
    context: Tensor | None = None
    tolerance: float = 1e-8
    exempt: tuple[str, ...] = ()
    name: str = "the transform"
    at_start: bool = False
    """Whether its weights are special, so that gradients may vanish: a layer that starts as zero hides those in front of it."""

    def __str__(self) -> str:
        return self.name

    def goes(self, direction: str) -> bool:
        """Whether the direction can be computed."""
        return getattr(self.transform, f"{direction}_cost") != "absent"

    @property
    def drawn(self) -> bool:
        """Whether a direction draws."""
        return self.transform.stochastic_forward or self.transform.stochastic_inverse

    def value(self, direction: str, rows: slice = slice(None)) -> tuple[Tensor, Tensor | None]:
        """What to put in: z, or x = f(z); where there is no f, z itself."""
        z, c = self.z[rows].detach().clone(), None if self.context is None else self.context[rows].detach().clone()
        if direction == "forward" or not self.goes("forward"):
            return z, c
        with torch.no_grad():
            return self.transform.forward(z, c), c

    def run(self, direction: str, value: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """The map and its log-determinant."""
        result: tuple[Tensor, Tensor] = getattr(self.transform, f"{direction}_and_logdet")(value, context)
        return result


def shapes(subject: Subject) -> Outcome:
    """The batch is kept, the event is what `forward_shape` says, a log-determinant is one finite number for each row."""
    t, n = subject.transform, len(subject.z)
    for direction in DIRECTIONS:
        if subject.goes(direction):
            value, c = subject.value(direction)
            out, logdet = subject.run(direction, value, c)
            wanted = (n, *getattr(t, f"{direction}_shape")(tuple(value.shape[1:])))
            require(
                tuple(out.shape) == wanted and tuple(logdet.shape) == (n,),
                lambda d=direction, o=out, j=logdet, w=wanted: (  # type: ignore[misc]
                    f"{subject} breaks the law 'shapes': {d} gives {tuple(o.shape)} and a log-determinant {tuple(j.shape)}, "
                    f"expected {w} and ({n},).\nSum a log-determinant over the event, not over the batch."
                ),
            )
            finite = bool(out.isfinite().all()) and bool(logdet.isfinite().all())
            require(finite, lambda d=direction: f"{subject} breaks the law 'shapes': {d} gives NaN or infinite numbers.")  # type: ignore[misc]
    return Outcome(f"z {tuple(subject.z.shape)}, log-determinant ({n},)")


def round_trip(subject: Subject) -> Outcome:
    """f⁻¹(f(z)) = z, f(f⁻¹(x)) = x, and the log-determinants are opposite."""
    t, tolerance = subject.transform, subject.tolerance
    if not (subject.goes("forward") and subject.goes("inverse")) or t.stochastic_inverse:
        return Outcome("one direction, or z is drawn given x, by nature", checked=False)
    z, c = subject.value("forward")
    x, up = subject.run("forward", z, c)
    back, down = subject.run("inverse", x, c)
    error = require_close(subject, "round trip", back, z, tolerance, tolerance, ("f⁻¹(f(z)) is", "z"))
    require_close(
        subject,
        "round trip",
        up,
        -down,
        100 * tolerance,
        100 * tolerance,
        ("the log-determinant of forward is", "minus that of inverse"),
    )
    if not t.stochastic_forward:
        again, _ = subject.run("forward", back, c)
        require_close(subject, "round trip", again, x, 100 * tolerance, 100 * tolerance, ("f(f⁻¹(x)) is", "x"))
    return Outcome(f"largest difference {error:.1e}")


def logdet_of_jacobian(function: Callable[..., tuple[Tensor, Tensor]], value: Tensor, context: Tensor | None) -> Tensor:
    """log|det| of the autograd Jacobian, row by row."""
    rows = []
    for i in range(len(value)):
        own = None if context is None else context[i : i + 1]
        matrix = torch.autograd.functional.jacobian(lambda v, own=own: function(v[None], own)[0].flatten(), value[i])
        rows.append(matrix.reshape(value[i].numel(), value[i].numel()).slogdet()[1])
    return torch.stack(rows)


def log_determinant(subject: Subject) -> Outcome:
    """The log-determinant is that of the Jacobian, in both directions."""
    if subject.drawn:
        return Outcome("a likelihood contribution, not a log-determinant", checked=False)
    worst = 0.0
    for direction, close in (("forward", 1e-6), ("inverse", 1e-5)):
        if subject.goes(direction):
            value, c = subject.value(direction, slice(3))
            _, logdet = subject.run(direction, value, c)
            truth = logdet_of_jacobian(lambda v, own, d=direction: subject.run(d, v, own), value, c)
            said = (f"{direction}_and_logdet returned", "log|det| of the Jacobian is")
            worst = max(worst, require_close(subject, "log-determinant", logdet.detach(), truth, close, close, said))
    return Outcome(f"largest difference from the Jacobian's {worst:.1e}")


def rows(subject: Subject) -> Outcome:
    """What stands in one row, NaN and infinities too, changes no other row."""
    if subject.drawn:
        return Outcome("it draws", checked=False)
    others = [i for i in range(len(subject.z)) if i != 1]
    for direction in DIRECTIONS:
        if subject.goes(direction):
            good, c = subject.value(direction)
            expected, logdet = subject.run(direction, good, c)
            for bad in (torch.nan, torch.inf, None):
                spoilt = good.clone()
                spoilt[1] = good[0] if bad is None else bad
                got, got_logdet = subject.run(direction, spoilt, c)
                said = (f"{direction}, with another row 1, gives", "before it gave")
                require_close(subject, "rows", got[others], expected[others], 1e-7, 1e-7, said)
                require_close(subject, "rows", got_logdet[others], logdet[others], 1e-7, 1e-7, said)
    return Outcome("a row changes no other")


def batches(subject: Subject) -> Outcome:
    """A batch of none and a batch of one, also while training."""
    for n in (0, 1):
        copied = copy.deepcopy(subject.transform).train()
        for direction in DIRECTIONS:
            if subject.goes(direction):
                value, c = subject.value(direction, slice(n))
                out, logdet = getattr(copied, f"{direction}_and_logdet")(value, c)
                fits = len(out) == n and tuple(logdet.shape) == (n,) and not bool(out.isnan().any() | logdet.isnan().any())
                require(fits, lambda d=direction, n=n: f"{subject} breaks the law 'batches': {d} of a batch of {n} is not one.")  # type: ignore[misc]
    return Outcome("of none and of one")


def dtype(subject: Subject) -> Outcome:
    """What comes out has the type of what goes in."""
    for kind in (torch.float32, torch.float64):
        copied = copy.deepcopy(subject.transform).to(kind)
        for direction in DIRECTIONS:
            if subject.goes(direction):
                value, c = subject.value(direction)
                out, logdet = getattr(copied, f"{direction}_and_logdet")(value.to(kind), None if c is None else c.to(kind))
                require(
                    out.dtype == logdet.dtype == kind,
                    lambda d=direction, o=out, j=logdet, k=kind: (  # type: ignore[misc]
                        f"{subject} breaks the law 'dtype': {d} of {k} gives {o.dtype}, log-determinant {j.dtype}.\n"
                        "Make constants buffers (register_buffer), or make them with the value: torch.zeros_like(z)."
                    ),
                )
    return Outcome("float32, float64")


def device(subject: Subject) -> Outcome:
    """Every tensor follows ``.to(device)``: looked at on the meta device, which computes shapes only."""
    seen = []
    for direction in DIRECTIONS:
        if getattr(subject.transform, f"{direction}_cost") != "one pass":
            continue  # a search looks at its values, which the meta device has not
        value, c = subject.value(direction)
        moved = copy.deepcopy(subject.transform).to("meta")
        out, logdet = getattr(moved, f"{direction}_and_logdet")(value.to("meta"), None if c is None else c.to("meta"))
        require(
            out.device.type == logdet.device.type == "meta",
            lambda d=direction: f"{subject} breaks the law 'device': {d} gives tensors of another device than those it takes.",  # type: ignore[misc]
        )
        seen.append(direction)
    return Outcome(" and ".join(seen)) if seen else Outcome("no direction is one pass", checked=False)


def gradients(subject: Subject) -> Outcome:
    """Both directions give finite gradients to the weights, the context and the input, none of them zero everywhere."""
    if subject.at_start:
        return Outcome("looked at with noise on the weights", checked=False)
    count = 0
    for direction in DIRECTIONS:
        if not subject.goes(direction):
            continue
        t = copy.deepcopy(subject.transform)
        value, c = subject.value(direction)
        value, c = value.requires_grad_(), None if c is None else c.requires_grad_()
        out, logdet = getattr(t, f"{direction}_and_logdet")(value, c)
        total = (out * torch.randn_like(out)).sum() + (logdet * torch.randn_like(logdet)).sum()
        if total.requires_grad:
            total.backward()
        needed = {n: p for n, p in t.named_parameters() if p.requires_grad and not any(part in n for part in subject.exempt)}
        if c is not None:
            needed["the context"] = c  # type: ignore[assignment]
        if t.differentiable or direction == "inverse":
            require(
                value.grad is not None,
                lambda d=direction: f"{subject} breaks the law 'gradients': none reaches the input of {d}.",  # type: ignore[misc]
            )
        for name, weight in needed.items():
            grad = weight.grad
            require(
                grad is not None and bool(grad.isfinite().all()) and bool((grad != 0).any()),
                lambda n=name, g=grad, d=direction: (  # type: ignore[misc]
                    f"{subject} breaks the law 'gradients': {d} gives {n} "
                    f"{'no gradient' if g is None or bool((g == 0).all()) else 'a gradient that is not finite'}.\n"
                    "Is something detached, or a tensor made anew (torch.tensor(...), .item(), .data)?"
                ),
            )
        count = len(needed)
    return Outcome(f"reach {count} tensors" if count else "it has no weights and no context")


def copies(subject: Subject) -> Outcome:
    """deepcopy, pickle and state_dict keep the map."""
    direction = "forward" if subject.goes("forward") else "inverse"
    value, c = subject.value(direction)

    def run(which: Transform) -> Tensor:
        torch.manual_seed(3)
        with torch.no_grad():
            result: Tensor = getattr(which, direction)(value, c)
        return result

    expected = run(subject.transform)
    require_close(
        subject, "copies", run(copy.deepcopy(subject.transform)), expected, 1e-12, 1e-12, ("a deepcopy gives", "the original")
    )
    other = copy.deepcopy(subject.transform)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(torch.randn_like(weight))
    buffer = io.BytesIO()
    torch.save(subject.transform.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    require_close(
        subject, "copies", run(other), expected, 1e-12, 1e-12, ("with its state_dict loaded it gives", "the original")
    )
    again = pickle.loads(pickle.dumps(subject.transform))
    require_close(subject, "copies", run(again), expected, 1e-12, 1e-12, ("pickled and read back it gives", "the original"))
    return Outcome("deepcopy, pickle, state_dict")


def training(subject: Subject) -> Outcome:
    """In training mode the map is the same: no dropout, no statistics of the batch."""
    if subject.transform.uses_the_batch:
        return Outcome("it uses the batch while training, and says so", checked=False)
    for direction in DIRECTIONS:
        if subject.goes(direction):
            value, c = subject.value(direction)
            t = copy.deepcopy(subject.transform).train()
            with torch.no_grad():
                getattr(t, direction)(value, c)  # what initialises itself from its first batch has done so now
                results = []
                for mode in (False, True):
                    torch.manual_seed(3)
                    results.append(getattr(t.train(mode), direction)(value, c))
            said = (f"{direction} while training gives", "evaluation")
            require_close(subject, "training", results[1], results[0], 1e-7, 1e-7, said)
    return Outcome("computes the same as evaluation")


LAWS: dict[str, Callable[[Subject], Outcome]] = {
    "shapes": shapes,
    "round trip": round_trip,
    "log-determinant": log_determinant,
    "rows": rows,
    "batches": batches,
    "dtype": dtype,
    "device": device,
    "gradients": gradients,
    "copies": copies,
    "training": training,
}
