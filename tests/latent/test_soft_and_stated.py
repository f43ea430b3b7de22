"""Soft equations, stated velocities and rows with weights of their own: two roads to the same value."""

import pytest
import torch
from sympy import Eq, exp, log, sin

import pinnflow
from pinnflow import Problem, coordinates, field, grad, laplacian, norm_squared
from pinnflow.latent import Obedience, PotentialFlow, WarpedGenerator, equation
from pinnflow.latent.potentials import by_member
from pinnflow.trial.families import by_member as by_member_of_a_family
from tests.latent.simple_flows import rows


def share(flow, n=300):
    """Root mean square of the residual over that of its terms, on codes that training did not see."""
    z, t, k = rows(flow, n, seed=77)
    points = flow.equation.points(z, t)
    terms = pinnflow.compile(flow.equation.problem, points=1).terms(
        lambda p: flow.field(p, k), {flow.equation.names[0]: points}
    )
    terms = terms[flow.equation.names[0]].detach()
    return float((terms.sum(dim=1).square().mean() / terms.square().sum(dim=1).mean()).sqrt())


# -- rows through the matrices of their members ------------------------------------------------------------------------


@pytest.mark.parametrize("product", [by_member, by_member_of_a_family])
@pytest.mark.parametrize(("members", "n"), [(5, 192), (32, 40), (40, 1), (1, 10), (3, 0)])
def test_grouped_rows_go_through_their_own_matrices(product, members, n):
    draw = torch.Generator().manual_seed(0)
    k = torch.randint(members, (n,), generator=draw)
    x = torch.randn(n, 3, generator=draw, dtype=torch.float64, requires_grad=True)
    w = torch.randn(members, 4, 3, generator=draw, dtype=torch.float64, requires_grad=True)
    grouped, plain = product(x, w, k), torch.einsum("noi,ni->no", w[k], x)
    assert torch.allclose(grouped, plain, atol=1e-14)
    for a, b in zip(
        torch.autograd.grad((grouped**3).sum(), (x, w)), torch.autograd.grad((plain**3).sum(), (x, w)), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("pde", ["wave", "hamilton-jacobi", "heat", "fokker-planck", "porous-medium"])
def test_a_member_alone_has_the_value_it_has_among_all(pde):
    flow = PotentialFlow(None, 4, 3, pde)
    z, t, k = rows(flow)
    points = flow.equation.points(z, t)
    everything = flow.field(points)
    assert torch.allclose(flow.field(points, k)[:, 0], everything[torch.arange(24), k], rtol=1e-12)
    assert torch.allclose(flow.field(points[:2], k[:2])[:, 0], everything[torch.arange(2), k[:2]], rtol=1e-12)


@pytest.mark.parametrize(("pde", "form"), [("wave", "exact"), ("heat", "exact"), ("wave", "soft")])
def test_a_step_of_many_potentials_reads_no_weights_of_others(pde, form):
    """The products of a walk have as many rows as codes, not as codes times potentials."""
    flow = PotentialFlow(None, 6, 40, pde, form)
    z = flow.sample(30)
    k = torch.arange(30)
    with torch.no_grad():
        whole = flow.velocity(z, 1.0, k)
        for weight in flow.field.parameters():
            weight[30:] = torch.nan
        assert torch.equal(flow.velocity(z, 1.0, k), whole)


# -- stated velocities -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pde", ["heat", "fokker-planck", "porous-medium"])
@pytest.mark.parametrize("form", ["exact", "soft"])
def test_velocities_by_one_gradient_are_those_of_the_compiled_statement(pde, form, monkeypatch):
    fast = PotentialFlow(None, 4, 3, pde, form)
    monkeypatch.setattr("pinnflow.latent.velocity._Gradients.read", lambda *arguments: None)
    slow = PotentialFlow(None, 4, 3, pde, form)
    assert fast._stated.gradients is not None
    assert slow._stated.gradients is None
    z, t, k = rows(fast)
    assert torch.allclose(fast.velocity(z, t, k), slow.velocity(z, t, k), rtol=1e-10, atol=1e-12)


def test_stated_velocities_of_every_shape_mean_what_they_say():
    """u = the exact field; velocity by hand from its gradient and Hessian."""
    t, z = coordinates("t"), coordinates("z", 3)
    u = field("u", t, z)
    problem = Problem([Eq(u.diff(t, 2), laplacian(u, z))], {t: (0, 6), z: (-3, 3)})

    def by_hand(flow, codes, times, k):
        at = codes.clone().requires_grad_()
        value = flow.potential(at, times, k)
        (slope,) = torch.autograd.grad(value.sum(), at, create_graph=True)
        (turn,) = torch.autograd.grad(slope.square().sum(), at)
        return value[:, None].detach(), slope.detach(), turn, times[:, None]

    cases = {
        2 * grad(u, z): lambda v, g, h, s: 2 * g,
        t * sin(u) * grad(u, z) - z / 2: None,
        t * u**2 * grad(u, z) - z / 2: lambda v, g, h, s: s * v**2 * g,
        grad(exp(u), z): lambda v, g, h, s: torch.exp(v) * g,
        norm_squared(grad(u, z)) * grad(u, z): lambda v, g, h, s: g.square().sum(dim=1, keepdim=True) * g,
        u.subs(t, 0) * grad(u, z) + grad(u, z): lambda v, g, h, s: g,  # u vanishes at first
        grad(u.subs(t, 0) + u, z): lambda v, g, h, s: g,
        grad(norm_squared(grad(u, z)), z): lambda v, g, h, s: h,
    }
    for velocity, expected in cases.items():
        flow = PotentialFlow(None, 3, 2, problem, velocity=velocity)
        codes, times, k = rows(flow, 8)
        v, g, h, s = by_hand(flow, codes, times, k)
        outward = -codes / 2 if velocity.has(z) and "z/2" in str(velocity) else 0
        wanted = s * torch.sin(v) * g if expected is None else expected(v, g, h, s)
        assert torch.allclose(flow.velocity(codes, times, k), wanted + outward, rtol=1e-9, atol=1e-12), velocity


def test_a_velocity_that_is_no_vector_is_refused():
    t, z = coordinates("t"), coordinates("z", 3)
    u = field("u", t, z)
    problem = Problem([Eq(u.diff(t, 2), laplacian(u, z))], {t: (0, 6), z: (-3, 3)})
    with pytest.raises(pinnflow.DeclarationError, match="velocity"):
        PotentialFlow(None, 3, 2, problem, velocity=log(u))


# -- soft equations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pde", ["wave", "hamilton-jacobi-source"])
def test_training_makes_soft_potentials_obey(pde):
    """Without images: the equation alone, a fifth of the default training."""
    objective = Obedience(rows=96, further=1)
    flow = PotentialFlow(WarpedGenerator(latent_dim=4, factors=2), 4, 2, pde, "soft", objectives=[objective])
    before = share(flow)
    flow.fit(100, 8)
    assert before > 0.3
    assert share(flow) < 0.25


def test_what_obedience_makes_small_does_not_depend_on_the_size_of_the_potential():
    flow = PotentialFlow(None, 4, 2, "wave", "soft")
    z, t, k = rows(flow)
    before = flow.disobedience(z, t, k)
    with torch.no_grad():
        flow.field.module.last.weight *= 7
        flow.field.module.last.bias *= 7
    assert torch.allclose(flow.disobedience(z, t, k), before, rtol=1e-10)


def test_no_potential_hides_behind_a_larger_one():
    """One potential a million times as large as the other: the smaller one counts as before."""
    flow = PotentialFlow(None, 4, 2, "wave", "soft")
    z, t, k = rows(flow)
    before, norms = flow.disobedience(z, t, k), flow.residual_norms(z, t, k)
    with torch.no_grad():
        flow.field.module.last.weight[0] *= 1e6
        flow.field.module.last.bias[0] *= 1e6
    assert torch.allclose(flow.disobedience(z, t, k), before, rtol=1e-8)
    assert flow.residual_norms(z, t, k) == pytest.approx(norms, rel=1e-8)


def test_a_laplacian_alone_is_measured_by_its_second_derivatives():
    """One term is no measure of itself: an exact family of harmonic functions had the relative residual 1."""
    t, z = coordinates("t"), coordinates("z", 3)
    u = field("u", t, z)
    problem = Problem([Eq(laplacian(u, z), 0)], {t: (0, 6), z: (-3, 3)})
    exact, soft = (PotentialFlow(None, 3, 2, problem, form) for form in ("exact", "soft"))
    codes, times, k = rows(exact)
    assert exact.residual(codes, times, k).max() < 1e-10
    points = soft.equation.points(codes, times).requires_grad_()
    slopes = torch.autograd.grad(soft.field(points, k).sum(), points, create_graph=True)[0]
    second = torch.stack(
        [torch.autograd.grad(slopes[:, i].sum(), points, retain_graph=True)[0][:, i] for i in (1, 2, 3)]
    )
    wanted = second.sum(dim=0).abs() / second.norm(dim=0)
    assert torch.allclose(soft.residual(codes, times, k), wanted.detach(), rtol=1e-9)
    assert soft.disobedience(codes, times, k).requires_grad


def test_an_equation_without_derivatives_is_refused():
    t, z = coordinates("t"), coordinates("z", 3)
    u = field("u", t, z)
    with pytest.raises(pinnflow.DeclarationError, match="no derivative stands in"):
        PotentialFlow(None, 3, 2, Problem([Eq(u, sin(t))], {t: (0, 6), z: (-3, 3)}))


@pytest.mark.parametrize(("axis", "range"), [((0, 1), (0, 6)), ((2, 9), (1, 9)), ((0, 6), (0, 6))])
def test_equations_are_trained_for_at_the_times_of_the_walks(axis, range):
    """A time axis that ends before the walks do, or begins after they do, is no reason to break the equation there."""
    t, z = coordinates("t"), coordinates("z", 3)
    u = field("u", t, z)
    problem = Problem([Eq(u.diff(t, 2), laplacian(u, z) - u**3)], {t: axis, z: (-3, 3)})
    flow = PotentialFlow(WarpedGenerator(latent_dim=3, factors=2), 3, 2, problem, objectives=[Obedience(further=0)])
    asked, inner = [], flow.disobedience
    flow.disobedience = lambda z, t, *others: asked.append(t) or inner(z, t, *others)
    flow.fit(3, 8)
    times = torch.cat(asked)
    assert float(times.min()) == pytest.approx(range[0], abs=0.05)
    assert float(times.max()) == pytest.approx(range[1], abs=0.05)


def test_two_estimates_multiply_to_the_square_of_the_residual(monkeypatch):
    """In many dimensions: 400 draws within four standard errors; the square of one estimate is far too large."""
    t, z = coordinates("t"), coordinates("z", 24)
    u = field("u", t, z)
    problem = Problem([Eq(u.diff(t), laplacian(u, z))], {t: (0, 6), z: (-3, 3)})
    flow = PotentialFlow(None, 24, 2, problem, "soft")
    place, time, k = rows(flow)
    points = flow.equation.points(place, time)
    name = flow.equation.names[0]
    exact = flow.equation.residuals(flow.field, points, k)[name].detach().square().mean()
    monkeypatch.setattr(equation, "MANY", 8)
    monkeypatch.setattr(equation, "LINES", 1)
    draw = torch.Generator().manual_seed(0)
    products, squares = [], []
    with torch.no_grad():
        for _ in range(400):
            one = flow.equation._terms(flow.field, points, k, generator=draw)[name].sum(dim=1)
            other = flow.equation._terms(flow.field, points, k, generator=draw)[name].sum(dim=1)
            products.append((one * other).mean())
            squares.append(one.square().mean())
    products, squares = torch.stack(products), torch.stack(squares)
    error = float(products.std()) / 20
    assert abs(float(products.mean() - exact)) < 4 * error
    assert float(squares.mean() - exact) > 4 * error
    # The same generator, the same digits: what a resumed training needs.
    twice = [flow.disobedience(place, time, k, torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*twice)


# -- problems of one's own ---------------------------------------------------------------------------------------------


def test_equations_of_ones_own_are_exact_where_a_family_is_known():
    """Klein-Gordon and damped waves have plane waves; a cubic term has none, and is trained for."""
    t, z = coordinates("t"), coordinates("z", 3)
    u = field("u", t, z)
    domain = {t: (0, 6), z: (-3, 3)}
    for right, form in (
        (laplacian(u, z) - u, "exact"),
        (laplacian(u, z) / 4 - u.diff(t) / 10, "exact"),
        (laplacian(u, z) - u**3, "soft"),
    ):
        flow = PotentialFlow(None, 3, 2, Problem([Eq(u.diff(t, 2), right)], domain))
        assert flow.form == form
        place, time, k = rows(flow)
        if form == "exact":
            assert flow.residual(place, time, k).max() < 1e-10
            assert flow.residual(place, time).shape == (24,)
        else:
            assert flow.residual(place, time, k).max() > 0.1


def test_a_soft_density_is_trained_where_it_is_low_too():
    """The equation divided by the density: terms of equal relative error count alike, however small the density."""
    flow = PotentialFlow(None, 4, 2, "heat", "soft")
    z, t, k = rows(flow)
    points = flow.equation.points(z, t)
    (terms,) = flow.equation._terms(flow.field, points, k).values()
    terms = terms / flow.field(points, k)[:, :1]
    ratios = [one.sum(dim=1).square().mean() / one.square().sum(dim=1).mean() for one in (terms[k == 0], terms[k == 1])]
    wanted = (ratios[0] + ratios[1]) / 2
    assert torch.allclose(flow.disobedience(z, t, k), wanted, rtol=1e-10)
    assert not torch.allclose(flow.equation.disobedience(flow.field, points, k), wanted, rtol=0.05)
    norms = flow.residual_norms(z, t, k)
    assert list(norms) == [0, 1]
    assert list(norms.values()) == pytest.approx([float(ratio.detach().sqrt()) for ratio in ratios], rel=1e-10)
    own = flow.residual(z, t, k).square().mean()
    assert not torch.allclose(own, wanted, rtol=0.05)
    assert torch.allclose(flow.disobedience(z, t, k, by_row=0.25), 0.75 * wanted + 0.25 * own, rtol=1e-10)


def test_steps_for_the_equation_alone_follow_every_step():
    """Without them the weights go elsewhere; they are as many as asked for, and need no images."""
    drawn = []
    source = WarpedGenerator(latent_dim=4, factors=2)
    ends = {}
    for further in (0, 2):
        obedience = Obedience(further=further)
        calls = []
        obedience.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        flow = PotentialFlow(lambda z: drawn.append(1) or source(z), 4, 2, "heat", "soft", objectives=[obedience])
        drawn.clear()
        flow.fit(3, 8)
        assert len(calls) == 3 * (1 + further)
        assert not drawn
        ends[further] = flow.field.last.weight if hasattr(flow.field, "last") else flow.field.logarithm.last.weight
    assert not torch.equal(ends[0], ends[2])
