"""The tables of learning with flows: what the stored numbers say, and that every flow in them can be made."""

import json

import pytest
import torch

from benchmarks.learning import CHOSEN, FEW, FIELDS, FILE, SECTIONS, equation, table
from pinnflow import Problem
from pinnflow.latent import WarpedGenerator


@pytest.fixture(scope="module")
def found():
    return json.loads(FILE.read_text())


def test_stored_numbers_make_tables_of_medians(found):
    assert set(found) <= {*SECTIONS, "tuning"}
    for section, runs in found.items():
        text = table(found, section, runs[0]["warp"])
        assert text.count("\n") >= 2
        assert "nan" not in text.replace("| nan |", "")


def test_median_stands_before_smallest_and_largest():
    runs = [{"flow": "a", "seed": i, "warp": 1.0, "error": error} for i, error in enumerate((0.3, 0.1, 0.2))]
    assert table({"pairs": runs}, "pairs").splitlines()[-1] == "| a | 3 | 0.200 (0.100..0.300) |"


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
