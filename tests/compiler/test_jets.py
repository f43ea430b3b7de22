"""Taylor mode against nested reverse mode, against polynomials, and in its gradients."""

import itertools
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from pinnflow.compiler.chains import CHAINS
from pinnflow.compiler.derivatives import derivatives_along, partial_derivatives
from pinnflow.compiler.jets import RULES, MissingRule, directional_jet
from pinnflow.compiler.lines import Combination
from pinnflow.compiler.reference import nested_reverse
from pinnflow.trial.networks import ACTIVATIONS, NETWORKS, make_network

LAYERS = {
    "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "silu": nn.SiLU, "gelu": nn.GELU, "softplus": nn.Softplus, "mish": nn.Mish,
    "elu": nn.ELU, "logsigmoid": nn.LogSigmoid, "softsign": nn.Softsign,
    "gelu tanh": lambda: nn.GELU(approximate="tanh"),
}  # fmt: skip


def along(function, points, direction, order):
    """Derivatives along one line by differentiating in the line's parameter again and again."""
    s = torch.zeros(points.shape[0], 1, dtype=points.dtype, requires_grad=True)
    values = function(points + s * direction)
    columns, result = list(values.unbind(1)), [values]
    for _ in range(order):
        columns = [
            torch.autograd.grad(c.sum(), s, create_graph=True)[0][:, 0] if c.requires_grad else torch.zeros_like(c)
            for c in columns
        ]
        result.append(torch.stack(columns, 1))
    return result


def close(found, expected, accuracy=1e-10):
    scale = max(1e-300, float(expected.detach().abs().max()))
    assert float((found - expected).detach().abs().max()) <= accuracy * scale


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(1, 4), st.integers(1, 3), st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.sampled_from(sorted(LAYERS)), st.integers(0, 10**6), st.data(),
)  # fmt: skip
def test_partial_derivatives_of_random_networks_are_those_of_nested_reverse(d, m, widths, activation, seed, data):
    torch.manual_seed(seed)
    sizes = [d, *widths, m]
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), LAYERS[activation]())]
    net = nn.Sequential(*layers[:-1]).double()
    points = torch.randn(4, d, dtype=torch.float64)
    orders = st.lists(st.integers(0, 4), min_size=d, max_size=d).map(tuple).filter(lambda a: sum(a) <= 4)
    requests = data.draw(st.lists(st.tuples(st.integers(0, m - 1), orders), min_size=1, max_size=3, unique=True))
    found, expected = partial_derivatives(net, points, requests), nested_reverse(net, points, requests)
    for request in requests:
        # Mixed derivatives are differences of pure ones of the same order, so those set the scale of rounding.
        k = sum(request[1])
        pure = [(request[0], tuple(k * (i == j) for i in range(d))) for j in range(d)]
        size = max(
            float(v.detach().abs().max()) for v in [*nested_reverse(net, points, pure).values(), expected[request]]
        )
        assert float((found[request] - expected[request]).detach().abs().max()) <= 1e-10 * max(size, 1e-12)


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_networks_have_a_rule_for_all_they_do(name, activation):
    net = make_network(name, inputs=2, outputs=2, width=6, depth=2, activation=activation, bounds=[(0, 1), (0, 9)],
                       periodic=[1], harmonics=2, scale=[2.0, 3.0], shift=1.0)  # fmt: skip
    points = torch.rand(5, 2, dtype=torch.float64)
    requests = [(0, (0, 0)), (0, (2, 0)), (1, (1, 1)), (1, (0, 4)), (0, (2, 2))]
    found, expected = partial_derivatives(net, points, requests), nested_reverse(net, points, requests)
    for request in requests:
        close(found[request], expected[request])


@pytest.mark.parametrize("name", sorted(CHAINS))
def test_every_chain_is_the_derivative_of_its_function(name):
    """The k-th entry differentiated is the next one."""
    z = torch.tensor([0.31, 0.62, 0.87], dtype=torch.float64, requires_grad=True)
    chain = CHAINS[name](z, 5)
    assert len(chain) == 6
    for entry, following in itertools.pairwise(chain):
        if not isinstance(entry, torch.Tensor):
            assert following is None
            continue
        slope = torch.zeros_like(z)
        if entry.requires_grad:
            (slope,) = torch.autograd.grad(entry.sum(), z, retain_graph=True)
        following = torch.zeros_like(z) if following is None else following
        assert torch.allclose(slope, torch.as_tensor(following, dtype=z.dtype).expand(3), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 6])
def test_exact_on_polynomials(order):
    """f = (a.x)^order + x0 x1 has d^k/ds^k known in closed form."""
    a = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    points = torch.tensor([[1.0, 2.0, 4.0], [-1.0, 0.5, 2.0]], dtype=torch.float64)
    v = torch.tensor([[1.0, 1.0, 2.0]], dtype=torch.float64)
    jet = directional_jet(lambda x: ((x @ a[:, None]) ** order) + x[:, :1] * x[:, 1:2], points, v, order)
    inner, slope = points @ a, float(v[0] @ a)
    for k in range(1, order + 1):
        expected = math.perm(order, k) * inner ** (order - k) * slope**k
        if k == 1:
            expected = expected + points[:, 0] + points[:, 1]
        if k == 2:
            expected = expected + 2
        assert torch.allclose(jet[k][0, :, 0], expected, rtol=1e-15, atol=0)


class Odd(nn.Module):
    """Every kind of operation a network may be made of."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))

    def forward(self, x):
        h = torch.cat(
            [torch.sin(x @ self.weight), x[:, :1] ** 3, torch.exp(-(x[:, 1:2] ** 2)), torch.ones_like(x[:, :1])], -1
        )
        h = h[:, :6] if len(x.shape) == 2 else h
        a, b, c = h.chunk(3, dim=-1)
        q = torch.stack([a.sum(-1), (a * b[:, :1]).mean(dim=1) + c.square().sum(1)], 1)
        q = q / (1 + x[:, :1] ** 2) - 2 / (3 + torch.cos(x[:, 2])).unsqueeze(-1)
        q = q.reshape(-1, 1, 2).transpose(1, 2).squeeze(-1) + torch.einsum("nd,dk->nk", x, self.weight[:, :2])
        f = torch.erf(q) + torch.atan(q) * torch.asinh(q) + 2**q + torch.where(q > 0, q, -q) * torch.sqrt(2 + q**2)
        return f + torch.log(3 + torch.tanh(q)) + torch.tan(0.1 * q) + torch.cosh(q) - q.sigmoid() ** q.abs().sqrt()


def test_any_mixture_of_operations_and_different_orders_per_direction():
    torch.manual_seed(0)
    net, points, lines = Odd(), torch.randn(5, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    jet = directional_jet(net, points, lines, [4, 2])
    assert [tuple(entry.shape) for entry in jet] == [(5, 2), (2, 5, 2), (2, 5, 2), (1, 5, 2), (1, 5, 2)]
    for i, order in enumerate([4, 2]):
        expected = along(net, points, lines[i], order)
        for k in range(order + 1):
            close(jet[k][i] if k else jet[0], expected[k], 1e-12)


def test_directions_may_differ_from_row_to_row():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    points, lines = torch.randn(4, 2, dtype=torch.float64), torch.randn(3, 4, 2, dtype=torch.float64)
    jet = directional_jet(net, points, lines, 3)
    for i in range(3):
        close(jet[3][i], along(net, points, lines[i], 3)[3])


def test_layer_norm_follows_its_formula():
    """Against the formula written out: torch's own layer_norm has wrong third derivatives on the CPU."""

    def written_out(x):
        centred = x - x.mean(-1, keepdim=True)
        return centred * torch.rsqrt((centred * centred).mean(-1, keepdim=True) + 1e-5)

    points, line = torch.randn(4, 3, dtype=torch.float64), torch.tensor([[1.0, 2.0, 0.5]], dtype=torch.float64)
    jet, expected = directional_jet(nn.LayerNorm(3).double(), points, line, 4), along(written_out, points, line, 4)
    for k in range(1, 5):
        close(jet[k][0], expected[k], 1e-9)


class Attention(nn.Module):
    """Two heads that look at the coordinates as tokens."""

    def __init__(self, written_out=False):
        super().__init__()
        self.embed, self.qkv, self.out = nn.Linear(1, 4), nn.Linear(4, 12), nn.Linear(4, 1)
        self.norm, self.place = nn.RMSNorm(4), nn.Parameter(torch.randn(3, 4))
        self.written_out = written_out

    def forward(self, x):
        z = self.embed(x[:, :, None]) + self.place
        q, k, v = (p.unflatten(-1, (2, 2)).transpose(1, 2) for p in self.qkv(z).chunk(3, -1))
        if self.written_out:
            h = torch.softmax(q @ k.transpose(-2, -1) / 2**0.5, dim=-1) @ v
        else:
            h = nn.functional.scaled_dot_product_attention(q, k, v)
        z = self.norm(z + h.transpose(1, 2).reshape(-1, 3, 4))
        return self.out(torch.tanh(z)).sum(1) + torch.logsumexp(z[:, 0], -1, keepdim=True)


@pytest.mark.parametrize("written_out", [True, False])
def test_attention_has_rules(written_out):
    torch.manual_seed(0)
    net, points = Attention(written_out).double(), torch.rand(4, 3, dtype=torch.float64)
    reference = net if written_out else Attention(True).double()
    reference.load_state_dict(net.state_dict())
    requests = [(0, (0, 0, 0)), (0, (2, 0, 0)), (0, (1, 1, 1)), (0, (0, 4, 0))]
    laplacian = Combination(0, (((0, 0, 2), 1), ((0, 2, 0), 1), ((2, 0, 0), 1)))
    found = partial_derivatives(net, points, [*requests, laplacian])
    expected = nested_reverse(reference, points, [*requests, *((0, a) for a, _ in laplacian.terms)])
    for request in requests:
        close(found[request], expected[request])
    close(partial_derivatives(net, points, [laplacian])[laplacian], sum(expected[0, a] for a, _ in laplacian.terms))


class Generator(nn.Module):
    """Latent vectors to images."""

    def __init__(self, strange=False):
        super().__init__()
        self.first, self.norm = nn.Linear(3, 8), nn.BatchNorm2d(2).eval()
        self.up, self.last = nn.ConvTranspose2d(2, 2, 2, stride=2), nn.Conv2d(2, 1, 3, padding=1)
        self.strange = strange

    def forward(self, z):
        h = torch.tanh(self.first(z)).reshape(-1, 2, 2, 2)
        h = nn.functional.interpolate(self.norm(self.up(h)), scale_factor=2, mode="bilinear")
        h = nn.functional.avg_pool2d(torch.sigmoid(self.last(h)), 2)
        return torch.cumprod(h, -1) if self.strange else h


@pytest.mark.parametrize("strange", [False, True])
def test_derivatives_of_images_along_lines(strange):
    """Twice by forward mode, whether or not every operation has a rule."""
    torch.manual_seed(0)
    net, z, v = Generator(strange).double(), torch.randn(4, 3).double(), torch.randn(4, 3).double().requires_grad_()
    if strange:
        with pytest.raises(MissingRule, match="cumprod"):
            directional_jet(net, z, v[None], 2)
    found = derivatives_along(net, z, v, 2)
    s = torch.zeros((), dtype=torch.float64)
    first = lambda s: torch.func.jvp(lambda q: net(z + q * v), (s,), (torch.ones_like(s),))[1]  # noqa: E731
    close(found[0], net(z), 1e-14)
    close(found[1], first(s), 1e-11)
    close(found[2], torch.func.jvp(first, (s,), (torch.ones_like(s),))[1], 1e-11)
    assert torch.autograd.grad(found[2].square().sum(), v)[0].abs().max() > 0


def test_a_constant_that_widens_a_result_does_not_lose_its_derivatives():
    """x + (5 numbers) has five equal derivatives, whatever follows."""
    torch.manual_seed(0)
    wide, layer = torch.randn(5, dtype=torch.float64), nn.Linear(5, 1).double()
    points = torch.rand(3, 1, dtype=torch.float64)
    for function in (
        lambda x: layer(x + wide),
        lambda x: (x + wide) @ layer.weight.T,
        lambda x: (x * (x + wide)).sum(1, keepdim=True),
        lambda x: (x + wide).square().mean(-1, keepdim=True),
    ):
        close(
            partial_derivatives(function, points, [(0, (1,))])[0, (1,)],
            nested_reverse(function, points, [(0, (1,))])[0, (1,)],
        )


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "gelu", "softplus"])
def test_orders_to_eight(name):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 3), LAYERS[name](), nn.Linear(3, 3), LAYERS[name](), nn.Linear(3, 1)).double()
    points, line = torch.rand(2, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    jet, expected = directional_jet(net, points, line, 8), along(net, points, line, 8)
    for k in range(1, 9):
        close(jet[k][0], expected[k], 1e-9)


def test_gradients_with_respect_to_weights():
    torch.manual_seed(1)
    net, points = (
        make_network("mlp", inputs=2, width=3, depth=2, dtype="float64"),
        torch.rand(3, 2, dtype=torch.float64),
    )
    names = [name for name, _ in net.named_parameters()]

    def function(*weights):
        values = partial_derivatives(
            lambda x: torch.func.functional_call(net, dict(zip(names, weights, strict=True)), (x,)),
            points, [(0, (2, 0)), (0, (1, 1)), (0, (0, 3))],
        )  # fmt: skip
        return torch.stack(list(values.values()))

    weights = tuple(p.detach().requires_grad_() for p in net.parameters())
    assert torch.autograd.gradcheck(function, weights)
    assert torch.autograd.gradgradcheck(function, weights, atol=1e-4)


def test_gradient_of_different_orders_per_direction():
    """The directions that end early get zeros, not somebody else's gradient."""
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    points = torch.rand(3, 2, dtype=torch.float64)
    requests = [(0, (3, 0)), (0, (0, 1)), (0, (0, 0))]
    gradients = []
    for function in (partial_derivatives, nested_reverse):
        values = function(net, points, requests)
        loss = sum((i + 1) * value.square().sum() for i, value in enumerate(values.values()))
        gradients.append(torch.autograd.grad(loss, net.parameters(), allow_unused=True, materialize_grads=True))
    for found, expected in zip(*gradients, strict=True):
        close(found, expected, 1e-12) if expected.abs().max() > 0 else None


def test_forward_mode_and_vmap_of_jets():
    net, points = make_network("mlp", inputs=2, width=4, depth=1), torch.rand(3, 2, dtype=torch.float64)
    weights = {name: p.detach() for name, p in net.named_parameters()}

    def function(weights):
        return partial_derivatives(lambda x: torch.func.functional_call(net, weights, (x,)), points, [(0, (2, 1))])[
            0, (2, 1)
        ]

    reverse = torch.func.jacrev(function)(weights)
    forward = torch.func.jacfwd(function)(weights)
    for name in weights:
        close(forward[name], reverse[name], 1e-12)
    many = torch.func.vmap(function)({name: torch.stack([w, 2 * w]) for name, w in weights.items()})
    close(many[1], function({name: 2 * w for name, w in weights.items()}), 1e-12)


def test_without_gradients_nothing_is_recorded():
    net = make_network("mlp", inputs=1, width=4, depth=1)
    with torch.no_grad():
        assert not partial_derivatives(net, torch.rand(3, 1, dtype=torch.float64), [(0, (2,))])[0, (2,)].requires_grad
        assert not nested_reverse(net, torch.rand(3, 1, dtype=torch.float64), [(0, (2,))])[0, (2,)].requires_grad


@pytest.mark.parametrize(
    ("function", "operation"),
    [(lambda x: torch.fft.rfft(x), "fft_rfft"), (lambda x: x.cumprod(1), "cumprod"), (lambda x: x @ x.T @ x, "matmul")],
)
def test_a_missing_rule_names_the_operation(function, operation):
    with pytest.raises(MissingRule, match=operation):
        directional_jet(function, torch.rand(3, 2), torch.eye(2), 2)


def test_a_rule_of_ones_own_is_one_entry(monkeypatch):
    """sinc(x) by a composition of rules that exist."""
    monkeypatch.setitem(RULES, "sinc", lambda jet: (torch.sin(jet * math.pi)) / (jet * math.pi))
    points = torch.rand(3, 1, dtype=torch.float64) + 0.5
    jet = directional_jet(torch.sinc, points, torch.ones(1, 1, dtype=torch.float64), 2)
    close(jet[2][0], along(lambda x: torch.sin(math.pi * x) / (math.pi * x), points, 1.0, 2)[2])


def test_a_constant_function_has_zero_derivatives():
    jet = directional_jet(lambda x: torch.ones(x.shape[0], 1), torch.rand(3, 2), torch.eye(2), [2, 1])
    assert [tuple(entry.shape) for entry in jet] == [(3, 1), (2, 3, 1), (1, 3, 1)] and not any(j.any() for j in jet[1:])


def test_orders_must_not_increase():
    with pytest.raises(ValueError, match="not increasing; it is \\[1, 2\\]"):
        directional_jet(torch.sin, torch.rand(3, 2), torch.eye(2), [1, 2])
