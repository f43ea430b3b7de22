"""The registry of trial functions: files find the class that wrote them."""

import importlib

import pytest

from pinnflow.errors import UnknownName
from pinnflow.trial.registry import HOMES, TRIALS, Trial, register_trial, restore


@pytest.mark.parametrize("kind", sorted(HOMES))
def test_the_module_that_is_imported_for_a_kind_registers_it(kind):
    importlib.import_module(HOMES[kind])
    assert TRIALS[kind].kind == kind
    for method in ("derivatives", "state", "from_state"):
        assert callable(getattr(TRIALS[kind], method))


def test_a_kind_needs_a_name_of_its_own():
    with pytest.raises(ValueError, match="`Nameless` needs a class attribute `kind`"):

        @register_trial
        class Nameless:
            pass

    with pytest.raises(ValueError, match="The kind `closed form of the tests` is taken by `ClosedForm`"):

        @register_trial
        class Other:
            kind = "closed form of the tests"


def test_a_state_without_a_known_kind_is_refused():
    with pytest.raises(UnknownName, match=r"There is no kind of trial `None`. Choose one of: .*evolution, .*features"):
        restore({})


def test_the_trial_of_a_solution_has_the_protocol(wave):
    assert isinstance(wave.trial, Trial)
