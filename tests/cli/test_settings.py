"""`--set name=value`: read exactly, refused in words, nothing executed."""

import math

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from pinnflow.settings import BadSetting, parse_value, read_settings

x = sympy.Symbol("x", real=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("-3", -3),
        ("0.5", 0.5),
        ("1e-3", 1e-3),
        ("1/3", sympy.Rational(1, 3)),
        ("-1/3", -sympy.Rational(1, 3)),
        ("2**10", 1024),
        ("pi/2", sympy.pi / 2),
        ("sqrt(2)*pi", sympy.sqrt(2) * sympy.pi),
        ("exp(-1)", sympy.exp(-1)),
        ("(1, 1/2)", (1, sympy.Rational(1, 2))),
        ("[0, oo]", (0, sympy.oo)),
        (" 7 ", 7),
    ],
)
def test_value_is_exact(text, value):
    found = parse_value(text)
    assert found == value
    assert isinstance(found, type(value)) or isinstance(found, sympy.Basic)


@given(st.fractions())
def test_every_fraction_is_read_exactly(fraction):
    assert parse_value(str(fraction)) == sympy.Rational(fraction.numerator, fraction.denominator)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_is_read_to_the_last_bit(number):
    assert math.copysign(1, parse_value(repr(number))) == math.copysign(1, number)
    assert parse_value(repr(number)) == number


@pytest.mark.parametrize(
    "text",
    [
        "two",
        "__import__('os').system('touch broken')",
        "().__class__",
        "x",
        "lambda: 1",
        "[i for i in (1,)]",
        "'text'",
        "True",
        "1j",
        "f'{1}'",
        "open('a')",
        "sqrt",
        "sqrt(2, evaluate=False)",
        "2 if 1 else 3",
        "1,,2",
        "((((",
        "9**9**9",
        "(10**1000)**1000",
        "1/0",
        "(-1)*(1/0)",
        "1 + (2, 3)",
        "sin()",
        "(" * 300,
        "1" + "+1" * 300,
        "1;2",
    ],
)
def test_anything_else_is_refused(text, in_tmp_path):
    with pytest.raises(BadSetting):
        parse_value(text)
    assert not list(in_tmp_path.iterdir())


@given(st.text(max_size=40))
def test_any_text_is_a_value_or_refused(text):
    try:
        parse_value(text, symbols=True)
    except BadSetting:
        pass


def test_formula_becomes_an_expression_in_real_symbols():
    assert parse_value("x - x**3", symbols=True) == x - x**3


def wave(speed=1, length=sympy.Rational(1, 2), kind="fixed", damped=False, drift=-x, *, ends=(0, 1)):
    return locals()


def settings(*pairs):
    return read_settings(pairs, wave, "wave")


def test_parameters_are_read_by_what_their_defaults_are():
    found = settings("speed=1/3", "kind=free", "damped=true", "drift=1 - x", "ends=(0, 2)")
    assert found == {"speed": sympy.Rational(1, 3), "kind": "free", "damped": True, "drift": 1 - x, "ends": (0, 2)}


def test_unknown_setting_lists_the_choices():
    with pytest.raises(BadSetting) as caught:
        settings("sped=2")
    assert str(caught.value) == (
        "`--set sped=...`: wave has no setting `sped`; its settings are damped, drift, ends, kind, length, speed. "
        "Did you mean `speed`?"
    )


@pytest.mark.parametrize("pair", ["speed", "=2", "speed=", "speed= "])
def test_pair_without_name_or_value_is_refused(pair):
    with pytest.raises(BadSetting, match="expected name=value, for example `--set speed=2`"):
        settings(pair)


def test_value_that_is_no_number_names_the_setting():
    with pytest.raises(BadSetting, match=r"^`--set speed=fast`: `fast` is not a value; write numbers such as 2, 0\.5"):
        settings("speed=fast")


def test_truth_value_is_read_in_words():
    with pytest.raises(BadSetting, match="`--set damped=2`: expected true or false"):
        settings("damped=2")


def test_parameter_without_default_has_to_be_set():
    def needy(nu, rate, size=1):
        return None

    with pytest.raises(BadSetting, match=r"^needy needs `--set nu=\.\.\.` and `--set rate=\.\.\.`$"):
        read_settings([], needy, "needy")


def test_function_of_any_keywords_takes_any_setting():
    assert read_settings(["a=1", "b=2"], lambda **anything: None, "file.py") == {"a": 1, "b": 2}
