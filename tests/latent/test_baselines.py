"""Baselines: directions in closed form, and what a change of the latent coordinates does to them."""

import pytest
import torch
from torch import nn

from pinnflow.errors import NotApplicable, NotSolved, NotYet, UnknownName
from pinnflow.latent.baselines import baseline, baselines, register_baseline
from pinnflow.latent.baselines.ganspace import GANSpace, principal_scores
from pinnflow.latent.baselines.jacobian import LocalJacobian, jacobians, leading_pullback, mean_pullback, push_forward
from pinnflow.latent.baselines.linear import AxisDirections, RandomDirections
from pinnflow.latent.baselines.registry import _BASELINES
from pinnflow.latent.baselines.sefa import SeFa
from pinnflow.latent.generators.warped import WarpedGenerator
from pinnflow.latent.traversal import Flow

CPU = {"device": "cpu"}
ALL = ("axis", "ganspace", "local-jacobian", "random", "sefa")


class Linear(nn.Module):
    """Images A z, `[n, 1, 4, 4]`: every direction is known from the singular value decomposition of A."""

    latent_dim = 6

    def __init__(self, strengths=(8.0, 5.0, 3.0, 2.0, 1.0, 0.5), seed=0):
        super().__init__()
        noise = torch.Generator().manual_seed(seed)
        left = torch.linalg.qr(torch.randn(16, 6, generator=noise, dtype=torch.float64)).Q
        self.right = torch.linalg.qr(torch.randn(6, 6, generator=noise, dtype=torch.float64)).Q
        self.register_buffer("matrix", left @ torch.diag(torch.tensor(strengths, dtype=torch.float64)) @ self.right.T)

    def forward(self, z):
        return (z @ self.matrix.T).unflatten(1, (1, 4, 4))


def decoder(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 12), nn.GELU(), nn.Unflatten(1, (3, 2, 2)), nn.ConvTranspose2d(3, 2, 4, 2, 1), nn.Sigmoid()
    ).to(dtype)  # fmt: skip


def same_lines(a, b, tolerance):
    """Rows of a and b agree up to their signs."""
    torch.testing.assert_close((a * b).sum(dim=1).abs(), torch.ones(len(a), dtype=a.dtype), atol=tolerance, rtol=0)


def concentration(factors):
    """Mean share of the largest change among the changes of all factors along paths `[steps + 1, n, F]`."""
    change = factors.diff(dim=0).abs().sum(dim=0)
    return float((change.max(dim=1).values / change.sum(dim=1)).mean())


def test_the_registry_names_them_all():
    assert set(ALL) <= set(baselines())
    for name in ALL:
        flow = baseline(name, Linear(), potentials=3, **CPU)
        assert isinstance(flow, Flow)
        assert (flow.latent_dim, flow.potentials) == (6, 3)
    with pytest.raises(UnknownName, match=r"no baseline `sefo`.*axis.*ganspace.*sefa"):
        baseline("sefo", Linear())


def test_a_new_baseline_is_a_decorated_class(monkeypatch):
    @register_baseline("mine")
    class Mine(AxisDirections):
        pass

    monkeypatch.setitem(_BASELINES, "mine", Mine)
    assert isinstance(baseline("mine", latent_dim=4, potentials=2), Mine)
    monkeypatch.delitem(_BASELINES, "mine")


@pytest.mark.parametrize("name", ["random", "axis", "sefa"])
def test_directions_are_orthonormal(name):
    directions = baseline(name, decoder(), latent_dim=6, potentials=4, **CPU).fit().directions
    torch.testing.assert_close(directions @ directions.T, torch.eye(4, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["random", "axis", "sefa", "ganspace"])
def test_every_step_of_a_linear_flow_is_as_long_as_asked_and_comes_back(name):
    flow = baseline(name, Linear(), potentials=4, **CPU).fit()
    z, k = flow.sample(7), torch.arange(7) % 4
    path = flow.traverse(z, k, steps=5, step_length=0.3, direction=-1)
    steps = path.diff(dim=0)
    torch.testing.assert_close(steps.norm(dim=-1), torch.full((5, 7), 0.3, dtype=torch.float64))
    torch.testing.assert_close(steps[3], -0.3 * flow.directions[k])
    torch.testing.assert_close(flow.inverse(path[-1], k, 5, 0.3, -1)[-1], z, atol=1e-12, rtol=0)


def test_the_potential_of_a_linear_flow_has_its_velocity_as_gradient():
    flow = RandomDirections(latent_dim=5, potentials=3, **CPU)
    z, k = flow.sample(4).requires_grad_(), torch.tensor([0, 1, 2, 1])
    (gradient,) = torch.autograd.grad(flow.potential(z, 2.0, k).sum(), z)
    torch.testing.assert_close(gradient, flow.velocity(z, 2.0, k))


def test_random_directions_depend_on_the_seed_alone():
    torch.manual_seed(1)
    first = RandomDirections(latent_dim=8, potentials=5, seed=3, **CPU).directions
    torch.manual_seed(2)
    torch.testing.assert_close(RandomDirections(latent_dim=8, potentials=5, seed=3, **CPU).directions, first)
    assert (RandomDirections(latent_dim=8, potentials=5, seed=4, **CPU).directions - first).abs().max() > 0.1


def test_there_may_be_more_random_directions_than_dimensions():
    directions = RandomDirections(latent_dim=3, potentials=7, **CPU).directions
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(7, dtype=torch.float64))


@pytest.mark.parametrize("make", [SeFa, AxisDirections, LocalJacobian])
def test_more_orthogonal_directions_than_dimensions_are_refused(make):
    with pytest.raises(ValueError, match="`potentials` is 7"):
        make(Linear(), potentials=7)


@pytest.mark.parametrize("form", ["jacobian", "randomised"])
def test_sefa_of_a_linear_map_gives_its_right_singular_vectors(form):
    generator = Linear()
    flow = SeFa(generator, potentials=3, form=form, samples=4, **CPU).fit()
    same_lines(flow.directions, generator.right.T[:3], 1e-10)


@pytest.mark.parametrize("name", ["sefa", "ganspace"])
def test_directions_turn_with_the_latent_space(name):
    """G'(z) = G(R z) has the directions R^T n: here to the sampling error of the means, as codes are drawn anew."""
    generator = Linear()
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)).Q

    class Turned(nn.Module):
        latent_dim = 6
        dtype = torch.float64

        def forward(self, z):
            return 3 * generator(z @ turn.T) + 1

    settings = {"samples": 4000} if name == "ganspace" else {"form": "jacobian", "samples": 4}
    first = baseline(name, generator, potentials=2, **settings, **CPU).fit().directions
    second = baseline(name, Turned(), potentials=2, **settings, **CPU).fit().directions
    same_lines(second, first @ turn, 5e-3 if name == "ganspace" else 1e-10)


@pytest.mark.parametrize("first", ["linear", "transposed"])
def test_sefa_reads_the_weights_of_the_first_layer_that_is_called(first):
    torch.manual_seed(0)
    layer = nn.Linear(6, 16) if first == "linear" else nn.ConvTranspose2d(6, 4, 2)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.later = nn.Linear(6, 6)  # declared before the first one, called after it
            self.first = layer

        def forward(self, z):
            if first == "linear":
                return self.first(z).unflatten(1, (4, 2, 2))
            return self.first(z[:, :, None, None])

    flow = SeFa(Net(), 6, 3, **CPU).fit()
    assert flow.form_used == "weights"
    matrix = layer.weight if first == "linear" else layer.weight.flatten(1).T
    expected = torch.linalg.svd(matrix.detach().double()).Vh[:3]
    same_lines(flow.directions, expected, 1e-10)


def test_sefa_takes_the_layers_that_are_named():
    net = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 16), nn.Unflatten(1, (1, 4, 4)))
    flow = SeFa(net, 6, 2, layers=["1"], **CPU).fit()
    same_lines(flow.directions, torch.linalg.svd(net[1].weight.detach().double()).Vh[:2], 1e-10)
    with pytest.raises(UnknownName, match=r"`2`.*0, 1"):
        SeFa(net, 6, 2, layers=["2"], **CPU).fit()


def test_sefa_says_which_form_would_do():
    with pytest.raises(NotApplicable, match='write `form="jacobian"`'):
        SeFa(Linear(), potentials=2, form="weights", **CPU).fit()
    with pytest.raises(UnknownName, match="auto, jacobian, randomised, weights"):
        SeFa(Linear(), form="exact")


def test_forward_mode_agrees_with_reverse_mode():
    net = decoder()
    z = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.stack([torch.autograd.functional.jacobian(lambda c: net(c[None]).flatten(), row) for row in z])
    torch.testing.assert_close(torch.cat(list(jacobians(net, z))), expected)
    torch.testing.assert_close(push_forward(net, z, torch.ones_like(z)), expected.sum(dim=2))
    torch.testing.assert_close(mean_pullback(net, z), (expected.mT @ expected).mean(dim=0))


def test_subspace_iteration_agrees_with_the_whole_matrix():
    """40 dimensions by 10 columns; singular values fall off by 0.7, so the error by 0.7^18 a round: overlap to 1e-9."""
    noise = torch.Generator().manual_seed(0)
    matrix = torch.randn(64, 40, generator=noise, dtype=torch.float64) * 0.7 ** torch.arange(40)
    turn = torch.linalg.qr(torch.randn(40, 40, generator=noise, dtype=torch.float64)).Q

    class Bent(nn.Module):
        dtype = torch.float64

        def forward(self, z):
            y = z @ turn @ matrix.T
            return (y + 0.1 * torch.sin(y)).unflatten(1, (1, 8, 8))

    z = torch.randn(9, 40, generator=noise, dtype=torch.float64)
    expected = torch.linalg.eigh(mean_pullback(Bent(), z)).eigenvectors.flip(1).T[:2]
    found = leading_pullback(Bent(), z, 2, torch.Generator().manual_seed(1))
    same_lines(found, expected, 1e-9)
    torch.testing.assert_close(found @ found.T, torch.eye(2, dtype=torch.float64))


def test_an_operation_without_forward_derivative_is_named():
    class Blocked(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            return g

    class Net(Linear):
        def forward(self, z):
            return Blocked.apply(super().forward(z))

    with pytest.raises(NotYet, match="cannot be differentiated by forward mode"):
        SeFa(Net(), potentials=2, form="jacobian", **CPU).fit()


def test_principal_scores_agree_with_the_singular_value_decomposition():
    """Both matrices give them: n x n for few samples, m x m for many."""
    noise = torch.Generator().manual_seed(0)
    for n, m in ((9, 20), (20, 9)):
        samples = torch.randn(n, m, generator=noise, dtype=torch.float64)
        left = torch.linalg.svd(samples - samples.mean(dim=0)).U[:, :3]
        same_lines(principal_scores(samples, 3).T, left.T, 1e-10)


def test_ganspace_of_a_linear_map_gives_its_right_singular_vectors():
    """Up to the sampling error of 4000 codes."""
    generator = Linear()
    same_lines(GANSpace(generator, potentials=2, samples=4000, **CPU).fit().directions, generator.right.T[:2], 5e-3)


def test_ganspace_looks_into_the_layer_that_is_named():
    """Of a linear first layer it finds the leading direction, whatever comes after."""
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    net[0].weight.data = Linear().matrix.float()
    flow = GANSpace(net, 6, 1, layer="0", samples=4000, **CPU).fit()
    same_lines(flow.directions, Linear().right.T[:1], 5e-3)
    with pytest.raises(UnknownName, match=r"layer of the generator `9`.*0, 1, 2"):
        GANSpace(net, 6, 1, layer="9", **CPU).fit()


@pytest.fixture(scope="module")
def warped():
    return WarpedGenerator(warp=0.0, size=24).double()


def test_sefa_finds_linear_factors_and_the_oracle_is_exact(warped):
    flow = SeFa(warped, potentials=5, **CPU).fit()
    assert flow.form_used == "jacobian"
    z, k = flow.sample(400, seed=1), torch.arange(400) % 5
    assert concentration(warped.factors(flow.traverse(z, k))) >= 0.75
    assert concentration(warped.factors(warped.oracle(z, k))) >= 0.999
    assert concentration(warped.factors(RandomDirections(warped, **CPU).traverse(z, k))) <= 0.6


def test_fitting_is_repeated_to_the_digit_whatever_the_global_seed():
    for name in ALL:
        torch.manual_seed(1)
        first = baseline(name, decoder(), latent_dim=6, potentials=3, seed=2, **CPU).fit()
        torch.manual_seed(2)
        second = baseline(name, decoder(), latent_dim=6, potentials=3, seed=2, **CPU).fit()
        z = first.sample(4)
        assert torch.equal(first.velocity(z, 1.0, 1), second.velocity(z, 1.0, 1)), name


def test_local_jacobian_of_a_linear_map_walks_along_a_singular_vector_and_back():
    generator = Linear()
    flow = LocalJacobian(generator, potentials=3, **CPU).fit()
    z, k = flow.sample(6), torch.arange(6) % 3
    path = flow.traverse(z, k)
    same_lines(path.diff(dim=0)[4] / 0.35, generator.right.T[k], 1e-10)
    torch.testing.assert_close(flow.inverse(path[-1], k)[-1], z, atol=1e-8, rtol=0)


class Crossing(nn.Module):
    """Images (z_0 z_1-dependent strengths): along z_0 the two singular values 2 - z_0 and 1 + z_0 cross at 1/2."""

    latent_dim = 2
    dtype = torch.float64

    def forward(self, z):
        x, y = z[:, 0], z[:, 1]
        return torch.stack([2 * x - x**2 / 2, (1 + x) * y, 0 * x, 0 * x], dim=1).unflatten(1, (1, 2, 2))


def test_local_jacobian_follows_its_vector_where_singular_values_cross():
    flow = LocalJacobian(Crossing(), potentials=2, **CPU).fit()
    start = torch.tensor([[-0.5, 0.0]], dtype=torch.float64)
    sign = int(torch.sign(flow.velocity(start, 1.0, 0)[0, 0]))
    path = flow.traverse(start, 0, steps=10, step_length=0.2, direction=sign)
    torch.testing.assert_close(path[-1], torch.tensor([[1.5, 0.0]], dtype=torch.float64))
    # At the end the first singular vector is the other axis: had rank been kept, the walk would have turned.
    assert abs(float(flow.velocity(path[-1], 1.0, 0)[0, 0])) < 1e-9


def test_local_jacobian_never_turns_back():
    """Successive steps have a positive overlap, for every k and from every start."""
    flow = LocalJacobian(WarpedGenerator(warp=1.0, size=16).double(), potentials=5, samples=32, **CPU).fit()
    z, k = flow.sample(20), torch.arange(20) % 5
    steps = flow.traverse(z, k, steps=4).diff(dim=0) / 0.35
    torch.testing.assert_close(steps.norm(dim=-1), torch.ones(4, 20, dtype=torch.float64))
    assert (steps[1:] * steps[:-1]).sum(dim=-1).min() > 0


def test_local_jacobian_refuses_what_needs_derivatives_of_singular_vectors():
    flow = LocalJacobian(Linear(), potentials=2, **CPU).fit()
    with pytest.raises(NotYet, match="singular vectors"):
        flow.transported_log_density(flow.sample(2))


def test_local_directions_come_back_along_the_walks_that_were_made():
    """Where singular values cross, the end alone does not tell which vector was followed."""
    flow = LocalJacobian(WarpedGenerator(warp=1.0, size=12), potentials=5, samples=16, **CPU).fit()
    z, k, direction = flow.sample(10), torch.arange(10) % 5, torch.tensor([1, -1] * 5)
    path = flow.traverse(z, k, direction=direction)
    other = flow.traverse(z, k, 3)
    assert torch.equal(flow.inverse(path[-1], k, direction=direction), path.flip(0))
    assert torch.equal(flow.inverse(other[-1, 3:5], k[3:5], 3), other[:, 3:5].flip(0))
    assert len(flow._walks) == 2  # looking back is no walk
    straight = LocalJacobian(Linear(), potentials=2, **CPU).fit()
    z = straight.sample(3)
    path = straight.traverse(z, 0)
    back = straight.inverse(path[-1], 1)  # another potential than was walked along
    assert torch.allclose(straight.traverse(back[-1], 1)[-1], path[-1])
    assert not torch.allclose(back[-1], z, atol=0.1)


@pytest.mark.parametrize("name", ["sefa", "ganspace", "local-jacobian"])
def test_a_baseline_that_was_not_fitted_says_so(name):
    flow = baseline(name, Linear(), potentials=2, **CPU)
    with pytest.raises(NotSolved, match=r"call `\.fit\(\)` first"):
        flow.traverse(flow.sample(2))


@pytest.mark.parametrize("name", ["sefa", "ganspace", "local-jacobian"])
def test_a_baseline_that_looks_at_images_needs_a_generator(name):
    with pytest.raises(ValueError, match="give it the `generator`"):
        baseline(name, None, latent_dim=4, potentials=2, **CPU).fit()


def test_a_missing_or_contradicting_dimension_is_named():
    with pytest.raises(ValueError, match=r"`latent_dim` is missing.*write `latent_dim"):
        baseline("random", decoder())
    with pytest.raises(ValueError, match="`latent_dim` is 5, but the generator has 6"):
        baseline("random", Linear(), latent_dim=5)
