"""Potential flows: the equations hold, walks go there and back, trainings resume, files give the same flow again."""

import h5py
import pytest
import torch
from sympy import Eq, Rational, log
from torch import nn

from pinnflow import (
    DeclarationError,
    NonFinite,
    Problem,
    UnknownName,
    coordinates,
    field,
    grad,
    laplacian,
    norm_squared,
)
from pinnflow.errors import DamagedFile, NotSolved, WrongShape
from pinnflow.latent import Chain, Flow, Mixture, PotentialFlow, WarpedGenerator, baseline
from pinnflow.latent.objectives import Classifier, Movement, Obedience, Orthogonality, Reconstruction, Spread
from pinnflow.latent.presets import PRESETS

t, z = coordinates("t"), coordinates("z", 4)
u = field("u", t, z)
DOMAIN = {t: (0, 6), z: (-3, 3)}
EXACT = [name for name in PRESETS if name != "hamilton-jacobi-source"]


def generator(d=4):
    return WarpedGenerator(latent_dim=d, factors=min(d, 3), size=16, seed=1)


def make(pde="wave", **settings):
    return PotentialFlow(generator(), potentials=3, pde=pde, device="cpu", features=12, hidden=12, **settings)


def at(flow, n=40):
    codes = flow.sample(n, 5)
    return codes, 6 * torch.rand(n, dtype=flow.dtype), torch.arange(n) % flow.potentials


# ------------------------------------------------------------------------------------------------ equations


@pytest.mark.parametrize("pde", EXACT)
def test_an_exact_potential_obeys_its_equation(pde):
    flow = make(pde)
    codes, time, k = at(flow)
    assert flow.form == "exact"
    assert flow.residual(codes, time, k).max() < 1e-10
    assert flow.residual(codes, time).shape == (40,)


@pytest.mark.parametrize("pde", ["wave", "hamilton-jacobi-source"])
def test_an_untrained_network_does_not(pde):
    flow = make(pde, form="soft")
    assert flow.form == "soft"
    assert flow.residual(*at(flow)).median() > 0.1


def test_a_residual_depends_on_its_row_only():
    for flow in (make(), make(form="soft"), make("fokker-planck")):
        codes, time, k = at(flow)
        whole = flow.residual(codes, time, k)
        each = torch.cat([flow.residual(codes[i : i + 1], time[i : i + 1], k[i : i + 1]) for i in range(5)])
        assert torch.allclose(whole[:5], each, atol=1e-12)
        worst = torch.stack([flow.residual(codes, time, j) for j in range(3)]).amax(dim=0)
        assert torch.allclose(flow.residual(codes, time), worst, atol=1e-12)


class Given(nn.Module):
    """The same function of (t, z) for all rows, in the place of a potential."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, points, k):
        return self.function(points[:, :1], points[:, 1:])


def hold(problem, function):
    flow = PotentialFlow(None, 4, 2, problem, form="none", device="cpu")
    flow.field = Given(function)
    return flow


def test_closed_forms_hold_and_wrong_operators_would_not():
    a = torch.tensor([0.5, -1.0, 0.3, 0.8], dtype=torch.float64)
    wave = Problem([Eq(u.diff(t, 2), 4 * laplacian(u, z))], DOMAIN)
    plane = hold(wave, lambda time, codes: torch.sin(codes @ a[:, None] - 2 * a.norm() * time))
    assert plane.residual(*at(plane)).max() < 1e-10
    slow = hold(wave, lambda time, codes: torch.sin(codes @ a[:, None] - a.norm() * time))
    assert slow.residual(*at(slow)).median() > 0.3

    burgers = Problem([Eq(u.diff(t) + norm_squared(grad(u, z)) / 2, 0)], DOMAIN)
    rarefaction = hold(burgers, lambda time, codes: codes.square().sum(1, keepdim=True) / (2 * (1 + time)))
    codes, time, k = at(rarefaction)
    assert rarefaction.residual(codes, time, k).max() < 1e-10
    assert torch.allclose(rarefaction.velocity(codes, time, k), codes / (1 + time[:, None]), atol=1e-12)

    rho = field("rho", t, z)
    ornstein = Problem([Eq(rho.diff(t), laplacian(rho, z) + sum((z[i] * rho).diff(z[i]) for i in range(4)))], DOMAIN)

    def density(time, codes):
        variance = 1 + 3 * torch.exp(-2 * time)
        return torch.exp(-codes.square().sum(1, keepdim=True) / (2 * variance)) / variance**2

    gaussian = hold(ornstein, density)
    assert gaussian.residual(*at(gaussian)).max() < 1e-10


def test_a_residual_agrees_with_plain_automatic_differentiation():
    flow = make(form="soft")
    codes, time, k = at(flow, 6)
    for i in range(6):
        value = lambda s, x: flow.field(torch.cat([s[None], x])[None], k[i : i + 1])[0, 0]  # noqa: B023, E731
        bend = torch.autograd.functional.hessian(value, (time[i], codes[i]))
        u_tt, spread = float(bend[0][0]), float(torch.diagonal(bend[1][1]).sum()) / 25
        expected = abs(u_tt - spread) / (u_tt**2 + spread**2) ** 0.5
        assert flow.residual(codes[i : i + 1], time[i : i + 1], k[i : i + 1]).item() == pytest.approx(
            expected, rel=1e-9
        )


def test_a_problem_of_ones_own_with_its_velocity():
    rho = field("rho", t, z)
    problem = Problem([Eq(rho.diff(t), laplacian(rho, z) / 3)], DOMAIN)
    stated = make(problem, velocity=-z / 2 - grad(log(rho), z) / 3)
    codes, time, k = at(stated)
    with torch.enable_grad():
        x = codes.clone().requires_grad_()
        slope = torch.autograd.grad(stated.potential(x, time, k).sum(), x)[0]
    assert torch.allclose(stated.velocity(codes, time, k), -codes / 2 - slope / 3, atol=1e-10)


def test_conditions_a_family_does_not_meet_are_trained_for():
    free = make(Problem([Eq(u.diff(t, 2), laplacian(u, z))], DOMAIN, [Eq(u.subs(t, 0), 1)]))
    assert any(isinstance(one, Obedience) for one in free.objectives)
    assert not any(isinstance(one, Obedience) for one in make().objectives)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pde": "waves"}, "waves"),
        ({"form": "hard"}, "hard"),
        ({"activation": "gelu"}, "gelu"),
        ({"pde": Problem([Eq(u.diff(t), 0)], DOMAIN), "latent_dim": 5}, "5"),
        ({"form": "soft", "activation": "relu"}, "relu"),
        ({"potentials": 0}, "potentials"),
        ({"pde": 3}, "pde"),
        ({"objectives": [3]}, "objectives"),
    ],
)
def test_wrong_arguments_are_named(settings, message):
    source = None if "latent_dim" in settings else generator()
    with pytest.raises((DeclarationError, UnknownName, ValueError), match=message):
        PotentialFlow(source, **{"device": "cpu", **settings})


def test_relu_is_allowed_where_nothing_is_differentiated_twice():
    problem = Problem([Eq(u.diff(t) + u.diff(z[0]), u)], DOMAIN)
    assert make(problem, form="soft", activation="relu").form == "soft"


# ------------------------------------------------------------------------------------------------ walks


class Spring(Flow):
    """v = -z, zero at the origin."""

    def velocity(self, z, t, k=0):
        return -z


def test_a_walk_has_equal_steps_and_stays_where_the_velocity_is_zero():
    flow = Spring(None, 3, 1, device="cpu")
    codes = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    path = flow.traverse(codes, steps=4)
    assert path.shape == (5, 2, 3)
    assert torch.allclose((path[1:, 0] - path[:-1, 0]).norm(dim=1), torch.full((4,), 0.35, dtype=torch.float64))
    assert torch.equal(path[:, 1], torch.zeros(5, 3, dtype=torch.float64))
    away = flow.traverse(codes, steps=2, direction=torch.tensor([-1, 1]))
    assert away[-1, 0, 0] == pytest.approx(3.7)
    raw = flow.traverse(codes, steps=1, step_length=None)
    assert torch.equal(raw[-1], torch.zeros(2, 3, dtype=torch.float64))


@pytest.mark.parametrize("integrator", ["euler", "runge-kutta", "midpoint"])
@pytest.mark.parametrize("pde", ["wave", "heat"])
def test_an_inverse_comes_back_to_the_start(pde, integrator):
    flow = make(pde)
    codes, _, k = at(flow, 12)
    path = flow.traverse(codes, k, integrator=integrator)
    back = flow.inverse(path[-1], k, integrator=integrator)
    assert back.shape == path.shape
    assert (back[-1] - codes).abs().max() < 1e-6


def test_where_two_codes_meet_one_of_them_is_found():
    flow = make("hamilton-jacobi")  # concave: explicit steps bring different codes to the same place
    codes, _, k = at(flow)
    end = flow.traverse(codes, k)[-1]
    found = flow.inverse(end, k)[-1]
    assert (flow.traverse(found, k)[-1] - end).abs().max() < 1e-6


def test_a_step_without_an_inverse_is_said():
    class Source(Flow):
        def velocity(self, z, t, k=0):
            return torch.where(z[:, :1] > 0, 1.0, -1.0) * torch.tensor([[1.0, 0.0]], dtype=z.dtype)

    flow = Source(None, 2, 1, device="cpu")
    assert flow.inverse(torch.tensor([[2.0, 0.0]]), steps=1)[-1, 0, 0] == pytest.approx(1.65)
    with pytest.raises(NotSolved, match="1 of 2 steps could not be walked back"):  # nothing ends so near to the source
        flow.inverse(torch.tensor([[2.0, 0.0], [0.1, 0.0]]), steps=1)


def test_density_is_carried_along_as_the_change_of_variables_says():
    class Stretch(Flow):
        def velocity(self, z, t, k=0):
            return 0.1 * z

    flow = Stretch(None, 3, 1, device="cpu")
    codes = flow.sample(5)
    carried = flow.transported_log_density(codes, steps=4, step_length=None)
    scale = 1.1**4
    expected = flow.log_density(codes) - 3 * torch.log(torch.tensor(scale, dtype=torch.float64))
    assert torch.allclose(carried[-1], expected, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"z": torch.zeros(2, 5)}, WrongShape),
        ({"z": torch.full((2, 4), float("nan"))}, NonFinite),
        ({"potential": 3}, ValueError),
        ({"potential": torch.tensor([0, 1, 2])}, ValueError),
        ({"potential": 0.5}, ValueError),
        ({"steps": 0}, ValueError),
        ({"step_length": -1.0}, ValueError),
        ({"step_length": float("inf")}, ValueError),
        ({"direction": 2}, ValueError),
        ({"integrator": "verlet"}, UnknownName),
    ],
)
def test_walks_refuse_what_makes_no_sense(arguments, error):
    with pytest.raises(error):
        make().traverse(**{"z": torch.zeros(2, 4), **arguments})


def test_flows_are_chained_and_added():
    flow = make()
    codes, _, _ = at(flow, 6)
    first = flow.traverse(codes, 0, steps=2)
    chain = Chain(flow, [(0, 2), (2, 3)])
    path = chain.traverse(codes, steps=chain.steps)
    assert torch.allclose(path[2], first[-1])
    assert torch.allclose(path[-1], flow.traverse(first[-1], 2, steps=3)[-1])
    both = Mixture(flow, [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    assert torch.allclose(both.traverse(codes, 0), flow.traverse(codes, 0))
    assert not torch.allclose(both.traverse(codes, 1), flow.traverse(codes, 0))
    with pytest.raises(ValueError, match="weights"):
        Mixture(flow, [1.0, 2.0])


# ------------------------------------------------------------------------------------------------ training


def test_training_makes_fields_distinct():
    flow = make()
    flow.fit(60, 24)
    first, last = (sum(one["classifier"] for one in part) for part in (flow.history[:5], flow.history[-5:]))
    assert last < 0.75 * first
    assert flow.residual(*at(flow)).max() < 1e-10


@pytest.mark.parametrize("form", ["exact", "soft"])
def test_a_resumed_training_gives_the_same_digits(form, tmp_path):
    whole = make(form=form).fit(12, 8)
    file = tmp_path / "flow.ckpt"

    def stop(entry):
        if entry["iteration"] == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(form=form).fit(12, 8, progress=stop, checkpoint=file)
    resumed = make(form=form).fit(12, 8, checkpoint=file, resume=True)
    for name, weight in whole.field.state_dict().items():
        assert torch.equal(weight, resumed.field.state_dict()[name]), name
    assert [one["loss"] for one in whole.history] == [one["loss"] for one in resumed.history]


def test_a_checkpoint_of_another_flow_or_a_broken_one_is_refused(tmp_path):
    file = tmp_path / "flow.ckpt"
    make().fit(1, 4, checkpoint=file)
    with pytest.raises(DamagedFile, match="another flow"):
        make("heat").fit(2, 4, checkpoint=file, resume=True)
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DamagedFile):
        make().fit(2, 4, checkpoint=file, resume=True)


@pytest.mark.parametrize(
    "objective",
    [Classifier(sign=True), Movement(), Orthogonality(rows=2), Reconstruction(), Spread(1.0, least=2.0), Obedience()],
    ids=lambda one: type(one).__name__,
)
def test_every_objective_moves_the_weights(objective):
    flow = make(form="soft", objectives=[objective])
    before = {name: weight.clone() for name, weight in flow.field.state_dict().items()}
    flow.fit(1, 6)
    after = flow.field.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(bool(torch.isfinite(weight).all()) for weight in after.values())


@pytest.mark.parametrize("name", ["linear", "linear-classifier", "rbf", "free", "divergence-free", "helmholtz"])
def test_learned_baselines_train_and_walk(name):
    flow = baseline(name, generator(), potentials=2, device="cpu", hidden=8).fit(2, 4)
    path = flow.traverse(flow.sample(5), torch.tensor([0, 1, 0, 1, 0]))
    assert torch.isfinite(path).all()


def test_a_turned_field_has_no_divergence():
    flow = baseline("divergence-free", generator(), potentials=2, device="cpu", hidden=8)
    codes = flow.sample(3)
    jacobian = torch.autograd.functional.jacobian(lambda x: flow.velocity(x, 1.0, 0).sum(dim=0), codes)
    assert jacobian.diagonal(dim1=0, dim2=2).sum(dim=1).abs().max() < 1e-12
    assert jacobian.abs().max() > 1e-3


def test_images_that_are_no_numbers_name_the_objective():
    source = lambda codes: torch.full((len(codes), 1, 8, 8), float("nan")) * codes.sum()  # noqa: E731
    with pytest.raises(NonFinite, match="classifier"):
        PotentialFlow(source, 4, 2, device="cpu").fit(1, 4)


def test_colour_images_that_are_not_square_and_codes_in_one_dimension():
    source = lambda codes: torch.sigmoid(codes[:, :1, None, None] * torch.linspace(-1, 1, 24).expand(3, 16, 24))  # noqa: E731
    flow = PotentialFlow(source, 1, 1, device="cpu", dtype=torch.float32, features=4).fit(2, 4)
    assert flow.traverse(flow.sample(3)).shape == (7, 3, 1)
    assert flow.traverse(flow.sample(3)).dtype == torch.float32
    with pytest.raises(WrongShape, match="images"):
        PotentialFlow(lambda codes: codes, 4, 2, device="cpu")


# ------------------------------------------------------------------------------------------------ files


@pytest.mark.parametrize("pde", [*PRESETS, "own"])
def test_a_file_gives_the_same_flow(pde, tmp_path):
    rho = field("rho", t, z)
    own = Problem([Eq(rho.diff(t), laplacian(rho, z) * Rational(1, 3))], DOMAIN)
    flow = make(own, velocity=-grad(log(rho), z) / 3) if pde == "own" else make(pde)
    flow.fit(1, 4)
    flow.save(tmp_path / "flow.h5")
    again = PotentialFlow.load(tmp_path / "flow.h5", generator(), device="cpu")
    codes, _, k = at(flow)
    assert again.form == flow.form
    assert torch.equal(again.traverse(codes, k), flow.traverse(codes, k))
    assert again.history == flow.history


def test_a_damaged_file_is_said_to_be(tmp_path):
    file = tmp_path / "flow.h5"
    file.write_bytes(b"not at all")
    with pytest.raises(DamagedFile):
        PotentialFlow.load(file)
    with h5py.File(file, "w") as other:
        other["x"] = 1.0
    with pytest.raises(DamagedFile):
        PotentialFlow.load(file)
    with pytest.raises(FileNotFoundError):
        PotentialFlow.load(tmp_path / "none.h5")


def test_porous_medium_moves_codes_wherever_its_centres_are():
    """The density is zero outside a spot, where codes would stay; the spot reaches the box from afar too."""
    flow = PotentialFlow(None, 8, 3, "porous-medium")
    with torch.no_grad():
        flow.field.centres *= 20
    z = flow.sample(500, 0)
    for k in range(3):
        assert float(flow.velocity(z, 1.0, k).detach().norm(dim=1).min()) > 0
        assert flow.residual(z, torch.full((500,), 3.0), torch.full((500,), k)).max() < 1e-10
