"""Forms that are made of others: point masses, flows, mixtures; and the library's own object where there is no short form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from probflow.inference.codegen.families import atom
from probflow.inference.codegen.forms import Drawn, Form, Request, Unreadable
from probflow.inference.codegen.values import Code, Front, common, spread, tuple_code

if TYPE_CHECKING:
    from probflow.inference.codegen.writer import Writer


@dataclass(frozen=True)
class PointForm(Form):
    """A point mass: variables that are functions of others."""

    values: tuple[Code, ...]

    def log_prob(self, to: Writer, values: Sequence[Code], negative: bool) -> Code:
        raise Unreadable(self.slot)

    def draw(self, to: Writer, how: Request) -> Drawn:
        if how.depths:
            raise Unreadable(self.slot)
        front = (*how.outer, *self.inner_front(how))
        drawn = tuple(spread(value, front) for value in self.values)
        if not how.pathwise:
            drawn = tuple(replace(value, code=f"{atom(value.code)}.detach()") for value in drawn)
        return Drawn(tuple(replace(v, code=to.assign(n, v.code)) for n, v in zip(how.names, drawn, strict=True)))

    def aligned(self, depths: Sequence[int]) -> PointForm:
        values = tuple(value.aligned(depths) for value in self.values)
        return replace(self, values=values, front=values[0].front)


@dataclass(frozen=True)
class FlowForm(Form):
    """A flow: x = f(z; context), z ~ base."""

    flow: str
    base: Form
    context: Code | None

    def _call(self, to: Writer, method: str, value: Code) -> tuple[str, Front]:
        front = common(value.front, () if self.context is None else self.context.front)
        arguments = [to.folded(value, front)] + ([] if self.context is None else [to.folded(self.context, front)])
        return f"{self.flow}.transform.{method}({', '.join(arguments)})", front

    def terms(self, to: Writer, value: Code, negative: bool = False) -> tuple[Code, Code]:
        """log p_z(f⁻¹(x)), or its negative, and log|det ∂f⁻¹/∂x|."""
        call, front = self._call(to, "inverse_and_logdet", value)
        to.comment("change of variables: z = f⁻¹(x), log p(x) = log p_z(z) + log|det ∂f⁻¹/∂x|")
        z, logdet = (Code(to.unfolded(name, front), front) for name in to.assign_pair("noise", "logdet", call))
        return self.base.log_prob(to, [z], negative), logdet

    def log_prob(self, to: Writer, values: Sequence[Code], negative: bool) -> Code:
        noise, logdet = self.terms(to, values[0], negative)
        return Code(f"{noise.code} {'-' if negative else '+'} {logdet.code}", common(noise.front, logdet.front))

    def draw(self, to: Writer, how: Request) -> Drawn:
        if how.depths:
            raise Unreadable(self.slot)
        # every sample of the flow has noise of its own, also where the base does not depend on what the flow depends on
        if self.base.front and self.base.front != self.front:
            raise Unreadable(self.slot)
        base = replace(self.base, front=self.front)
        (noise,) = base.draw(to, replace(how, names=("noise",), terms=False)).values
        (name,) = how.names
        if not how.terms:
            call, front = self._call(to, "forward", noise)
            code = to.unfolded(call, front)
            return Drawn((Code(to.assign(name, code if how.pathwise else f"{atom(code)}.detach()"), front),))
        density = base.log_prob(to, [noise], False)
        call, front = self._call(to, "forward_and_logdet", noise)
        to.comment("change of variables along the draw: log p(x) = log p_z(z) - log|det ∂f/∂z|")
        x, logdet = to.assign_pair(name if len(front) == 1 else f"{name}_rows", "logdet", call)
        if len(front) > 1:
            x = to.assign(name, to.unfolded(x, front))
        return Drawn((Code(x, front),), (density, Code(f"-{atom(to.unfolded(logdet, front))}", front)))

    def aligned(self, depths: Sequence[int]) -> FlowForm:
        context = None if self.context is None else self.context.aligned(depths)
        return replace(self, context=context, base=self.base.aligned(depths) if self.base.front else self.base,
                       front=Code("", self.front).aligned(depths).front if self.front else ())  # fmt: skip


@dataclass(frozen=True)
class MixtureForm(Form):
    """A mixture, its components evaluated one after the other."""

    log_weights: Code
    """``(*front, K)``."""

    components: tuple[Form, ...]

    def log_prob(self, to: Writer, values: Sequence[Code], negative: bool) -> Code:
        to.comment("mixture: log p(x) = log Σ_k π_k p_k(x)")
        terms = [component.log_prob(to, values, False) for component in self.components]
        terms = [replace(term, code=to.assign(f"log_p_{place}", term.code)) for place, term in enumerate(terms)]
        front = common(*(term.front for term in terms))
        parts = [term.code if term.front == front else f"{atom(term.code)}.expand({tuple_code(front)})" for term in terms]
        stacked = to.assign("log_components", f"torch.stack([{', '.join(parts)}], -1)")
        code = f"({self.log_weights.code} + {stacked}).logsumexp(-1)"
        return Code(f"-{code}" if negative else code, common(front, self.log_weights.front))

    def draw(self, to: Writer, how: Request) -> Drawn:
        raise Unreadable(self.slot)

    def aligned(self, depths: Sequence[int]) -> MixtureForm:
        if self.log_weights.front:
            raise Unreadable(self.slot)
        return replace(self, components=tuple(c.aligned(depths) for c in self.components),
                       front=Code("", self.front).aligned(depths).front if self.front else ())  # fmt: skip


@dataclass(frozen=True)
class ObjectForm(Form):
    """A distribution that has no short form: the library's own, bound to its inputs."""

    code: str

    def log_prob(self, to: Writer, values: Sequence[Code], negative: bool) -> Code:
        arguments = tuple_code([value.code for value in values]) if values else "()"
        leads = tuple(value.lead for value in values)
        front = common(self.front, *(value.front for value in values))
        return Code(f"{self.code}.{'neg_' if negative else ''}log_prob({arguments}, {leads})", front)

    def draw(self, to: Writer, how: Request) -> Drawn:
        if how.depths:
            raise Unreadable(self.slot)
        method = "draw_with_terms" if how.terms else "draw"
        outer = tuple_code(how.outer) if how.outer else "()"
        front = (*how.outer, *self.inner_front(how))
        call = f"{self.code}.{method}({outer}, {how.batch}, {how.pathwise})"
        terms: tuple[Code, ...] = ()
        if how.terms:
            drawn, made = to.assign_pair("drawn", "terms", call)
            terms = (Code(f"sum({made})", front),)
        else:
            drawn = to.assign("drawn", call)
        names = [to.assign(n, f"{drawn}[{i}]" if how.pathwise else f"{drawn}[{i}].detach()") for i, n in enumerate(how.names)]
        return Drawn(tuple(Code(n, front) for n in names), terms)

    def aligned(self, depths: Sequence[int]) -> ObjectForm:
        code = self.code
        for depth in depths:
            code = f"{code}.insert({depth})"
        return replace(self, code=code, front=Code("", self.front).aligned(depths).front if self.front else ())
