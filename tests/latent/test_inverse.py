"""Walks back: to the start where there is one, also where several starts lead to one end."""

import pytest
import torch

from pinnflow.errors import NotSolved
from pinnflow.latent import PotentialFlow, WarpedGenerator
from pinnflow.latent.inversion import solve_fixed_points
from pinnflow.latent.traversal import Flow
from tests.latent.simple_flows import Bowls

FORMS = [
    ("wave", "exact"),
    ("hamilton-jacobi", "exact"),
    ("heat", "exact"),
    ("fokker-planck", "exact"),
    ("porous-medium", "exact"),
    ("hamilton-jacobi-source", "soft"),
    ("wave", "none"),
]


class Ridge(Flow):
    """v = grad (z_0 - 6 log cosh z_1): to the right, and onto the axis within less than one step."""

    def __init__(self):
        super().__init__(None, 2, 1, device="cpu")

    def velocity(self, z, t, k=0):
        return torch.stack([torch.ones_like(z[:, 0]), -6 * torch.tanh(z[:, 1])], dim=1)


@pytest.fixture(scope="module")
def trained():
    """A flow of each preset and form after a few steps of training."""
    generator = WarpedGenerator()
    return {
        one: PotentialFlow(generator, potentials=3, pde=one[0], form=one[1], features=24, hidden=24).fit(8, 16)
        for one in FORMS
    }


@pytest.mark.parametrize("integrator", ["euler", "runge-kutta", "midpoint"])
@pytest.mark.parametrize("one", FORMS)
def test_an_inverse_ends_at_the_start(trained, one, integrator):
    flow = trained[one]
    z, k = flow.sample(40, 3), torch.arange(40) % 3
    sign = 1 - 2 * (torch.arange(40) % 2)
    # Some walks reach a summit of these densities, and a step across one has no midpoint that leads to its end.
    length = 0.2 if one[0] == "fokker-planck" else 0.35
    path = flow.traverse(z, k, step_length=length, direction=sign, integrator=integrator)
    back = flow.inverse(path[-1], k, step_length=length, direction=sign, integrator=integrator)
    assert back.shape == path.shape
    assert torch.equal(back[0], path[-1])
    assert (back.flip(0) - path).abs().max() < 1e-6


def test_raw_steps_are_walked_back(trained):
    flow = trained["wave", "exact"]
    z = flow.sample(20, 1)
    path = flow.traverse(z, 1, step_length=None)
    assert (flow.inverse(path[-1], 1, step_length=None)[-1] - z).abs().max() < 1e-6


def test_a_walk_along_a_ridge_is_walked_back_where_three_codes_lead_to_one():
    """The two codes beside the ridge that jump onto it are the other solutions; the walk came along it."""
    flow = Ridge()
    z = torch.tensor([[0.0, 1e-3], [0.0, 0.9], [1.0, 0.0]], dtype=torch.float64)
    path = flow.traverse(z)
    assert path[1:, 0, 1].abs().max() < 0.3
    assert (flow.inverse(path[-1])[-1] - z).abs().max() < 1e-6
    # In another order, and among codes no walk ended at, too.
    mixed = torch.cat([path[-1, [2, 1]], path[-1, :1] + 5])
    assert (flow.inverse(mixed)[-1, :2] - z[[2, 1]]).abs().max() < 1e-6


def test_a_walk_that_is_not_remembered_is_walked_back_to_a_code_that_leads_to_its_end():
    path = Ridge().traverse(torch.tensor([[0.0, 0.9], [0.5, -0.2]], dtype=torch.float64))
    flow = Ridge()
    back = flow.inverse(path[-1])
    assert (flow.traverse(back[-1])[-1] - path[-1]).abs().max() < 1e-6


def test_a_remembered_walk_of_other_arguments_has_no_influence():
    flow, fresh = Bowls(), Bowls()
    z = flow.sample(5)
    end = flow.traverse(z, 0)[-1]
    for arguments in ({"potential": 1}, {"step_length": 0.2}, {"direction": -1}, {"start": 3}):
        assert (flow.inverse(end, **arguments) - fresh.inverse(end, **arguments)).abs().max() < 1e-9


def test_changing_a_path_in_place_does_not_change_the_inverse():
    flow = Bowls()
    z = flow.sample(5)
    path = flow.traverse(z)
    end = path[-1].clone()
    path[:-1] += 1
    assert (flow.inverse(end)[-1] - z).abs().max() < 1e-9


def test_an_end_that_nothing_leads_to_is_said_to_be():
    """One step of length 1 away from 0 along one axis never ends within 1 of it."""

    class Away(Flow):
        def velocity(self, z, t, k=0):
            return z

    flow = Away(None, 1, 1, device="cpu")
    with pytest.raises(NotSolved, match="1 of 2 steps could not be walked back"):
        flow.inverse(torch.tensor([[0.5], [3.0]], dtype=torch.float64), steps=1, step_length=1.0)


def test_fixed_points_are_found_row_by_row():
    """x = cos x by iteration, x = 2 - x^2 at 1 by Newton's method; rows do not disturb one another."""

    def g(x):
        return torch.stack([torch.cos(x[0]), 2 - x[1] ** 2])

    x = solve_fixed_points(g, torch.tensor([[0.5], [0.8]], dtype=torch.float64))
    assert abs(float(x[0]) - 0.7390851332151607) < 1e-12
    assert abs(float(x[1]) - 1) < 1e-12
