"""The factor graph: orders, relatives, independence (against brute force), drawings, and errors as whole texts."""

from __future__ import annotations

import copy
import itertools
import os
import pickle
import random
import subprocess
import sys
from typing import Any

import networkx as nx
import pytest

from probflow.errors import ArgumentError, CycleError, DuplicateVariable, UnknownVariable
from probflow.graph import FactorGraph, Statement, parse


def graph_of(*statements: str) -> FactorGraph:
    return FactorGraph(parse(s) for s in statements)


HIERARCHY = ("p(x|z1,y)", "p(z1|z2)", "p(z2)")


# --- construction ---------------------------------------------------------------------------------------------------


def test_names_keep_the_authors_order():
    graph = graph_of("p(x|z,c)", "p(w|b,z)", "p(z|a,c)")
    assert graph.factors == (parse("p(x|z,c)"), parse("p(w|b,z)"), parse("p(z|a,c)"))
    assert graph.var == ("x", "w", "z")
    assert graph.cond_var == ("c", "b", "a")
    assert [graph.factor_of(v) for v in ("x", "w", "z", "c", "nothing")] == [0, 1, 2, None, None]


def test_one_variable_has_one_factor():
    with pytest.raises(DuplicateVariable) as error:
        graph_of("p(x|z)", "q(y,z|x_0)", "p(z)")
    assert str(error.value) == (
        "the variable 'z' is defined by two factors, q(y,z|x_0) and p(z).\n"
        'A product has one factor per variable. Rename one of them: .replace_var(z="...").'
    )


@pytest.mark.parametrize(
    ("statements", "circle", "factors"),
    [
        (["p(x|z)", "p(z|x)"], "x -> z -> x", "p(x|z), p(z|x)"),
        (["p(w)", "p(a|c,w)", "p(b|a)", "p(c|b)"], "a -> b -> c -> a", "p(a|c,w), p(b|a), p(c|b)"),
        (["p(a,b|c)", "p(c|b)"], "b -> c -> b", "p(a,b|c), p(c|b)"),
        # the shortest circle through its first variable, not the first that a search runs into
        (["p(a|d,b)", "p(b|a)", "p(c|a)", "p(d|c)"], "a -> b -> a", "p(a|d,b), p(b|a)"),
    ],
)
def test_a_circle_is_shown(statements, circle, factors):
    with pytest.raises(CycleError) as error:
        graph_of(*statements)
    assert str(error.value) == (
        f"the variables depend on each other in a circle: {circle}.\n"
        f"  factors: {factors}\n"
        "Each variable needs a factor whose conditioning variables can be known before it."
    )


def test_only_statements_are_factors():
    with pytest.raises(ArgumentError) as error:
        FactorGraph(["p(x)"])  # type: ignore[list-item]
    assert str(error.value) == "a FactorGraph is made of Statements, got str: parse(...) makes one."


def test_is_a_value():
    graph = graph_of(*HIERARCHY)
    assert graph == graph_of(*HIERARCHY) and hash(graph) == hash(graph_of(*HIERARCHY))
    assert graph != graph_of(*HIERARCHY[::-1]) and graph != graph.factors
    assert copy.deepcopy(graph) == pickle.loads(pickle.dumps(graph)) == graph
    assert pickle.loads(pickle.dumps(graph)).d_separated("x", "z2", "z1")
    assert repr(graph) == "FactorGraph(p(x|z1,y) p(z1|z2) p(z2))"
    for name in ("factors", "var", "something"):
        with pytest.raises(AttributeError):
            setattr(graph, name, ())


def test_the_networkx_copy_is_a_copy():
    graph = graph_of(*HIERARCHY)
    copied = graph.networkx()
    assert list(copied.nodes) == ["x", "z1", "z2", "y"]
    assert set(copied.edges) == {("z1", "x"), ("y", "x"), ("z2", "z1")}
    copied.remove_node("x")
    assert graph.children("z1") == ("x",)


def test_the_empty_product():
    graph = FactorGraph([])
    assert (graph.var, graph.cond_var, graph.order, graph.leaves(), graph.roles()) == ((), (), (), (), {})
    assert str(graph) == "the empty product"
    assert graph.product(graph_of("p(x)")) == graph_of("p(x)")


def test_a_factor_without_variables():
    graph = FactorGraph([Statement("p", (), ("x",)), parse("p(x)")])
    assert (graph.var, graph.cond_var, graph.order) == (("x",), (), (1, 0))


# --- order and relatives --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statements", "order"),
    [
        (["p(x|z)", "p(z)"], (1, 0)),
        (["p(z)", "p(x|z)"], (0, 1)),
        (["p(c)", "p(b)", "p(a)"], (0, 1, 2)),
        (["p(x|a,b)", "p(b)", "p(a)"], (1, 2, 0)),
        (["p(x|a)", "p(y)", "p(a)", "p(w|y)"], (1, 2, 0, 3)),
        (["p(a,b|c)", "p(d|a)", "p(c|e)"], (2, 0, 1)),
    ],
)
def test_order_is_ancestral_and_stable(statements, order):
    assert graph_of(*statements).order == order


def test_relatives():
    graph = graph_of("p(x|z1,y)", "p(z1|z2)", "p(z2|c)", "p(w,v|z2)")
    assert graph.parents("x") == ("z1", "y") and graph.parents("v") == ("z2",) and graph.parents("c") == ()
    assert graph.children("z2") == ("z1", "w", "v") and graph.children("y") == ("x",) and graph.children("x") == ()
    assert graph.ancestors("x") == {"z1", "z2", "c", "y"}
    assert graph.ancestors(["x", "z1"]) == {"z2", "c", "y"}  # strict: z1 is an ancestor of x, but named
    assert graph.ancestors(()) == graph.descendants([]) == graph.ancestors("c") == frozenset()
    assert graph.descendants("z2") == {"z1", "x", "w", "v"}
    assert graph.descendants({"z2", "z1"}) == {"x", "w", "v"}
    assert isinstance(graph.ancestors("x"), frozenset) and isinstance(graph.descendants("x"), frozenset)
    assert graph.leaves() == ("x", "w", "v")


def test_needed_for():
    graph = graph_of("p(x|z1,y)", "p(z1|z2)", "p(z2|c)", "p(w,v|z2)", "p(u|x)")
    assert graph.needed_for("x") == (0, 1, 2)
    assert graph.needed_for(["v", "z1"]) == (1, 2, 3)
    assert graph.needed_for("u") == (0, 1, 2, 4)
    assert graph.needed_for(["y", "c"]) == graph.needed_for([]) == ()
    assert graph_of("p(w|x)", "p(x,y|z)", "p(z)").needed_for("w") == (0, 1, 2)


def test_roles():
    graph = graph_of(*HIERARCHY)
    assert list(graph.roles().items()) == [("x", "latent"), ("z1", "latent"), ("z2", "latent"), ("y", "conditioned")]
    assert graph.roles(["x", "y"]) == {"x": "observed", "z1": "latent", "z2": "latent", "y": "conditioned"}


ASKS = {
    "parents": lambda g: g.parents("z_1"),
    "children": lambda g: g.children("z_1"),
    "ancestors": lambda g: g.ancestors(["x", "z_1"]),
    "descendants": lambda g: g.descendants("z_1"),
    "needed_for": lambda g: g.needed_for({"z_1"}),
    "roles": lambda g: g.roles("z_1"),
    "d_separated a": lambda g: g.d_separated("z_1", "x"),
    "d_separated b": lambda g: g.d_separated("x", "z_1"),
    "d_separated given": lambda g: g.d_separated("x", "y", "z_1"),
}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
def test_unknown_names(ask):
    with pytest.raises(UnknownVariable) as error:
        ask(graph_of(*HIERARCHY))
    assert str(error.value) == (
        "p(x,z1,z2|y) = p(x|z1,y) p(z1|z2) p(z2) has no variable 'z_1'; its variables: x, z1, z2, y. Did you mean 'z1'?"
    )


# --- d-separation ---------------------------------------------------------------------------------------------------


def test_the_three_shapes():
    chain, fork, collider = graph_of("p(c|b)", "p(b|a)", "p(a)"), graph_of("p(a|b)", "p(c|b)"), graph_of("p(b|a,c)", "p(d|b)")
    assert not chain.d_separated("a", "c") and chain.d_separated("a", "c", given="b")
    assert not fork.d_separated("a", "c") and fork.d_separated("a", "c", given=["b"])
    assert collider.d_separated("a", "c")
    assert not collider.d_separated("a", "c", given="b") and not collider.d_separated("a", "c", given="d")


def test_the_variables_of_one_factor_depend_on_each_other():
    graph = graph_of("p(x,y|z)", "p(w|y)")
    assert not graph.d_separated("x", "y") and not graph.d_separated("x", "y", given="z")
    assert not graph.d_separated("x", "w", given="z")
    assert graph.d_separated("x", "w", given="y")
    assert graph_of("p(x|z)", "p(y|z)").d_separated("x", "y", given="z")


def test_known_and_shared_variables():
    graph = graph_of("p(x|z)", "p(z)")
    assert graph.d_separated("x", "z", given="z")  # z is known
    assert graph.d_separated("x", "x", given="x")
    assert not graph.d_separated("x", "x", given="z")
    assert not graph.d_separated(["x", "z"], "x")
    assert graph.d_separated([], "x")


def blocked(graph: nx.DiGraph, path: list[str], given: set[str]) -> bool:
    """Pearl's definition, read off the page: a path is blocked by one of its inner nodes."""
    for before, node, after in zip(path, path[1:], path[2:], strict=False):
        if graph.has_edge(before, node) and graph.has_edge(after, node):
            if not (({node} | nx.descendants(graph, node)) & given):
                return True
        elif node in given:
            return True
    return False


def separated_by_brute_force(graph: nx.DiGraph, a: set[str], b: set[str], given: set[str]) -> bool:
    plain = graph.to_undirected()
    return all(blocked(graph, path, given) for u, v in itertools.product(a, b) for path in nx.all_simple_paths(plain, u, v))


def random_factors(rng: random.Random, nodes: int) -> list[Statement]:
    """Blocks of one to three variables in an ancestral order, then shuffled; the first nodes stay without a factor."""
    variables = [f"v{i}" for i in range(nodes)]
    roots = rng.randint(0, 2)
    factors, at = [], roots
    while at < nodes:
        size = rng.choice([1, 1, 1, 2, 3])
        before = variables[:at]
        factors.append(Statement("p", tuple(variables[at : at + size]), tuple(v for v in before if rng.random() < 0.4)))
        at += size
    rng.shuffle(factors)
    return factors


def chain_rule_graph(factors: list[Statement]) -> nx.DiGraph:
    """p(x,y|z) as p(x|z) p(y|x,z): another drawing of a joint factor than the one in the package."""
    graph: Any = nx.DiGraph()
    for factor in factors:
        for i, v in enumerate(factor.var):
            graph.add_nodes_from((*factor.cond_var, v))
            graph.add_edges_from((u, v) for u in factor.cond_var + factor.var[:i])
    return graph


def test_d_separation_is_path_blocking():
    rng = random.Random(0)
    answers = []
    for _ in range(80):
        factors = random_factors(rng, rng.randint(3, 7))
        graph, reference = FactorGraph(factors), chain_rule_graph(factors)
        for _ in range(20):
            names = sorted(graph.var + graph.cond_var)
            rng.shuffle(names)
            a, b, rest = set(names[:1]), set(names[1 : 1 + rng.randint(1, 2)]), names[3:]
            given = set(rest[: rng.randint(0, len(rest))])
            expected = separated_by_brute_force(reference, a, b, given)
            assert graph.d_separated(a, b, given) == graph.d_separated(b, a, given) == expected, (factors, a, b, given)
            answers.append(expected)
    assert 200 < sum(answers) < len(answers) - 200  # both answers occur often


def test_order_and_relatives_of_random_graphs():
    rng = random.Random(0)
    for _ in range(100):
        factors = random_factors(rng, rng.randint(1, 9))
        graph = FactorGraph(factors)
        known = set(graph.cond_var)
        assert sorted(graph.order) == list(range(len(factors)))
        for index in graph.order:
            assert known.issuperset(factors[index].cond_var)
            known.update(factors[index].var)
        for v in graph.var:
            needed = graph.needed_for(v)
            assert v in {w for i in needed for w in factors[i].var}
            assert {w for i in needed for w in factors[i].cond_var} <= graph.ancestors(v)
            assert all(v in graph.children(u) for u in graph.parents(v))
            assert all(v in graph.descendants(u) for u in graph.ancestors(v))


# --- rename, product ------------------------------------------------------------------------------------------------


def test_rename_replaces_all_at_once():
    graph = graph_of("p(x|z,y)", "p(z|w)")
    assert graph.rename({"x": "z", "z": "x"}) == graph_of("p(z|x,y)", "p(x|w)")
    assert graph.rename({"w": "y", "y": "w"}) == graph_of("p(x|z,w)", "p(z|y)")
    assert graph.rename({"x": "x_u", "nothing": "z"}) == graph_of("p(x_u|z,y)", "p(z|w)")
    assert graph.rename({}) == graph


@pytest.mark.parametrize(
    ("mapping", "first", "second", "name"),
    [
        ({"x": "z"}, "x", "z", "z"),
        ({"z": "y"}, "z", "y", "y"),  # p(x|y) p(y) would be another model
        ({"y": "w"}, "y", "w", "w"),
        ({"x": "a", "w": "a"}, "x", "w", "a"),
    ],
)
def test_rename_does_not_merge(mapping, first, second, name):
    with pytest.raises(DuplicateVariable) as error:
        graph_of("p(x|y)", "p(z|w)").rename(mapping)
    assert str(error.value) == (
        f"renaming would make {first!r} and {second!r} of p(x,z|y,w) = p(x|y) p(z|w) one variable, {name!r}."
    )


def test_product():
    assert graph_of("p(x|z)").product(graph_of("p(z|w)", "p(w)")) == graph_of("p(x|z)", "p(z|w)", "p(w)")
    with pytest.raises(DuplicateVariable, match=r"the variable 'z' is defined by two factors, q\(z\) and p\(z\)"):
        graph_of("q(z)").product(graph_of("p(z)"))
    with pytest.raises(CycleError, match="x -> z -> x"):
        graph_of("p(x|z)").product(graph_of("q(z|x)"))


# --- drawing --------------------------------------------------------------------------------------------------------

DRAWINGS = {
    ("p(x|z,y)", "p(z)"): """\
p(x,z|y) = p(x|z,y) p(z)
  y (given) --> x
  z         --> x""",
    ("p(x,w|z)", "p(z|u)", "p(u)"): """\
p(x,w,z,u) = p(x,w|z) p(z|u) p(u)
  z --> x, w
  u --> z""",
    ("q(z|x)",): """\
q(z|x)
  x (given) --> z""",
    ("p(z)",): "p(z)",
    ("p(a)", "p(b)"): "p(a,b) = p(a) p(b)",
}


@pytest.mark.parametrize("statements", DRAWINGS)
def test_drawing(statements):
    assert str(graph_of(*statements)) == DRAWINGS[statements]


# --- nothing depends on the hash seed -------------------------------------------------------------------------------

SCRIPT = """
from probflow.errors import CycleError, UnknownVariable
from probflow.graph import FactorGraph, parse
names = [f"v{i}" for i in range(12)]
texts = [f"p({v}|{names[i - 1]},c{i % 3})" if i % 3 else f"p({v})" for i, v in enumerate(names)]
graph = FactorGraph(map(parse, reversed(texts)))
print(graph, graph.order, graph.var, graph.cond_var, graph.leaves(), graph.children("c1"), graph.roles({"v1", "v2"}))
print(graph.needed_for({"v2", "v5", "v8"}), list(graph.networkx().nodes), list(graph.networkx().edges))
for attempt in (
    lambda: FactorGraph(map(parse, ["p(a|b,f)", "p(b|a)", "p(c|d)", "p(d|c)", "p(e|a)", "p(f|e)", "p(g|f)"])),
    lambda: graph.ancestors({f"u{i}" for i in range(30)}),
):
    try:
        attempt()
    except (CycleError, UnknownVariable) as error:
        print(error)
"""


def test_nothing_depends_on_the_hash_seed():
    def output(seed: str) -> str:
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        return subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
        ).stdout

    first, second = output("1"), output("2")
    assert "a -> b -> a" in first and "has no variable 'u0'" in first
    assert first == second


def test_the_graph_needs_neither_torch_nor_sympy():
    code = (
        "import sys, importlib.util, types, pathlib\n"
        "root = pathlib.Path(importlib.util.find_spec('probflow').submodule_search_locations[0])\n"
        "package = types.ModuleType('probflow'); package.__path__ = [str(root)]; sys.modules['probflow'] = package\n"
        "from probflow.graph import FactorGraph, parse\n"
        "str(FactorGraph([parse('p(x|z)')]))\n"
        "print([m for m in ('torch', 'sympy') if m in sys.modules])\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
