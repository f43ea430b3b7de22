"""The tables of learning with flows: what the stored numbers say, and that every flow in them can be made."""

import pytest
import torch

from benchmarks.learning import CHOSEN, FEW, FIELDS, FILE, SECTIONS, equation, table
from benchmarks.records import store, stored
from pinnflow import Problem
from pinnflow.latent import WarpedGenerator


@pytest.fixture(scope="module")
def found():
    return stored(FILE)


def test_stored_numbers_make_tables_of_medians(found):
    sections = {run["section"]: run["warp"] for run in found}
    assert set(sections) <= {*SECTIONS, "tuning"}
    for section, warp in sections.items():
        text = table(found, section, warp)
        assert text.count("\n") >= 2
        assert "nan" not in text.replace("| nan |", "")


def test_median_stands_before_smallest_and_largest():
    one = {"section": "pairs", "flow": "a", "warp": 1.0}
    runs = [{**one, "seed": i, "error": error} for i, error in enumerate((0.3, 0.1, 0.2))]
    assert table(runs, "pairs").splitlines()[-1] == "| a | 3 | 0.200 (0.100..0.300) |"


def test_run_takes_the_place_of_the_one_with_the_same_key(tmp_path):
    file = tmp_path / "runs.json"
    for seed, error in ((0, 0.3), (1, 0.2), (0, 0.1)):
        store(file, {"flow": "a", "seed": seed, "error": error}, ("flow", "seed", "similarity"))
    assert [(run["seed"], run["error"]) for run in stored(file)] == [(1, 0.2), (0, 0.1)]
    assert stored(tmp_path / "none.json") == []


@pytest.mark.parametrize("name", sorted({*CHOSEN, "hamilton-jacobi, viscosity 2, 16 terms, exact", "heat, exact"}))
def test_flows_for_few_codes_can_be_made(name):
    make, weight = FEW[name]
    flow = make(WarpedGenerator(size=8), 0)
    z = flow.sample(3)
    assert flow.potentials == 5
    assert weight >= 0
    assert bool(torch.isfinite(flow.velocity(z, 1.0)).all())


def test_equations_are_named_or_stated():
    assert equation("wave", 8) == "wave"
    assert isinstance(equation("incompressible", 8), Problem)
    assert isinstance(equation("hamilton-jacobi 1/2", 8), Problem)
    assert len(FIELDS) == len(set(FIELDS))
