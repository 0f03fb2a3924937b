"""What a distribution with its inputs filled in is in generated code: its parameters as expressions, its density and its draw."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from probflow._typing import Shape
from probflow.distributions.families.bernoulli import Bernoulli
from probflow.distributions.families.categorical import Categorical
from probflow.distributions.family import Family
from probflow.inference.codegen.families import (
    WRITTEN,
    Written,
    atom,
    is_number,
    torch_name,
    torch_object,
)
from probflow.inference.codegen.values import Code, Front, common, tuple_code

if TYPE_CHECKING:
    from probflow.inference.codegen.writer import Writer


_NO_ROW = Written()


class Unreadable(Exception):
    """An op of this slot has no short form: the distribution behind it must be written with the library's own bind."""

    def __init__(self, slot: int) -> None:
        super().__init__(slot)
        self.slot = slot


@dataclass(frozen=True)
class Drawn:
    """The values of a draw, by place, and the terms of their log-density where they come along."""

    values: tuple[Code, ...]
    terms: tuple[Code, ...] = ()


@dataclass(frozen=True)
class Request:
    """How a draw is made: sizes of new outer sample dimensions, places and sizes of inner ones, with gradient or without."""

    outer: Front
    depths: tuple[int, ...]
    sizes: Front
    pathwise: bool
    names: tuple[str, ...]
    batch: str
    terms: bool = False


@dataclass(frozen=True)
class Form(ABC):
    """A bound distribution.  `slot` is that of the op that made it."""

    slot: int
    name: str
    front: Front

    @abstractmethod
    def log_prob(self, to: Writer, values: Sequence[Code], negative: bool) -> Code:
        """The log-density as an expression, or its negative."""

    @abstractmethod
    def draw(self, to: Writer, how: Request) -> Drawn:
        """Lines that draw."""

    @abstractmethod
    def aligned(self, depths: Sequence[int]) -> Form:
        """With singleton sample dimensions."""

    def inner_front(self, how: Request) -> Front:
        """The sizes of a draw's dimensions without the new outer ones."""
        front = self.front or ("1",)
        for depth, size in zip(how.depths, how.sizes, strict=True):
            place = len(front) - 1 - depth
            front = (*front[:place], size, *front[place + 1 :]) if 0 <= place < len(front) - 1 else front
        return (*front[:-1], how.batch)


@dataclass(frozen=True)
class FamilyForm(Form):
    """A family with its parameters."""

    family: Family
    params: dict[str, Code]
    extra: int | None = None
    """Event dimensions beyond one event of the family, where they are known."""

    event: Shape | None = None
    one_shape: bool = False
    """Whether all parameters that are tensors have one shape."""

    kind: str = ""
    """dtype and device of constants, where they are not torch's defaults."""

    @property
    def written(self) -> Written:
        """The row of the table; an empty one for a family that is written with its torch class."""
        return WRITTEN.get(self.family, _NO_ROW)

    @property
    def codes(self) -> dict[str, str]:
        """The parameters' expressions."""
        return {name: value.code for name, value in self.params.items()}

    def torch(self, what: str = "", whole: bool = False) -> str:
        """The object of ``torch.distributions``; `whole` where nothing else brings the shape of the event."""
        name = torch_name(self.family, what)
        if name is None:
            raise Unreadable(self.slot)
        codes = self.codes
        if self.written.tensors:
            codes = {key: f"torch.tensor({code})" if is_number(code) else code for key, code in codes.items()}
        made = torch_object(name, codes)
        if whole and not self.front and self.event and self.extra:
            made += f".expand({tuple_code([str(size) for size in self.event[: self.extra]])})"
        return made

    def log_prob(self, to: Writer, values: Sequence[Code], negative: bool) -> Code:
        (value,) = values
        front = common(self.front, value.front)
        row = self.written
        seen = to.given.get(value.code)
        if self.family is Bernoulli.family and seen is not None and seen.dtype is not None and not seen.dtype.is_floating_point:
            value = Code(f"{value.code}.to({next(iter(self.params.values())).code}.dtype)", value.front)
        if row.negative is not None:
            shown = self._one_shape(row.negative(self.codes, value.code), value)
            code = to.event_sum(shown, front, self.extra)
            return Code(code if negative else f"-{atom(code)}", front)
        if self.family is Categorical.family and value.code in to.given:
            value = self._one_hot(to, value)
        if row.log_prob is not None:
            code = row.log_prob(self.codes, value.code)
        else:
            code = f"{self.torch()}.log_prob({value.code})"
        code = to.event_sum(code, front, self.extra)
        return Code(f"-{atom(code)}" if negative else code, front)

    def _one_hot(self, to: Writer, value: Code) -> Code:
        """Data may be class indices."""
        seen, parameter = to.given[value.code], next(iter(self.params.values())).code
        if seen is None:
            to.helpers.setdefault("one_hot")
            return Code(f"one_hot({value.code}, {parameter}, {len(value.front)})", value.front)
        if seen.dtype is None or seen.shape is None or seen.dtype.is_floating_point:
            return value
        indices = len(seen.shape) == len(value.front) + (self.extra or 0)
        code = f"F.one_hot({value.code}.long(), {parameter}.shape[-1])" if indices else value.code
        return Code(f"{code}.to({parameter}.dtype)", value.front)

    def _one_shape(self, code: str, value: Code) -> str:
        """torch's cross-entropies do not broadcast."""
        parameter = next(iter(self.params.values()))
        if self.family is not Bernoulli.family or parameter.front == value.front:
            return code
        given = f"({parameter.code}, {value.code}, "
        if parameter.front == common(parameter.front, value.front):
            return code.replace(given, f"({parameter.code}, {atom(value.code)}.expand_as({parameter.code}), ")
        first = f"torch.as_tensor({parameter.code})" if is_number(parameter.code) else parameter.code
        return code.replace(given, f"(*torch.broadcast_tensors({first}, {value.code}), ")

    def draw(self, to: Writer, how: Request) -> Drawn:
        form = self.aligned(how.depths)
        inner = form.inner_front(how)
        if self.written.draw is None:
            return form._draw_torch(to, how, inner)
        front = (*how.outer, *inner)
        noise = to.assign("noise", form._noise(front))
        code = self.written.draw(form.codes, noise)
        return Drawn((Code(to.assign(how.names[0], code if how.pathwise else f"{atom(code)}.detach()"), front),))

    def _noise(self, front: Front) -> str:
        tensors = [value for value in self.params.values() if not is_number(value.code)]
        own = common(*(value.front for value in tensors))
        kind = f", dtype={tensors[0].code}.dtype, device={tensors[0].code}.device" if tensors else self.kind
        if not own:
            if self.event is None:
                raise Unreadable(self.slot)
            sizes = tuple_code([*front, *map(str, self.event)])
        else:
            if len(tensors) == 1 or self.one_shape:
                shape = f"{atom(tensors[0].code)}.shape"
            else:
                shape = f"torch.broadcast_shapes({', '.join(f'{value.code}.shape' for value in tensors)})"
            if own == front:
                sizes = shape
            elif own == front[len(front) - len(own) :]:
                sizes = tuple_code([*front[: len(front) - len(own)], f"*{shape}"])
            else:
                sizes = tuple_code([*front, f"*{shape}[{len(own)}:]"])
        if self.written.noise == "exponential":
            return f"torch.empty({sizes}{kind}).exponential_()"
        return f"torch.{self.written.noise}({sizes}{kind})"

    def _draw_torch(self, to: Writer, how: Request, inner: Front) -> Drawn:
        code = self.torch("draw")
        own = common(*(value.front for value in self.params.values()))
        if own != inner:
            if own:
                variable = to.assign("d", code)
                code = f"{variable}.expand({tuple_code([*inner, f'*{variable}.batch_shape[{len(own)}:]'])})"
            else:
                if self.event is None or self.extra is None:
                    raise Unreadable(self.slot)
                code = f"{code}.expand({tuple_code([*inner, *map(str, self.event[: self.extra])])})"
        method = "rsample" if how.pathwise else "sample"
        outer = tuple_code(how.outer) if how.outer else ""
        return Drawn((Code(to.assign(how.names[0], f"{code}.{method}({outer})"), (*how.outer, *inner)),))

    def detached(self) -> FamilyForm:
        """Its parameters as numbers, without gradient."""
        params = {
            name: value if is_number(value.code) else replace(value, code=f"{atom(value.code)}.detach()")
            for name, value in self.params.items()
        }
        return replace(self, params=params)

    def aligned(self, depths: Sequence[int]) -> FamilyForm:
        params = {name: value.aligned(depths) if value.front else value for name, value in self.params.items()}
        return replace(self, params=params, front=Code("", self.front).aligned(depths).front if self.front else ())
