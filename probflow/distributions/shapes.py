"""The shape that tensors have in common.  ``torch.broadcast_shapes`` says the same and takes 25 microseconds to say it."""

from __future__ import annotations

from collections.abc import Sequence

from probflow._typing import Shape
from probflow.errors import ShapeError
from probflow.printing import shape_text


def broadcast(*shapes: Sequence[int]) -> Shape:
    """The broadcast of `shapes`, aligned from the right.

    >>> broadcast((5, 1, 3), (4, 1)), broadcast()
    ((5, 4, 3), ())
    """
    result = tuple(shapes[0]) if shapes else ()
    for shape in shapes[1:]:
        if tuple(shape) == result:
            continue
        short, long = (shape, result) if len(shape) <= len(result) else (result, shape)
        first = len(long) - len(short)
        merged = list(long)
        for place, size in enumerate(short, first):
            if merged[place] != size and size != 1:
                if merged[place] != 1:
                    raise ShapeError(f"the shapes {', '.join(map(shape_text, shapes))} do not broadcast.")
                merged[place] = size
        result = tuple(merged)
    return result
