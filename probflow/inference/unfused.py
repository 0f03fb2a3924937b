"""What the compiler is told to do differently: the bias of a layer is added by the kernel that follows."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import fx


@cache
def unfused_bias() -> Any:
    """A pass of inductor over its graph, from ``addmm`` to ``mm`` and an addition, on the CPU and where all that follows is elementwise
    and reads every row once.

    A CPU's ``addmm`` first writes the bias to every row of the result, while the kernel of the activation behind it adds the
    bias for nothing.  On accelerators, whose ``addmm`` adds it at the end, the compiler decides the same question by itself.
    """
    from torch._inductor.custom_graph_pass import CustomGraphPass, get_hash_for_files  # the compiler takes a second to import

    class UnfusedBias(CustomGraphPass):
        def __call__(self, graph: fx.Graph) -> None:
            for node in graph.find_nodes(op="call_function", target=torch.ops.aten.addmm.default):
                _unfuse(graph, node)

        def uuid(self) -> bytes:
            return get_hash_for_files((__file__,))

    return UnfusedBias()


def _unfuse(graph: fx.Graph, node: fx.Node) -> None:
    bias, left, right = node.args
    held = bias.meta["val"] if isinstance(bias, fx.Node) else None
    if (
        node.kwargs
        or held is None
        or held.dim() != 1
        or held.device.type != "cpu"
        or not all(_row_by_row(user, node) for user in node.users)
    ):
        return
    with graph.inserting_before(node):
        product = graph.call_function(torch.ops.aten.mm.default, (left, right))
        whole = graph.call_function(torch.ops.aten.add.Tensor, (product, bias))
    product.meta["val"], whole.meta = node.meta["val"], dict(node.meta)
    node.replace_all_uses_with(whole)
    graph.erase_node(node)


def _row_by_row(user: fx.Node, node: fx.Node) -> bool:
    """Whether an op is elementwise and no larger than `node`: what is read for many samples has its bias added once, before."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    if not isinstance(user.target, torch._ops.OpOverload) or torch.Tag.pointwise not in user.target.tags:
        return False
    ours, theirs = node.meta["val"].shape, getattr(user.meta.get("val"), "shape", ())
    return len(ours) == len(theirs) and all(statically_known_true(a == b) for a, b in zip(ours, theirs, strict=True))
