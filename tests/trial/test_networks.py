"""Networks: described by a dict, made by a generator, in problem units."""

import numpy as np
import pytest
import torch

from pinnflow.compiler.reference import nested_reverse
from pinnflow.errors import NotYet, UnknownName
from pinnflow.trial.networks import NETWORKS, FactorisedLinear, NetworkTrial, make_network
from pinnflow.trial.registry import restore

SETTINGS = {"inputs": 2, "outputs": 2, "width": 8, "depth": 2, "bounds": [(0, 1), (-3, 7)]}
POINTS = torch.tensor([[0.1, -2.0], [0.5, 3.0], [0.9, 6.5]], dtype=torch.float64)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_config_describes_it_completely(name):
    net = make_network(name, **SETTINGS, periodic=[1], harmonics=3, scale=[2.0, 0.5], shift=[1.0, 0.0], seed=5)
    again = make_network(**net.config)
    again.load_state_dict(net.state_dict())
    assert torch.equal(net(POINTS), again(POINTS)) and net.config == again.config


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_weights_come_from_the_seed_alone(name):
    torch.manual_seed(1)
    first, state = make_network(name, **SETTINGS, seed=5), torch.get_rng_state()
    torch.manual_seed(2)
    second = make_network(name, **SETTINGS, generator=torch.Generator().manual_seed(5))
    assert torch.equal(first(POINTS), second(POINTS))
    assert not torch.equal(first(POINTS), make_network(name, **SETTINGS, seed=6)(POINTS))
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_dtype_is_the_one_asked_for_and_changes_only_rounding(name):
    double, single = make_network(name, **SETTINGS), make_network(name, **SETTINGS, dtype="float32")
    assert single(POINTS.float()).dtype == torch.float32
    assert torch.allclose(double(POINTS), single(POINTS.float()).double(), atol=2e-5)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_periodic_axis_matches_all_derivatives(name):
    net = make_network(name, **SETTINGS, periodic=[1], harmonics=2)
    requests = [(0, (0, k)) for k in range(4)]
    ends = [torch.tensor([[0.3, end]], dtype=torch.float64) for end in (-3.0, 7.0)]
    left, right = (nested_reverse(net, end, requests) for end in ends)
    for request in requests:
        assert torch.allclose(left[request], right[request], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_same_function_in_other_units(name):
    """Stretching an axis and its bounds, or scaling the values, changes nothing else."""
    metres = make_network(name, **SETTINGS)
    millimetres = make_network(name, **{**SETTINGS, "bounds": [(0, 1000), (-3, 7)]}, scale=[10.0, 10.0])
    stretched = POINTS * torch.tensor([1000.0, 1.0], dtype=torch.float64)
    assert torch.allclose(10 * metres(POINTS), millimetres(stretched), rtol=1e-12)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_factorised_weights_begin_as_the_same_function_and_come_back_from_a_file(name):
    plain, net = make_network(name, **SETTINGS), make_network(name, **SETTINGS, factorised=True)
    assert torch.allclose(plain(POINTS), net(POINTS), rtol=1e-12, atol=1e-13)
    layers = [part for part in net.modules() if isinstance(part, torch.nn.Linear)]
    assert [isinstance(part, FactorisedLinear) for part in layers] == [True] * (len(layers) - 1) + [False]
    steps = torch.cat([part.s.detach() for part in layers[:-1]])
    assert 0.9 < steps.mean() < 1.1 and 0.05 < steps.std() < 0.15
    again = restore(NetworkTrial(net).state())
    assert torch.equal(net(POINTS), again.module(POINTS)) and again.module.config == net.config
    assert "factorised" not in plain.config


def test_a_step_moves_factorised_weights_as_the_chain_rule_says():
    net = make_network("mlp", **SETTINGS, factorised=True)
    net(POINTS).square().sum().backward()
    layer = net.layers[1]
    # W = diag(exp s) V: dL/ds_k = sum_j dL/dV_kj V_kj
    assert torch.allclose(layer.s.grad, (layer.weight.grad * layer.weight).sum(dim=1), rtol=1e-10)


def test_unknown_names_list_the_choices():
    with pytest.raises(
        UnknownName, match=r"no network `mpl`. Choose one of: fourier, mlp, modified mlp, pirate, siren"
    ):
        make_network("mpl", inputs=1)
    with pytest.raises(UnknownName, match=r"no activation `relu`. Choose one of: gelu, sigmoid, silu, sin"):
        make_network("mlp", inputs=1, activation="relu")


def test_a_trial_comes_back_from_its_state_to_the_last_digit():
    trial = NetworkTrial(make_network("pirate", **SETTINGS, seed=3), [1.0, 10.0])
    again = restore(trial.state())
    wanted = [(0, (0, 0)), (1, (1, 1)), (0, (0, 4))]
    found = trial.derivatives(POINTS.numpy(), wanted)
    assert [f.dtype for f in found] == [np.float64] * 3 and [f.shape for f in found] == [(3,)] * 3
    assert all(np.array_equal(a, b) for a, b in zip(found, again.derivatives(POINTS.numpy(), wanted), strict=True))
    expected = nested_reverse(trial.module, POINTS, wanted)
    for value, request in zip(found, wanted, strict=True):
        assert value == pytest.approx(expected[request].detach().numpy(), rel=1e-10, abs=1e-14)


def test_a_trial_of_an_own_module_works_but_cannot_be_saved():
    trial = NetworkTrial(torch.nn.Linear(2, 1).double())
    assert trial.derivatives(POINTS.numpy(), [(0, (2, 0))])[0].tolist() == [0, 0, 0]
    with pytest.raises(NotYet, match=r"`Linear` is a module of your own.*use one of the networks fourier, mlp"):
        trial.state()
