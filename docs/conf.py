"""The manual's build:  sphinx-build -W --keep-going -b html docs docs/_build

Why Sphinx with MyST, not MkDocs: the reference comes from docstrings that are written in Sphinx's notation (math, cross-references),
every link, footnote and reference is checked while building (-W), and notebooks become pages with the outputs they were committed
with (MyST-NB), so that a build runs no model. MathJax is packed with the site: it works without a network, in a classroom too.
"""

from __future__ import annotations

import inspect
import re
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import probflow
from probflow import distributions, flows, graph, inference, losses, models, nn, transforms
from probflow.distributions import Family, families
from probflow.domains import Domain
from probflow.losses.rules import RULES

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def copy_tutorials() -> None:
    """tutorials/en and tutorials/ja as they are, into the source folder of the site (ignored by git); what is gone there goes here."""
    for language in ("en", "ja"):
        source, target = ROOT / "tutorials" / language, HERE / "tutorials" / language
        target.mkdir(parents=True, exist_ok=True)
        pages = {page.name: page for page in source.glob("*") if page.suffix in (".md", ".ipynb")}
        for old in target.iterdir():
            if old.name not in pages and old.is_file():
                old.unlink()
        for name, page in pages.items():
            copy = target / name
            if not copy.exists() or copy.read_bytes() != page.read_bytes():  # an unchanged page is not built again
                shutil.copyfile(page, copy)


def write_tables() -> None:
    """The families and the rules, from the tables in the code."""
    out = HERE / "api" / "generated"
    out.mkdir(parents=True, exist_ok=True)
    listed = "\n".join(page.read_text(encoding="utf-8") for page in (HERE / "api").glob("*.md"))
    for page in out.glob("*.rst"):
        if f" {page.stem.rpartition('.')[2]}\n" not in listed:  # of a name that has gone
            page.unlink()
    rows = ["| family | parameters | values in | draw has a gradient |", "|---|---|---|---|"]
    for name in families.__all__:
        row: Family = getattr(families, name).family
        taken = {one for group in row.either for one in group}
        options = [" or ".join(f"`{one}`" for one in group) for group in row.either]
        alone = [
            f"`{one}`" + (f" = {row.defaults[one]:g}" if one in row.defaults else "") for one in row.params if one not in taken
        ]
        support = "depends on the parameters" if not isinstance(row.support, Domain) else row.support.text
        rows.append(
            f"| {{py:obj}}`~probflow.{name}` | {', '.join(alone + options)} | {support} | {'yes' if row.has_rsample else 'no'} |"
        )
    (out / "families.inc").write_text("\n".join(rows) + "\n", encoding="utf-8")
    rows = []
    for rule in RULES.values():
        source = f" ({rule.source})" if rule.source else ""
        rows.append(f"{rule.name}\n: $\\displaystyle {rule.equation}$\n\n  {rule.condition or 'always'}{source}\n")
    (out / "rules.inc").write_text("\n".join(rows) + "\n", encoding="utf-8")


copy_tutorials()
write_tables()

project = "probflow"
author = "The probflow developers"
copyright = author
version = release = probflow.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "README.md", "**.ipynb_checkpoints"]
templates_path = ["_templates"]

# Pages
myst_enable_extensions = ["amsmath", "attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # a notebook is shown with the outputs of its full run, as committed
nb_merge_streams = True
copybutton_exclude = ".linenos, .gp, .go"

# Reference: one page per public name
autosummary_generate = True
autosummary_imported_members = True
autodoc_typehints = "none"  # the docstrings say what an argument is; unions of aliases would bury the signature
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "exclude-members": "forward"}
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
python_maximum_signature_line_length = 100
default_role = "py:obj"  # `name` links where there is such a name, and is code where not
toc_object_entries = False
nitpicky = True
nitpick_ignore_regex = [
    ("py:obj", r".*"),
    ("py:mod", r".*"),
    ("py:class", r"(builtins|collections|torch|typing)\..*|object|dict"),
]

# Looks
html_theme = "furo"
html_title = "probflow"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False
html_theme_options: dict[str, Any] = {"navigation_with_keys": True, "sidebar_hide_name": False}

PUBLIC = {
    id(getattr(package, name)): f"{package.__name__}.{name}"
    for package in (distributions, flows, graph, inference, losses, losses.rules, models, nn, transforms, probflow)
    for name in package.__all__
}
"""The name under which an object has its page; the shortest wins, as the last."""


ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
LABEL = re.compile(r"^(\s*)(Errors|Shape|Shapes|Source|Sources):(?=\s)")


def typeset(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A paragraph for every argument ("name: what it is"), links for arXiv numbers, and what a class inherits from."""
    try:
        arguments = [*inspect.signature(obj).parameters] if callable(obj) else []
    except (TypeError, ValueError):
        arguments = []
    named = (
        re.compile(rf"(?:^|(?<=\. ))\s*\b((?:{'|'.join(map(re.escape, arguments))})(?:, \w+)*):(?=\s)") if arguments else None
    )
    result: list[str] = []
    listing = False  # in the paragraph of an argument, where lines may be indented
    for line in lines:
        listing = listing and bool(line.strip())
        if line.lstrip().startswith((">>>", "...", "..", "- ")):
            result.append(line)
            continue
        if named is not None and (listing or not line.startswith(" ")):
            parts = named.sub(r"\n\n**\1**:", line).split("\n")
            listing = listing or len(parts) > 1
            line = parts[0].strip() if listing else parts[0]
            if len(parts) > 1:
                result += [*([line] if line else []), *parts[1:-1]]
                line = parts[-1]
        result.append(line)
    lines[:] = [ARXIV.sub(r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", LABEL.sub(r"\1**\2**:", line)) for line in result]
    if isinstance(obj, type):
        bases = [PUBLIC[id(base)] for base in obj.__mro__[1:] if id(base) in PUBLIC]
        if bases:
            lines += ["", "Inherits from " + ", ".join(f":py:obj:`~{base}`" for base in bases) + ".", ""]


def link_to_copies(app: Sphinx, page: str, source: list[str]) -> None:
    """Notebooks are linked where they lie in the repository, so that a code-hosting site follows the links; here, to their copies."""
    if page.startswith("tutorials/index"):
        source[0] = source[0].replace("](../../tutorials/", "](")


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", typeset)
    app.connect("source-read", link_to_copies)
