"""LaTeX of names, shapes, numbers, suggestions."""

from __future__ import annotations

import math

import pytest

from probflow.printing import did_you_mean, indent, latex_name, shape_text, value_text

LATEX = {
    "x": "x",
    "N": "N",
    "theta": r"\theta",
    "Theta": r"\Theta",
    "mu": r"\mu",
    "lambda": r"\lambda",
    "x_t": "x_{t}",
    "x1": "x_{1}",
    "z_12": "z_{12}",
    "z_1_2": "z_{1,2}",  # not z_{1 2}, which is typeset as z_{12}
    "alpha_1": r"\alpha_{1}",
    "x_theta": r"x_{\theta}",
    "x^2": "x^{2}",
    "x_t^2": "x^{2}_{t}",
    "xhat": r"\hat{x}",
    "z'": "z'",
    "z''": "z''",
    "x_t'": "x_{t}'",
    "x^a'": "{x^{a}}'",  # x^{a}' is a double superscript in TeX
    "prior": r"\mathrm{prior}",
    "KL": r"\mathrm{KL}",
    "f_enc": r"f_{\mathrm{enc}}",
    "theta_prior": r"\theta_{\mathrm{prior}}",
    "encoder_2": r"\mathrm{encoder}_{2}",
    "local": r"\mathrm{local}",  # sympy alone reads a calligraphic "lo"
    "layernorm": r"\mathrm{layernorm}",
    "v2x": r"\mathrm{v2x}",
    "log r": r"\mathrm{log\ r}",
    "50%": r"\mathrm{50\%}",
    "lambda_": r"\mathrm{lambda\_}",
    "_h": r"\mathrm{\_h}",
    "_": r"\mathrm{\_}",
    "φ": "φ",
    "画像": r"\text{画像}",
    "p_{prior}": "p_{prior}",
    r"\theta": r"\theta",
    r"p_\theta": r"p_\theta",
    r"\hat{x}'": r"\hat{x}'",
    "x_{t-1}": "x_{t-1}",
}


@pytest.mark.parametrize("name", LATEX)
def test_latex_name(name):
    assert latex_name(name) == LATEX[name]


def test_names_that_differ_are_typeset_differently():
    names = ["x", "x_", "_x", "x'", "x_t", "xt", "x1", "x_12", "x_1_2", "x^1", "prior", "p_rior", "Prior"]
    assert len({latex_name(name) for name in names}) == len(names)


def test_shape_text():
    assert shape_text((128, 784)) == "(128, 784)"
    assert shape_text([3]) == "(3,)"
    assert shape_text(()) == "()"


@pytest.mark.parametrize(
    ("name", "choices", "answer"),
    [
        ("lco", ["loc", "scale"], " Did you mean 'loc'?"),
        ("LOC", ["loc", "scale"], " Did you mean 'loc'?"),
        ("log_scale", ["loc", "scale", "logscale"], " Did you mean 'logscale'?"),
        ("batchn", ("batch_n", "sample_shape"), " Did you mean 'batch_n'?"),
        ("scale", ["scale"], ""),  # nothing to suggest: it is the same name
        ("rate", ["loc"], ""),
        ("x", [], ""),
    ],
)
def test_did_you_mean(name, choices, answer):
    assert did_you_mean(name, choices) == answer


def test_indent():
    assert indent("a\n b\n\nc") == "  a\n   b\n\n  c"
    assert indent("a\nb", "> ") == "> a\n> b"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2.0, "2"),
        (-0.0, "0"),
        (60000, "60000"),
        (0.5, "0.5"),
        (0.123456, "0.1235"),
        (-104.5678, "-104.6"),
        (1e-9, "1e-09"),
        (12345678.0, "1.235e+07"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
    ],
)
def test_value_text(value, text):
    assert value_text(value) == text
