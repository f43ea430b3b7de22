"""Each wrong declaration of `wrong.py` gives its own full message, kept in `messages.txt`.

`python tests/declare/test_messages.py` writes the file anew; read the difference before committing it.
"""

import importlib.util
import sys
from pathlib import Path

import pytest

from pinnflow import DeclarationError, NotYet

HERE = Path(__file__).resolve().parent


def load_cases():
    spec = importlib.util.spec_from_file_location("wrong_declarations", HERE / "wrong.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CASES


def message_of(make):
    with pytest.raises(DeclarationError) as caught:
        make()
    return f"{type(caught.value).__name__}: {caught.value}"


def expected_messages():
    text = (HERE / "messages.txt").read_text(encoding="utf-8")
    entries = [entry.split("\n", 1) for entry in text.split("\n\n== ")[1:]]
    return {name.removesuffix(" =="): message.rstrip("\n") for name, message in entries}


CASES = load_cases()


@pytest.mark.parametrize("name", CASES)
def test_wrong_declaration_is_explained(name):
    assert message_of(CASES[name]) == expected_messages()[name]


def test_no_two_mistakes_are_explained_alike():
    """Except where the same mistake is made in two ways."""
    messages = list(expected_messages().values())
    assert len(messages) - len(set(messages)) <= 3


def test_every_mistake_has_statement_message_and_code():
    with pytest.raises(DeclarationError) as caught:
        CASES["several mistakes at once"]()
    assert [m.statement for m in caught.value.mistakes] == ["domain", "equation 2", "condition 1", "exact"]
    assert [m.code for m in caught.value.mistakes] == ["interval", "boolean", "outside", "undeclared"]


def test_what_is_only_not_solved_yet_is_also_a_not_implemented_error():
    with pytest.raises(NotYet):
        CASES["a region"]()
    with pytest.raises(NotImplementedError):
        CASES["an integral"]()


if __name__ == "__main__":
    entries = "".join(f"\n\n== {name} ==\n{message_of(make)}" for name, make in CASES.items())
    (HERE / "messages.txt").write_text("What each wrong declaration of wrong.py says." + entries + "\n", "utf-8")
    sys.exit(0)
