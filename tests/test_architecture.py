"""The layers of the package, read off its imports: they point down only, and packages on one floor do not know each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import probflow

PACKAGE = Path(probflow.__file__).parent

ROOT = "probflow"  # probflow/__init__.py itself, which hands names on
FLOORS = (
    {"__main__"},
    {"cli"},
    {ROOT},
    {"viz"},
    {"models", "testing"},
    {"inference"},
    {"losses"},
    {"flows"},
    {"distributions"},
    {"transforms"},
    {"graph", "nn", "data"},
    {"errors", "_typing", "printing", "checks", "domains"},
)
# The ground floor is open to all, and its modules to each other.
GROUND = len(FLOORS) - 1
CORE_DEPENDENCIES = {"torch", "sympy", "networkx", "tqdm"}

MODULES = {
    ".".join(("probflow", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def unit(module: str) -> str:
    """The floor's inhabitant that a module belongs to: its first name below probflow."""
    return module.split(".")[1] if "." in module else ROOT


def floor(name: str) -> int:
    for number, inhabitants in enumerate(FLOORS):
        if name in inhabitants:
            return number
    raise LookupError(f"probflow/{name} stands on no floor: give it one in tests/test_architecture.py")


def targets(module: str, is_package: bool, node: ast.AST) -> Iterator[str]:
    """The absolute names that an import statement needs; `from probflow import graph` needs probflow.graph."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parent = module.split(".")[: None if is_package and node.level == 1 else -(node.level - is_package)]
            base = ".".join([*parent, base] if base else parent)
        known = {unit(name) for name in MODULES}
        for alias in node.names:
            yield f"probflow.{alias.name}" if base == ROOT and alias.name in known else base


def faults(module: str, source: str, is_package: bool = False) -> list[str]:
    """Everything in a module's imports that the layers forbid."""
    found = []
    here = unit(module)
    for node in ast.walk(ast.parse(source)):
        for target in targets(module, is_package, node):
            outer = target.split(".")[0]
            line = f"{module}:{getattr(node, 'lineno', 0)} imports {target}"
            if outer != "probflow":
                if here == "graph" and outer == "torch":
                    found.append(f"{line}: graph/ does without torch")
                continue
            there = unit(target)
            if there == here:
                continue
            if floor(there) < floor(here):
                found.append(f"{line}: upwards")
            elif floor(there) == floor(here) != GROUND:
                found.append(f"{line}: on the same floor")
    return found


def on_import(tree: ast.Module) -> Iterator[ast.AST]:
    """The statements that run when a module is imported: not in functions, not under TYPE_CHECKING."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
            continue
        yield node
        pending += ast.iter_child_nodes(node)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    path = MODULES[module]
    assert faults(module, path.read_text(encoding="utf-8"), path.name == "__init__.py") == []


@pytest.mark.parametrize("module", MODULES)
def test_every_module_stands_on_a_floor(module: str) -> None:
    assert floor(unit(module)) <= GROUND


@pytest.mark.parametrize("module", MODULES)
def test_importing_needs_the_core_dependencies_only(module: str) -> None:
    """The extras (matplotlib, ...) are imported by the function that needs them."""
    path = MODULES[module]
    allowed = CORE_DEPENDENCIES | set(sys.stdlib_module_names) | {"probflow"}
    for node in on_import(ast.parse(path.read_text(encoding="utf-8"))):
        for target in targets(module, path.name == "__init__.py", node):
            assert target.split(".")[0] in allowed, f"{module} imports {target} at the top"


@pytest.mark.parametrize("module", MODULES)
def test_no_assert_and_no_error_without_a_message(module: str) -> None:
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.Assert), f"{module}:{node.lineno} guards with assert"
        if isinstance(node, ast.Raise):
            raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            assert not (isinstance(raised, ast.Name) and raised.id == "NotImplementedError"), f"{module}:{node.lineno}"


FORBIDDEN = {
    "upwards": ("probflow.graph.statement", "from probflow.losses import KL"),
    "upwards, inside a function": ("probflow.nn.mlp", "def f():\n    import probflow.models"),
    "upwards, relative": ("probflow.distributions.joint", "from ..inference import plan"),
    "upwards, through the root": ("probflow.losses.nodes", "from probflow import viz"),
    "the root itself": ("probflow.models.model", "from probflow import Normal"),
    "sideways": ("probflow.data.toy", "from probflow.nn import MLP"),
    "up from the ground": ("probflow.errors", "import probflow.graph"),
    "torch in graph": ("probflow.graph.factor_graph", "from torch.nn import Module"),
}


@pytest.mark.parametrize(("module", "source"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_the_reader_of_imports_sees(module: str, source: str) -> None:
    assert len(faults(module, source)) == 1


ALLOWED = {
    "down": ("probflow.losses.nodes", "from probflow.distributions import Normal\nfrom probflow.errors import LossError"),
    "its own package": ("probflow.data.digits", "from probflow.data.split import Split\nfrom .toy import toy"),
    "errors through the root": ("probflow.graph.statement", "from probflow import errors"),
    "the command line sees all": ("probflow.cli.main", "import probflow as pf\nfrom probflow import viz, models"),
}


@pytest.mark.parametrize(("module", "source"), ALLOWED.values(), ids=ALLOWED)
def test_the_reader_of_imports_allows(module: str, source: str) -> None:
    assert faults(module, source) == []


IMPORTED_ELSEWHERE = """
import torch
torch.set_default_device("meta")
import probflow as pf
torch.set_default_device("cpu")
x = torch.tensor([[0.0, 1.0]])
p, q = pf.Bernoulli("p(x | z)", lambda z: {"logits": z}), pf.Normal("q(z | x)", lambda x: {"loc": x, "scale": x + 1})
with torch.no_grad():
    print(pf.E(q, sample_shape=[4])[pf.log(p)].eval({"x": x}).device, q.sample({"x": x})["z"].device)
"""


def test_nothing_is_made_on_the_device_that_is_the_default_while_importing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED_ELSEWHERE], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["cpu", "cpu"]
