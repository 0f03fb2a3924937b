"""Statements: reading, printing, renaming, and every way of writing them wrongly."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from probflow.errors import ArgumentError, DuplicateVariable, StatementError
from probflow.graph import Statement, make_statement, names, parse

READS = {
    "q(z | x, y)": Statement("q", ("z",), ("x", "y")),
    "q(z|x,y)": Statement("q", ("z",), ("x", "y")),
    "  q ( z|x ,y )  ": Statement("q", ("z",), ("x", "y")),
    "z | x": Statement("p", ("z",), ("x",)),
    "z": Statement("p", ("z",)),
    "x, y": Statement("p", ("x", "y")),
    "p(x, y | z)": Statement("p", ("x", "y"), ("z",)),
    "p_{prior}(z)": Statement("p_{prior}", ("z",)),
    r"p_\theta(x|z)": Statement(r"p_\theta", ("x",), ("z",)),
    r"p(\theta)": Statement("p", (r"\theta",)),
    r"p(\hat{x}|x_t, x_{t-1}, z')": Statement("p", (r"\hat{x}",), ("x_t", "x_{t-1}", "z'")),
    r"q(z \mid x)": Statement("q", ("z",), ("x",)),
    r"q(z\mid x)": Statement("q", ("z",), ("x",)),
    r"p(\middle)": Statement("p", (r"\middle",)),
    r"p(\mathbf{z}_{t,{i}}^{(k)})": Statement("p", (r"\mathbf{z}_{t,{i}}^{(k)}",)),
    "p_2(_h, lambda_, x^2)": Statement("p_2", ("_h", "lambda_", "x^2")),
    "p(画像 | ラベル, β₁)": Statement("p", ("画像",), ("ラベル", "β₁")),
}


@pytest.mark.parametrize("text", READS)
def test_parse_reads(text):
    assert parse(text) == READS[text]


@pytest.mark.parametrize("text", READS)
def test_what_is_printed_is_read_back(text):
    assert parse(str(parse(text))) == READS[text]


def test_default_name_stands_only_where_the_text_has_none():
    assert parse("z | x", "q").name == "q"
    assert parse("p(z | x)", "q").name == "p"


BROKEN = {
    "": '    \n    ^\nexpected a statement such as "q(z | x)", found the end of the text.',
    "(z)": "    (z)\n    ^\nexpected a statement such as \"q(z | x)\", found '('.",
    "1x": "    1x\n    ^\nexpected a statement such as \"q(z | x)\", found '1'.",
    "q(z": "    q(z\n       ^\nexpected ',', '|' or ')', found the end of the text. The parenthesis after 'q' is not closed.",
    "q(z | x": (
        "    q(z | x\n           ^\nexpected ',' or ')', found the end of the text. The parenthesis after 'q' is not closed."
    ),
    "z | x)": "    z | x)\n         ^\nexpected ',' or the end, found ')'. There is no '(' before this ')'.",
    "q()": "    q()\n      ^\nexpected a variable, found ')'. The list of variables is empty.",
    "p(| x)": "    p(| x)\n      ^\nexpected a variable, found '|'. The list of variables is empty.",
    "q(z | )": (
        "    q(z | )\n          ^\nexpected a conditioning variable, found ')'. The list of conditioning variables is empty."
    ),
    "z |": (
        "    z |\n       ^\n"
        "expected a conditioning variable, found the end of the text. The list of conditioning variables is empty."
    ),
    "q(z | x | y)": (
        "    q(z | x | y)\n            ^\n"
        "expected ',' or ')', found '|'. A statement has one '|'; conditioning variables are separated by ','."
    ),
    "q(z || x)": (
        "    q(z || x)\n         ^\n"
        "expected a conditioning variable, found '|'. A statement has one '|'; conditioning variables are separated by ','."
    ),
    "q(loc, z, loc)": (
        "    q(loc, z, loc)\n              ^\nexpected a variable other than 'loc', found 'loc'. It is named twice."
    ),
    "q(z | x, x)": (
        "    q(z | x, x)\n             ^\nexpected a conditioning variable other than 'x', found 'x'. It is named twice."
    ),
    "q(x | x)": (
        "    q(x | x)\n          ^\n"
        "expected a conditioning variable other than 'x', found 'x'. A variable cannot condition itself."
    ),
    "q(x,)": "    q(x,)\n        ^\nexpected a variable, found ')'.",
    "q(x y)": "    q(x y)\n        ^\nexpected ',', '|' or ')', found 'y'.",
    "q(x.y)": (
        "    q(x.y)\n       ^\n"
        "expected ',', '|' or ')', found '.'. A name cannot contain '.': in a state_dict the dot separates levels."
    ),
    "q(x_{0.5})": (
        "    q(x_{0.5})\n          ^\nexpected '}', found '.'. "
        "A name cannot contain '.': in a state_dict the dot separates levels."
    ),
    "p(x; z)": (
        "    p(x; z)\n       ^\nexpected ',', '|' or ')', found ';'. "
        r"';' cannot stand in a name (letters, digits, _, ^, ' and LaTeX such as \theta or x_{t-1})."
    ),
    "q(z) p(x)": (
        "    q(z) p(x)\n         ^\nexpected the end of the statement, found 'p'. A product is written with objects: p * q."
    ),
    "p(x_{t)": "    p(x_{t)\n           ^\nexpected '}', found the end of the text. A brace is not closed.",
    "p(x^)": "    p(x^)\n        ^\nexpected a superscript after '^', found ')'.",
    r"p(\1)": "    p(\\1)\n       ^\nexpected a LaTeX command after the backslash, such as \\theta, found '1'.",
    "q(z\n| x": (
        "    q(z | x\n           ^\nexpected ',' or ')', found the end of the text. The parenthesis after 'q' is not closed."
    ),
    "p(画像｜x)": (
        "    p(画像｜x)\n          ^\nexpected ',', '|' or ')', found '｜'. Write '|' in place of the full-width '｜'."
    ),
}


@pytest.mark.parametrize("text", BROKEN)
def test_the_error_shows_the_place(text):
    with pytest.raises(StatementError) as error:
        parse(text)
    assert str(error.value) == "cannot read the statement:\n" + BROKEN[text]


@pytest.mark.parametrize("text", BROKEN)
def test_make_statement_reads_the_same_way(text):
    with pytest.raises(StatementError) as error:
        make_statement(text, name="q" if "(" not in text else None)
    assert str(error.value) == "cannot read the statement:\n" + BROKEN[text]


@pytest.mark.parametrize("bad", [None, 3, ["z"], object()])
def test_parse_wants_a_string(bad):
    with pytest.raises(ArgumentError, match='a statement is a string such as "q'):
        parse(bad)


# --- Statement -------------------------------------------------------------------------------------------------------


def test_text():
    assert str(Statement("q", ("z",), ("x", "y"))) == "q(z|x,y)"
    assert str(Statement("p", ("z", "w"))) == "p(z,w)"
    assert str(Statement("p", (), ("x",))) == "p(|x)"
    assert str(Statement("p", ())) == "p()"


@pytest.mark.parametrize(
    ("statement", "latex"),
    [
        (Statement("q", ("z",), ("x", "y")), r"q(z \mid x, y)"),
        (Statement("p", ("z",)), "p(z)"),
        (Statement("p", (), ("x",)), r"p(\mid x)"),
        (Statement("p_{prior}", ("theta", "x_t"), ("f_enc",)), r"p_{prior}(\theta, x_{t} \mid f_{\mathrm{enc}})"),
    ],
)
def test_latex(statement, latex):
    assert statement.latex() == latex


def test_is_a_value():
    q = Statement("q", ["z"], "x")  # type: ignore[arg-type]  # a list or a single string are taken as well, and stored as tuples
    assert q == Statement("q", ("z",), ("x",)) and hash(q) == hash(Statement("q", ("z",), ("x",)))
    assert q != Statement("p", ("z",), ("x",)) and q != Statement("q", ("x",), ("z",))
    assert copy.deepcopy(q) == pickle.loads(pickle.dumps(q)) == q
    with pytest.raises(dataclasses.FrozenInstanceError):
        q.name = "p"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("var", "cond_var", "message"),
    [
        (("z", "z"), ("x",), "q(z,z|x) names the variable 'z' twice."),
        (("z",), ("x", "y", "x"), "q(z|x,y,x) names the conditioning variable 'x' twice."),
        (("x", "z"), ("y", "z"), "q(x,z|y,z) has 'z' on both sides of '|': a variable cannot condition itself."),
    ],
)
def test_duplicates(var, cond_var, message):
    with pytest.raises(DuplicateVariable) as error:
        Statement("q", var, cond_var)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Statement("p", ("a.b",)),
            "cannot read a name in var=:\n    a.b\n     ^\nexpected the end of the name, found '.'. "
            "A name cannot contain '.': in a state_dict the dot separates levels.",
        ),
        (
            lambda: Statement("p", ("x",), ("",)),
            "cannot read a name in cond_var=:\n    \n    ^\nexpected a name, found the end of the text.",
        ),
        (lambda: Statement("p", (" x",)), "cannot read a name in var=:\n     x\n    ^\nexpected a name, found ' '."),
        (
            lambda: Statement("", ("x",)),
            "cannot read the distribution name:\n    \n    ^\nexpected a name, found the end of the text.",
        ),
        (
            lambda: Statement("p(", ("x",)),
            "cannot read the distribution name:\n    p(\n     ^\nexpected the end of the name, found '('.",
        ),
    ],
)
def test_names_are_checked(make, message):
    with pytest.raises(StatementError) as error:
        make()
    assert str(error.value) == message


def test_the_distribution_name_is_a_string():
    with pytest.raises(ArgumentError, match="^the name of a distribution is a string such as 'p', got int.$"):
        Statement(1, ("x",))  # type: ignore[arg-type]


def test_rename_replaces_all_at_once():
    p = parse("p(x, y | z)")
    assert str(p.rename({"x": "y", "y": "x"})) == "p(y,x|z)"
    assert str(p.rename({"x": "z", "z": "x"})) == "p(z,y|x)"
    assert str(p.rename({"x": "y", "y": "z", "z": "x"})) == "p(y,z|x)"
    assert p.rename({}) == p.rename({"w": "v", "p": "q"}) == p  # the distribution keeps its own name
    assert str(p) == "p(x,y|z)"


def test_rename_does_not_merge():
    with pytest.raises(DuplicateVariable) as error:
        parse("p(x, y | z)").rename({"x": "z"})
    assert str(error.value) == "renaming would make 'x' and 'z' of p(x,y|z) one variable, 'z'."


def test_rename_checks_the_new_name():
    with pytest.raises(StatementError, match="cannot read a name in var="):
        parse("p(x)").rename({"x": "x.u"})


# --- make_statement, names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_statement("q(z | x)"),
        lambda: make_statement("z | x", name="q"),
        lambda: make_statement("q(z | x)", name="q"),
        lambda: make_statement("z | x", default_name="q"),
        lambda: make_statement(var="z", cond_var="x", name="q"),
        lambda: make_statement(var=["z"], cond_var=["x"], name="q"),
        lambda: make_statement(var=("z",), cond_var=("x",), default_name="q"),
        lambda: make_statement(var=("z",), cond_var=("x",), name="q", default_name="r"),
    ],
)
def test_the_spellings_agree(make):
    assert make() == Statement("q", ("z",), ("x",))


def test_defaults():
    assert make_statement(var="zeta") == Statement("p", ("zeta",))  # one name, not four


SPELLINGS = 'as a statement, "q(z | x)", or as keywords, var=["z"], cond_var=["x"], name="q".'


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, f"a distribution needs its variables: {SPELLINGS}"),
        ({"name": "q"}, f"a distribution needs its variables: {SPELLINGS}"),
        ({"cond_var": ["x"]}, f"a distribution needs at least one variable in var=: {SPELLINGS}"),
        ({"var": []}, f"a distribution needs at least one variable in var=: {SPELLINGS}"),
        (
            {"text": "q(z)", "var": ["z"]},
            f"the variables are given twice, by the statement 'q(z)' and by var=['z'].\nKeep one spelling: {SPELLINGS}",
        ),
        (
            {"text": "q(z)", "var": "z", "cond_var": []},
            "the variables are given twice, by the statement 'q(z)' and by var='z', cond_var=[].\n"
            f"Keep one spelling: {SPELLINGS}",
        ),
        (
            {"text": "q(z)", "name": "p"},
            "the statement 'q(z)' is named 'q', but name='p' was given too. Keep one of them.",
        ),
        ({"text": 3}, 'a statement is a string such as "q(z | x)", got int.'),
        ({"var": ["z", 3]}, "var is a list of names (strings), but it contains 3 of type int."),
        ({"var": "z", "cond_var": [None]}, "cond_var is a list of names (strings), but it contains None of type NoneType."),
        ({"var": 3}, 'var is a name or a list of names, such as var=["x"], got int.'),
        ({"var": {"a", "b"}}, 'var is a name or a list of names, such as var=["x"], got set.'),
    ],
)
def test_arguments_that_make_no_sense(arguments, message):
    with pytest.raises(ArgumentError) as error:
        make_statement(**arguments)
    assert str(error.value) == message


def test_names():
    assert names("zeta") == ("zeta",)
    assert names(["x", "y"]) == names(("x", "y")) == ("x", "y")
    assert names([]) == ()


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (["x", "x"], DuplicateVariable, "latent=['x', 'x'] names 'x' twice."),
        ({"x": 1}, ArgumentError, 'latent is a name or a list of names, such as latent=["x"], got dict.'),
        (["x y"], StatementError, "cannot read a name in latent=:\n    x y\n     ^\nexpected the end of the name, found ' '."),
    ],
)
def test_names_says_which_argument(value, error, message):
    with pytest.raises(error) as caught:
        names(value, "latent")
    assert str(caught.value) == message
