r"""Variable elimination: exact sums over finite variables that cost the sum, not the product, of their state counts.

.. math:: \log \sum_{z_1, \dots, z_n} \exp \sum_i \phi_i(z_{s_i})

is computed one variable at a time: the terms that mention it are added into one table, which is summed over its states and
becomes a new term.  The order decides how large the tables get (Koller & Friedman, *Probabilistic Graphical Models*, 2009,
section 9.3 and, for min-fill, 9.4.3.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import networkx as nx
import torch
from torch import Tensor

from probflow.errors import NoDensity


class Table(NamedTuple):
    """A term over some of the finite axes: ``(*sizes of axes, *lead, batch)``, `axes` in falling order, with `lead` dimensions."""

    axes: tuple[int, ...]
    lead: int
    values: Tensor


def min_fill_order(
    scopes: Iterable[Iterable[int]], sizes: Sequence[int], kept: Iterable[int] = ()
) -> tuple[tuple[int, ...], int]:
    """The order in which to sum out every axis that is not `kept`, and the number of entries of the largest table on the way.

    Greedy min-fill: next comes the axis whose neighbours lack the fewest edges between them; among equals the one with the
    smallest table, then the first.  Optimal for chains and trees; to find the best order in general is NP-hard.

    scopes: the axes that each term depends on.  sizes: the number of states of each axis.

    >>> chain = [(0,), (0, 1), (1, 2), (2, 3)]
    >>> min_fill_order(chain, [5, 5, 5, 5])
    ((0, 1, 2, 3), 25)
    >>> min_fill_order([(0, 1, 2)], [2, 3, 4], kept=[2])
    ((0, 1), 24)
    """
    return _known_order(tuple([tuple(scope) for scope in scopes]), tuple(sizes), tuple(kept))


@torch.compiler.assume_constant_result  # a trace keeps the answer; it cannot look into networkx
def _known_order(
    scopes: tuple[tuple[int, ...], ...], sizes: tuple[int, ...], kept: tuple[int, ...]
) -> tuple[tuple[int, ...], int]:
    return _order(scopes, sizes, kept)


@lru_cache(maxsize=256)  # an evaluation asks anew each time; the answer depends on the graph alone
def _order(scopes: tuple[tuple[int, ...], ...], sizes: tuple[int, ...], kept: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from(axis for scope in scopes for axis in scope)
    graph.add_edges_from(pair for scope in scopes for pair in combinations(scope, 2))
    largest = max((math.prod(sizes[axis] for axis in scope) for scope in scopes), default=1)
    order: list[int] = []
    costs = {axis: _cost(graph, sizes, axis) for axis in graph if axis not in kept}
    while costs:
        axis = min(costs, key=costs.__getitem__)
        largest = max(largest, costs.pop(axis)[1])
        neighbours = list(graph[axis])
        graph.remove_node(axis)
        graph.add_edges_from(combinations(neighbours, 2))
        order.append(axis)
        touched = {*neighbours, *(other for near in neighbours for other in graph[near])}
        costs.update((other, _cost(graph, sizes, other)) for other in touched & costs.keys())
    return tuple(order), largest


def _cost(graph: nx.Graph[int], sizes: Sequence[int], axis: int) -> tuple[int, int, int]:
    """(missing edges between its neighbours, entries of the table that summing it out makes, the axis)."""
    near = list(graph[axis])
    fill = sum(not graph.has_edge(a, b) for a, b in combinations(near, 2))
    return fill, sizes[axis] * math.prod(sizes[other] for other in near), axis


def eliminate(
    tables: Sequence[Table], sizes: Sequence[int], kept: Sequence[int], most: int, what: Callable[[], str]
) -> tuple[list[Table], list[tuple[int, Table]]]:
    """Terms over the `kept` axes whose sum is log Σ exp of the sum of `tables` over all the others.

    Also what was summed on the way: (axis, the sum of the terms that mentioned it), in the order of elimination.

    Errors: NoDensity where such a table would have more than `most` entries per batch element; `what` says of what.
    """
    order, largest = min_fill_order([table.axes for table in tables], sizes, kept)
    if largest > most:
        raise NoDensity(f"{what()}: more than {most} joint states in one table.\nUse a bound instead: ELBO(p, q).")
    left = list(tables)
    buckets: list[tuple[int, Table]] = []
    for axis in order:
        buckets.append((axis, added([table for table in left if axis in table.axes])))
        left = [table for table in left if axis not in table.axes]
        left.append(_summed(buckets[-1][1], axis))
    return left, buckets


def added(tables: Sequence[Table]) -> Table:
    """The sum of terms, small ones first, over all of their axes."""
    if len(tables) == 1:
        return tables[0]
    axes = tuple(sorted({axis for table in tables for axis in table.axes}, reverse=True))
    lead = max([table.lead for table in tables])
    lined = sorted((aligned(table.values, table.axes, table.lead, axes, lead) for table in tables), key=Tensor.numel)
    total = lined[0]
    for values in lined[1:]:
        total = total + values
    return Table(axes, lead, total)


def aligned(values: Tensor, own: tuple[int, ...], own_lead: int, axes: tuple[int, ...], lead: int) -> Tensor:
    """``(*own, *own_lead, ...)`` as ``(*axes, *lead, ...)``, with 1 for what it does not depend on."""
    if own == axes and own_lead == lead:
        return values
    places = iter(values.shape[: len(own)])
    front = [next(places) if axis in own else 1 for axis in axes]
    return values.reshape(*front, *[1] * (lead - own_lead), *values.shape[len(own) :])


def _summed(table: Table, axis: int) -> Table:
    """log Σ exp over one axis."""
    place = table.axes.index(axis)
    axes = table.axes[:place] + table.axes[place + 1 :]
    if not axes:
        return Table(axes, table.lead, table.values.logsumexp(place))
    # A state that nothing allows (a forbidden transition) makes a whole row -inf, where the gradient of logsumexp is NaN.
    lowest = torch.finfo(table.values.dtype).min
    sums = table.values.clamp_min(lowest).logsumexp(place)
    return Table(axes, table.lead, torch.where(sums > lowest / 2, sums, -torch.inf).where(~sums.isnan(), sums))
