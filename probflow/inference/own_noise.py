"""log q(z) at a draw z ~ q, from the noise that the draw was made of: of z = μ + σ ε it is -½ ε² - log σ - ½ log 2π.

So ELBOs and importance weights are written by hand.  It takes fewer operations than going back from z to ε, and is exact where
σ is small beside μ.  The steps of a plan stay as they are; this is how they are executed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from probflow.distributions.family import Family
from probflow.inference.ops import Density, Draw, Item, NoiseDensity, NoisyDraw
from probflow.inference.steps import Step


def with_noise(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The same steps; draws keep their noise where the density of what they draw is asked of the same distribution."""
    made = {step.out: step for step in steps}
    changed: dict[int, Step] = {}
    for step in steps:
        drawn = _drawn(step, made)
        if drawn is None:
            continue
        changed[drawn.out] = replace(drawn, run=NoisyDraw(drawn.run.shape))  # type: ignore[attr-defined]
        density = NoiseDensity(step.run)  # type: ignore[arg-type]
        total = None if step.total is None else density.total
        changed[step.out] = replace(step, run=density, args=(step.args[0], drawn.out), total=total)
    return tuple(changed.get(step.out, step) for step in steps)


def _drawn(step: Step, made: dict[int, Step]) -> Step | None:
    """The step that draws the value of this log-density, from the distribution whose density it is."""
    op = step.run
    if not isinstance(op, Density) or not op.negated or op.check or len(step.args) != 2 or step.info is None:
        return None
    (factor,) = step.info.about
    item = made.get(step.args[1])
    if item is None or not isinstance(item.run, Item) or not isinstance(factor.kind, Family) or factor.kind.noise_nll is None:
        return None
    drawn = made[item.args[0]]
    return drawn if isinstance(drawn.run, Draw) and drawn.args[0] == step.args[0] else None
