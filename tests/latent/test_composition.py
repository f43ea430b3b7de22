"""Walks along one potential after another, and along several at once."""

import pytest
import torch

from pinnflow.errors import NonFinite
from pinnflow.latent import Chain, Mixture, WarpedGenerator, baseline
from pinnflow.latent.traversal import INTEGRATORS, Flow
from tests.latent.simple_flows import Bowls

Z = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("integrator", INTEGRATORS)
@pytest.mark.parametrize("direction", [1, -1])
def test_a_chain_is_the_walks_along_its_parts(integrator, direction):
    """Runge-Kutta's last stage of a step is at the time of the next one, which belongs to the same part still."""
    flow = Bowls()
    chain = Chain(flow, [(0, 2), (1, 3)])
    settings = {"step_length": 0.35, "direction": direction, "integrator": integrator}
    path = chain.traverse(Z, 0, 6, **settings)
    first = flow.traverse(Z, 0, 2, **settings)
    second = flow.traverse(first[-1], 1, 4, **settings)  # the last part goes on
    assert torch.equal(path, torch.cat([first, second[1:]]))
    again = torch.cat([chain.traverse(Z, 0, 3, **settings), chain.traverse(path[3], 0, 3, start=3, **settings)[1:]])
    assert torch.allclose(again, path, rtol=1e-12)
    back = chain.inverse(path[-1], 0, 6, **settings)
    assert torch.allclose(back.flip(0), path, atol=1e-9)


def test_a_chain_of_local_directions_follows_each_of_them():
    """What is followed from step to step is the walker's own, which a velocity alone does not know."""
    flow = baseline("local-jacobian", WarpedGenerator(size=8), potentials=2, samples=8).fit()
    z = flow.sample(3)
    first = flow.traverse(z, 1, 3)
    expected = torch.cat([first, flow.traverse(first[-1], 0, 2)[1:]])
    assert torch.equal(Chain(flow, [(1, 3), (0, 2)]).traverse(z, steps=5), expected)


@pytest.mark.parametrize("parts", [[], [1, 2], [(0, 1.5)], [(0, 0)], [(0, 1, 2)], [(0, True)]])
def test_parts_that_are_no_pairs_are_refused(parts):
    with pytest.raises(ValueError, match=r"`parts` is .*such as \[\(0, 3\), \(2, 3\)\]"):
        Chain(Bowls(), parts)


def test_a_part_of_a_potential_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="there is no potential -1"):
        Chain(Bowls(), [(-1, 2)])


def test_weights_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="must be finite"):
        Mixture(Bowls(), [1.0, float("nan")])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_velocity_that_is_no_number_is_not_taken_for_standing_still(value):
    class Broken(Flow):
        def velocity(self, z, t, k=0):
            return torch.full_like(z, value)

    with pytest.raises(NonFinite, match="unless the velocity itself is not finite"):
        Broken(None, 3, 1).traverse(Z)
