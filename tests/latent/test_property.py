"""Walks that raise a property: the stationary law of Langevin's dynamics, gradients, success beside controls."""

import math

import pytest
import torch
from torch import nn

from pinnflow.errors import NonFinite, NotApplicable, UnknownName, WrongShape
from pinnflow.latent import PotentialFlow, WarpedGenerator
from pinnflow.latent.metrics.properties import _SignedAxes, compare_on_property, image_similarity
from pinnflow.latent.property import Gain, GradientFlow, ImageProperty, LangevinFlow, LinearPropertyFlow
from pinnflow.latent.surrogate import Surrogate, fit_surrogate


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bowl(z):
    """f(z) = -|z|^2 / 2, whose gradient is -z."""
    return -z.square().sum(dim=1) / 2


def first(z):
    return z[:, 0]


# Property and prior alike pull with slope -z, so that both must come to the same law.
@pytest.mark.parametrize(
    ("properties", "prior"), [(bowl, 0.0), (lambda z: 0 * z[:, 0], 1.0)], ids=["property", "prior"]
)
@pytest.mark.parametrize("temperature", [1.0, 0.01])
def test_langevin_comes_to_the_variance_of_its_euler_scheme(properties, prior, temperature):
    """z' = (1 - a) z + sqrt(2 a T) n has the stationary variance 2 a T / (1 - (1 - a)^2) = 2 T / (2 - a)."""
    a, n = 0.1, 20_000
    flow = LangevinFlow(properties, latent_dim=1, rate=a, temperature=temperature, prior=prior, device="cpu")
    end = flow.traverse(torch.zeros(n, 1), steps=60)[-1]
    expected = 2 * temperature / (2 - a)
    # The variance of n normal numbers has the relative standard deviation sqrt(2 / n); (1 - a)^120 is 3e-6.
    assert float(end.var()) == pytest.approx(expected, rel=4 * math.sqrt(2 / n))
    assert abs(float(end.mean())) < 4 * math.sqrt(expected / n)


def test_direction_turns_the_property_and_neither_prior_nor_noise():
    up, down = (
        LangevinFlow(first, latent_dim=3, rate=0.1, temperature=0.3, prior=0.7, seed=2, device="cpu").traverse(
            normal(50, 3), steps=1, direction=s
        )
        for s in (1, -1)
    )
    difference = up[-1] - down[-1]
    expected = torch.tensor([0.2, 0.0, 0.0], dtype=torch.float64).expand(50, 3)
    torch.testing.assert_close(difference, expected, rtol=0, atol=1e-14)


def test_langevin_without_temperature_is_the_gradient_flow():
    z = normal(20, 4)
    cold = LangevinFlow(bowl, latent_dim=4, rate=0.2, temperature=0.0, device="cpu").traverse(z, steps=5)
    plain = GradientFlow(bowl, latent_dim=4, rate=0.2, device="cpu").traverse(z, steps=5, step_length=None)
    torch.testing.assert_close(cold, plain, rtol=0, atol=1e-15)
    torch.testing.assert_close(cold[-1], 0.8**5 * z, rtol=1e-13, atol=0)


def test_walk_with_noise_follows_its_seed_and_can_be_continued():
    make = lambda seed: LangevinFlow(bowl, latent_dim=2, temperature=0.5, seed=seed, device="cpu")  # noqa: E731
    z = normal(9, 2)
    whole = make(1).traverse(z, steps=6)
    assert torch.equal(whole, make(1).traverse(z, steps=6))
    assert not torch.equal(whole, make(2).traverse(z, steps=6))
    half = make(1).traverse(z, steps=3)
    assert torch.equal(whole[3:], make(1).traverse(half[-1], steps=3, start=3))
    assert not torch.equal(whole[1] - whole[0], whole[2] - whole[1])


def test_temperature_may_fall_with_the_steps():
    flow = LangevinFlow(lambda z: 0 * z[:, 0], latent_dim=2, temperature=lambda i: 1.0 if i <= 2 else 0.0, device="cpu")
    path = flow.traverse(normal(5, 2), steps=4)
    assert not torch.equal(path[1], path[2]) and torch.equal(path[2], path[3]) and torch.equal(path[3], path[4])


def test_steps_with_noise_have_the_length_that_is_asked_for():
    path = LangevinFlow(bowl, latent_dim=3, temperature=1.0, device="cpu").traverse(
        normal(8, 3), steps=4, step_length=0.3
    )
    lengths = torch.linalg.vector_norm(path[1:] - path[:-1], dim=-1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 0.3), rtol=1e-12, atol=0)


def test_weights_give_sums_fields_and_directions():
    """Row (2, -1) climbs 2 f_0 - f_1; `maximise` turns the second property alone."""
    z = normal(7, 3)
    both = [first, bowl]
    flow = GradientFlow(both, latent_dim=3, weights=[[2.0, -1.0], [0.0, 1.0]], rate=1.0, device="cpu")
    e = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(flow.velocity(z, 1.0, 0), 2 * e + z)
    k = torch.tensor([0, 1] * 3 + [0])
    torch.testing.assert_close(flow.velocity(z, 1.0, k), torch.where(k[:, None] == 0, 2 * e + z, -z))
    torch.testing.assert_close(flow.potential(z, 1.0, 0), 2 * z[:, 0] - bowl(z))
    torch.testing.assert_close(flow.values(z[None])[0], torch.stack([z[:, 0], bowl(z)], dim=1))
    falling = GradientFlow(both, latent_dim=3, maximise=[True, False], rate=1.0, device="cpu")
    assert falling.potentials == 2
    torch.testing.assert_close(falling.velocity(z, 1.0, 1), z)


class Noisy(nn.Module):
    """A property network whose answer in training mode depends on the batch and on chance."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, z):
        return self.layers(z)


def test_property_networks_are_asked_in_evaluation_mode_and_left_as_they_were():
    network = Noisy().train()
    statistics = network.layers[1].running_mean.clone()
    flow = GradientFlow(network, latent_dim=3, rate=1.0, device="cpu")
    z = normal(16, 3)
    together = flow.velocity(z, 1.0)
    alone = torch.cat([flow.velocity(row[None], 1.0) for row in z])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-7)  # the network computes in float32
    assert network.training and network.layers[2].training and network.layers[0].weight.requires_grad
    assert torch.equal(network.layers[1].running_mean, statistics)


def test_property_of_images_is_climbed_through_the_generator():
    generator = WarpedGenerator(warp=0.5, size=16)
    light = ImageProperty(lambda x: x.flatten(1).mean(dim=1), generator)
    flow = GradientFlow(light, generator, device="cpu")
    z = flow.sample(4)
    along = flow.traverse(z, steps=3, step_length=0.1)
    values = flow.values(along)[..., 0]
    assert bool((values[1:] > values[:-1]).all())
    h = 1e-3  # images are in float32
    e = torch.zeros(8, dtype=torch.float64)
    e[1] = h
    slope = (flow.values(z + e) - flow.values(z - e))[:, 0] / (2 * h)
    torch.testing.assert_close(flow.slope(z)[:, 1], slope, rtol=2e-2, atol=2e-4)


@pytest.fixture(scope="module")
def table():
    generator = WarpedGenerator(warp=1.0, size=16)
    wanted = lambda z: generator.factors(z)[:, 2]  # noqa: E731
    flows = [
        (GradientFlow(wanted, generator, rate=0.1, name="gradient raw", device="cpu"), None),
        (GradientFlow(wanted, generator, name="gradient unit", device="cpu"), 0.2),
        (LangevinFlow(wanted, generator, rate=0.1, temperature=5e-6, name="langevin cold", device="cpu"), None),
        (LangevinFlow(wanted, generator, rate=0.1, temperature=0.05, name="langevin hot", device="cpu"), None),
    ]
    others = lambda z: generator.factors(z)[:, [0, 1, 3, 4]]  # noqa: E731
    alike = image_similarity(generator)
    return compare_on_property(flows, wanted, others=others, similarity=alike, control_step=0.2, walks=300)


def test_gradient_flow_never_falls_where_random_directions_do(table):
    rows = table.values
    assert rows["gradient raw"].strict >= 0.95
    assert rows["langevin cold"].strict >= 0.9
    assert rows["random"].strict <= 0.2
    assert rows["langevin hot"].strict < 0.5 < rows["gradient unit"].strict
    assert rows["gradient raw"].gain > 0.4
    assert abs(rows["random"].gain) < 0.1


def test_relaxed_success_is_nearly_free(table):
    assert table.values["random"].relaxed > 0.5 > 2 * table.values["random"].strict


def test_table_tells_side_effects_and_drift_beside_marked_controls(table):
    rows = table.values
    assert rows["gradient raw"].side_effect < rows["gradient unit"].side_effect
    assert rows["gradient raw"].drift > rows["gradient unit"].drift
    assert [name for name, row in rows.items() if row.control] == [
        "random",
        "random, one for all",
        "random axis, one for all",
        "random walk",
        "linear",
    ]
    assert rows["linear"].length == pytest.approx(2.0)
    assert "| random (control) |" in str(table)
    assert table.to_dict()["linear"]["control"] is True


def test_controls_walk_as_far_as_the_flow_and_half_of_short_lines_succeed():
    """On f = z_0 every straight line is monotone, and rises in half of the directions."""
    flow = GradientFlow(first, latent_dim=5, rate=0.03, device="cpu")
    rows = compare_on_property([(flow, None)], first, walks=1000).values
    assert rows["random"].length == pytest.approx(rows["gradient"].length)
    assert rows["random"].strict == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(1000))


def test_line_that_all_walks_share_depends_on_its_direction():
    """On f = z_0 a shared line raises all walks or none; on f = z_0^2 those that begin on one side, half of them."""
    flow = GradientFlow(first, latent_dim=5, device="cpu")
    row = compare_on_property([(flow, 0.2)], first, walks=400, steps=4).values["random, one for all"]
    assert row.quartiles == (0.0, 1.0)
    row = compare_on_property([(flow, 0.01)], lambda z: z[:, 0].square(), walks=400, steps=4).values
    assert row["random, one for all"].strict == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(400))
    assert row["random"].quartiles == ()


def test_axis_that_all_walks_share_is_one_of_all_in_both_directions():
    """On f = z_0 in 2 dimensions one of four signed axes raises all walks, one none, and two do not change it."""
    flow = GradientFlow(first, latent_dim=2, device="cpu")
    rows = compare_on_property([(flow, 0.2)], first, walks=400, steps=4)
    row = rows.values["random axis, one for all"]
    assert (row.strict, row.quartiles) == (0.0, (0.0, 0.25))
    assert "| 0.000 (0.00..0.25) |" in str(rows)
    axes = _SignedAxes(None, 3, 6, seed=0, device="cpu").directions
    assert sorted(map(tuple, axes.tolist())) == sorted(map(tuple, torch.cat([torch.eye(3), -torch.eye(3)]).tolist()))


def test_random_walk_turns_at_every_step_and_seldom_rises_all_the_way():
    """On f = z_0 a step rises with probability 1/2, so that four do with 1/16; the drift is that of 4 steps apart."""
    flow = GradientFlow(first, latent_dim=5, device="cpu")
    row = compare_on_property([(flow, 0.2)], first, walks=2000, steps=4).values["random walk"]
    assert row.strict == pytest.approx(1 / 16, abs=4 * math.sqrt(1 / 16 * 15 / 16 / 2000))
    assert row.length == pytest.approx(0.8)
    # E log N(z + sum of steps) - log N(z) = -4 * 0.2^2 / 2; its standard deviation is about 2 * 0.2.
    assert row.drift == pytest.approx(-0.08, abs=4 * 0.4 / math.sqrt(2000))


def test_several_properties_have_to_rise_together():
    """A walk along f_0 raises f_1 as well, or not: success is for walks where both rise, the gain their mean."""
    both = lambda z: torch.stack([z[:, 0], -z[:, 1]], dim=1)  # noqa: E731
    one = GradientFlow(first, latent_dim=3, name="one", device="cpu")
    each = GradientFlow([first, lambda z: z[:, 1]], latent_dim=3, weights=[[1.0, -1.0]], name="both", device="cpu")
    rows = compare_on_property([(one, 0.2), (each, 0.2)], both, walks=500, steps=5).values
    # z_1 stays, so it takes one value only and nothing has risen.
    assert rows["one"].strict == 0.0
    assert rows["one"].gains == pytest.approx((1.0, 0.0))
    assert rows["both"].strict == 1.0
    assert rows["both"].gains == pytest.approx((math.sqrt(0.5),) * 2)
    assert rows["both"].gain == pytest.approx(math.sqrt(0.5))
    assert rows["random"].strict == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / 500))
    assert rows["linear"].strict == 1.0


def test_drift_of_random_directions_is_half_the_squared_length():
    """E log N(z + s n) - log N(z) = -s^2 / 2 for |n| = 1; its standard deviation is s."""
    flow = GradientFlow(first, latent_dim=5, device="cpu")
    row = compare_on_property([(flow, 0.2)], first, walks=2000).values["random"]
    assert row.drift == pytest.approx(-2.0, abs=4 * 2 / math.sqrt(2000))


def test_regression_line_of_a_linear_property_is_its_gradient():
    weight = normal(4, seed=3)
    flow = LinearPropertyFlow(lambda z: z @ weight + 5, latent_dim=4, rate=1.0, count=50, device="cpu")
    torch.testing.assert_close(flow.velocity(normal(3, 4), 1.0), weight.expand(3, 4), rtol=1e-10, atol=1e-12)


def test_potentials_learn_to_raise_a_property():
    generator = WarpedGenerator(warp=0.5, size=8)
    wanted = lambda z: generator.factors(z)[:, 0]  # noqa: E731
    flow = PotentialFlow(
        generator, potentials=1, objectives=[Gain(wanted)], features=16, steps=4, step_length=0.2, device="cpu"
    )
    before = compare_on_property([(flow, 0.2)], wanted, walks=200, steps=4).values[flow.name]
    flow.fit(iterations=25, batch=16)
    after = compare_on_property([(flow, 0.2)], wanted, walks=200, steps=4).values[flow.name]
    assert after.gain > 0.15 > before.gain + 0.05
    assert after.strict > 0.8


def test_surrogate_stands_in_for_a_property_without_derivatives():
    """The gradient of the surrogate of a step-wise count climbs the count itself."""

    def count(z):
        return (z[:, None, 0] > torch.linspace(-2, 2, 41)).sum(dim=1)

    surrogate = fit_surrogate(count, 3, count=800, hidden=24, iterations=150)
    assert surrogate.determination > 0.98
    flow = GradientFlow(surrogate, latent_dim=3, device="cpu")
    cosine = nn.functional.cosine_similarity(flow.velocity(normal(200, 3), 1.0), torch.eye(3, dtype=torch.float64)[:1])
    assert float(cosine.detach().mean()) > 0.95
    with pytest.raises(NotApplicable, match="Surrogate"):
        GradientFlow(count, latent_dim=3, device="cpu").velocity(normal(4, 3), 1.0)


def test_surrogate_says_when_there_is_nothing_to_learn():
    z = normal(300, 3)
    assert Surrogate(z, normal(300, seed=9), iterations=50).determination < 0.2


def test_surrogate_refuses_what_it_cannot_learn_or_be_asked():
    z = normal(50, 3)
    with pytest.raises(NonFinite, match="code in row 2"):
        Surrogate(torch.where(torch.arange(50)[:, None] == 2, torch.nan, z), z[:, 0])
    with pytest.raises(ValueError, match="nothing to learn"):
        Surrogate(z, torch.ones(50))
    surrogate = Surrogate(z, z[:, 0], iterations=5)
    torch.testing.assert_close(surrogate(z.float()), surrogate(z), rtol=0, atol=1e-5)
    with pytest.raises(WrongShape, match=r"\[n, 3\]"):
        surrogate(z[:, :2])


def test_table_takes_numbers_of_any_kind_and_refuses_those_that_are_none():
    flow = GradientFlow(first, latent_dim=3, device="cpu")
    told = compare_on_property([(flow, 0.2)], lambda z: z[:, 0].numpy(), walks=40, steps=4)
    assert told.to_dict() == compare_on_property([(flow, 0.2)], first, walks=40, steps=4).to_dict()
    with pytest.raises(NonFinite, match="in row"):
        compare_on_property([(flow, 0.2)], lambda z: z[:, 0].log(), walks=40)
    with pytest.raises(WrongShape, match=r"`property` answered \[39\]"):
        compare_on_property([(flow, 0.2)], lambda z: z[1:, 0], walks=40)
    with pytest.raises(WrongShape, match=r"`others` answered \[\]"):
        compare_on_property([(flow, 0.2)], first, others=lambda z: z.sum(), walks=40)
    with pytest.raises(ValueError, match="pairs of a flow"):
        compare_on_property([flow], first)


def test_what_a_walk_with_noise_cannot_do_is_refused():
    flow = LangevinFlow(bowl, latent_dim=2, device="cpu")
    for call in (flow.inverse, flow.transported_log_density):
        with pytest.raises(NotApplicable, match="noise"):
            call(normal(3, 2))
    with pytest.raises(UnknownName, match="euler"):
        flow.traverse(normal(3, 2), integrator="midpoint")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"properties": []}, "callable"),
        ({"properties": None}, "callable"),
        ({"weights": "ab"}, "weights"),
        ({"maximise": 1}, "maximise"),
        ({"weights": [[1.0, 2.0]]}, r"\[1, 2\].*1 properties"),
        ({"maximise": [True, True]}, "maximise"),
        ({"rate": 0.0}, "rate"),
        ({"temperature": -1.0}, "temperature"),
        ({"prior": -0.1}, "prior"),
        ({"latent_dim": None}, "latent_dim"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        LangevinFlow(**({"properties": first, "latent_dim": 2} | settings))


def test_properties_that_answer_wrongly_are_named():
    z = normal(3, 2)
    with pytest.raises(WrongShape, match=r"property 1 answered \[3, 2\]"):
        GradientFlow([first, lambda z: z], latent_dim=2, device="cpu").values(z)
    z[1, 0] = 0
    root = GradientFlow(lambda z: z[:, 0].abs().sqrt(), latent_dim=2, device="cpu")
    with pytest.raises(NonFinite, match="property 0 is not finite in row 1"):
        root.velocity(z, 1.0)
    with pytest.raises(NotApplicable, match="complex"):
        GradientFlow(lambda z: z[:, 0] * 1j, latent_dim=2, device="cpu").velocity(z, 1.0)
    with pytest.raises(NotApplicable, match="leaves torch"):
        GradientFlow(lambda z: torch.from_numpy(z.numpy()[:, 0]), latent_dim=2, device="cpu").velocity(z, 1.0)
    with pytest.raises(RuntimeError) as told:
        GradientFlow(lambda z: z @ torch.ones(2), latent_dim=2, device="cpu").velocity(z, 1.0)
    assert "property 0, asked with codes [3, 2] of torch.float64" in told.value.__notes__[0]
    with pytest.raises(NonFinite, match="finite number for every code"):
        LinearPropertyFlow(lambda z: z[:, 0].log(), latent_dim=2, device="cpu")
    with pytest.raises(NonFinite, match="finite number for every code"):
        PotentialFlow(WarpedGenerator(size=8), potentials=1, objectives=[Gain(lambda z: z[:, 0].log())], features=4)
    with pytest.raises(NotApplicable, match="Surrogate"):
        PotentialFlow(WarpedGenerator(size=8), potentials=1, objectives=[Gain(lambda z: z.argmax(1))], features=4)
    with pytest.raises(ValueError, match="`Gain` has weights for 1 potentials"):
        PotentialFlow(WarpedGenerator(size=8), potentials=2, objectives=[Gain(first)], features=4)
