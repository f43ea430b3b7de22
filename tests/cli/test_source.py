"""Which problem a name or a file on the command line means, and what is said when there is none."""

import sys
import textwrap

import pytest

from pinnflow.settings import BadSetting
from pinnflow.source import BadSource, find_problem

HEADER = """
from sympy import Eq
from pinnflow import Problem, coordinates, field

x = coordinates("x")
u = field("u", x)

def line(value):
    return Problem([Eq(u.diff(x, 2), 0)], {x: (0, 1)}, [Eq(u.subs(x, 0), 0), Eq(u.subs(x, 1), value)])
"""


@pytest.fixture
def write(in_tmp_path):
    """Writes a file into the current directory: the header and then `text`."""

    def write_file(name, text, header=HEADER):
        (in_tmp_path / name).write_text(header + textwrap.dedent(text))
        return name

    return write_file


def value_of(problem):
    return problem.conditions[1].rhs


def test_name_of_pdes_is_called_with_its_settings():
    problem, stem = find_problem("wave", ["speed=3", "length=1/2"])
    assert stem == problem.name == "wave"
    assert {str(c): tuple(map(str, ends)) for c, ends in problem.domain.items()} == {"t": ("0", "1"), "x": ("0", "1/2")}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("only = line(5)", 5),
        ("only = line(5)\nalias = only", 5),
        ("first = line(1)\nproblem = line(2)", 2),
        ("first = line(1)\ndef problem(value=3):\n    return line(value)", 3),
        ("from pdes import wave\nproblem = line(4)", 4),
        ("other = line(6)\nif __name__ == '__main__':\n    raise RuntimeError", 6),
    ],
)
def test_file_holds_one_problem_or_one_called_problem_or_a_function(write, text, value):
    problem, stem = find_problem(write("beam.py", text))
    assert (value_of(problem), stem) == (value, "beam")


def test_stem_is_that_of_the_file_wherever_it_lies(write, in_tmp_path):
    (in_tmp_path / "deep").mkdir()
    write("deep/beam.v2.py", "p = line(1)")
    assert find_problem("deep/beam.v2.py")[1] == "beam.v2"


def test_settings_fill_the_function_of_a_file(write):
    file = write("beam.py", "def problem(value=1, scale=1):\n    return line(value * scale)")
    assert str(value_of(find_problem(file, ["value=2", "scale=1/4"])[0])) == "1/2"


def test_file_sees_its_neighbours(write):
    write("neighbour.py", "WIDTH = 7\n", header="")
    assert value_of(find_problem(write("beam.py", "import neighbour\np = line(neighbour.WIDTH)"))[0]) == 7
    del sys.modules["neighbour"]


def refused(source, settings=(), error=BadSource):
    with pytest.raises(error) as caught:
        find_problem(source, settings)
    return str(caught.value)


def test_unknown_name_lists_the_names_and_the_near_one(in_tmp_path):
    message = refused("wavee")
    assert message.startswith("There is no equation called `wavee`. The names are advection, allen_cahn, burgers, ")
    assert "Did you mean `wave`?" in message
    assert "Your own equation goes into a file" in message


def test_file_named_without_its_ending_is_pointed_out(write):
    write("beam.py", "p = line(1)")
    assert "For your own file write `beam.py`." in refused("beam")


def test_missing_file_is_named(in_tmp_path):
    assert refused("absent.py") == "There is no file `absent.py`."


def test_file_that_is_not_python_is_named(write):
    write("beam.txt", "")
    assert refused("./beam.txt") == "`beam.txt` is not a Python file; its name has to end in `.py`."


def test_file_without_a_problem_says_what_to_write(write):
    assert refused(write("beam.py", "")) == (
        "beam.py holds no `Problem`.\nWrite `problem = Problem(...)` at the top level of the file."
    )


def test_several_problems_are_listed(write):
    assert refused(write("beam.py", "b = line(1)\na = line(2)")) == (
        "beam.py holds several problems: a, b.\nCall the one that is meant `problem`."
    )


def test_function_that_returns_something_else_is_named(write):
    assert refused(write("beam.py", "def problem():\n    return 3")) == (
        "The function `problem` of beam.py returned 3; expected a `Problem`."
    )


def test_setting_of_a_file_without_function_says_how_to_have_settings(write):
    message = refused(write("beam.py", "p = line(1)"), ["speed=2"], BadSetting)
    assert message.startswith("`--set speed=...`: beam.py has no settings, because it holds a `Problem`.")
    assert "def problem(speed=1)" in message


def test_users_exception_is_shown_from_the_users_first_line(write):
    message = refused(write("beam.py", "def ratio():\n    return 1 / 0\nratio()"))
    assert message.startswith("beam.py failed:\nTraceback (most recent call last):\n")
    assert "ZeroDivisionError: division by zero" in message and "in ratio" in message
    assert "importlib" not in message and "source.py" not in message


def test_exception_of_the_users_function_is_shown_too(write):
    message = refused(write("beam.py", "def problem(n=0):\n    return line(1 / n)"))
    assert message.startswith("`problem` of beam.py failed:\n") and "ZeroDivisionError" in message
    assert "source.py" not in message


def test_syntax_error_is_shown_with_its_place(write):
    message = refused(write("beam.py", "p = line(1"))
    assert "SyntaxError" in message and "beam.py" in message and "importlib" not in message


def test_file_that_ends_itself_is_told(write):
    assert refused(write("beam.py", "raise SystemExit(3)")) == (
        "beam.py ended itself with `SystemExit(3)` before a problem was there."
    )


def test_wrong_declaration_is_told_with_its_line_and_without_traceback(write):
    message = refused(write("beam.py", "p = Problem([Eq(u.diff(x), 0)], {x: (0, 1)}, [u.subs(x, 0) == 0])"))
    assert message.startswith("beam.py, line 10:\n")
    assert "Traceback" not in message


def test_setting_that_an_equation_refuses_is_told_without_traceback():
    message = refused("wave", ["speed=-1"])
    assert message.startswith("wave:") and "speed" in message and "Traceback" not in message
