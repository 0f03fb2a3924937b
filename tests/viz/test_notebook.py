"""What a notebook and a terminal show of a distribution, a loss and a plan."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import pytest

CELLS = """
import sys
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
sys.modules["matplotlib"] = None
import probflow as pf
import probflow.graph.notebook as notebook
shell = InteractiveShell.instance()
p = pf.Normal("p(x | z)", loc="z", scale=1.0) * pf.Normal("p(z)", loc=0.0, scale=1.0)
shell.user_ns.update(p=p, loss=pf.ELBO(p, pf.Normal("q(z | x)", loc="x", scale=1.0)))

def show():
    for cell in ("p", "loss", "loss.plan()"):
        with capture_output() as shown:
            shell.run_cell(cell)
        print([sorted(out.data) for out in shown.outputs], repr(shown.stdout))

show()
to_svg, notebook.to_svg = notebook.to_svg, lambda picture: 1 / 0
show()
notebook.to_svg = to_svg
shell.display_formatter.active_types = ["text/plain"]
show()
"""


@cache
def shown() -> list[str]:
    """What is shown of p, loss and plan: in a notebook without matplotlib, where drawing fails, and in a terminal."""
    pytest.importorskip("IPython")
    done = subprocess.run([sys.executable, "-c", CELLS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()


def test_a_notebook_shows_the_formula_and_below_it_the_graph_without_matplotlib() -> None:
    both = "[['text/latex', 'text/plain'], ['image/svg+xml', 'text/plain']]"
    p, loss, plan = shown()[:3]
    assert p.startswith(both) and loss.startswith(both)
    assert plan.startswith("[]") and "plan of E_q(z|x)[" in plan


def test_a_formula_is_shown_where_its_picture_fails() -> None:
    assert shown()[3:5] == ["[['text/latex', 'text/plain']] 'Out[0]: '"] * 2, "the formula once, and no traceback"


def test_a_terminal_prints_the_text() -> None:
    p, loss, plan = shown()[6:]
    assert p.startswith("[]") and "p(x,z) = p(x|z) p(z)" in p
    assert loss.startswith("[]") and "E_q(z|x)[log p(x,z) - log q(z|x)]" in loss
    assert plan.startswith("[]") and "plan of E_q(z|x)[" in plan
