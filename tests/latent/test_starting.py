"""Initial values that hold by construction, whatever the weights are."""

import pytest
import torch
from sympy import Eq, Heaviside, exp, log

import pinnflow
from pinnflow import Problem, coordinates, field, laplacian, norm_squared
from pinnflow.latent import PotentialFlow
from tests.latent.simple_flows import rows


def begun(first, *conditions, **settings):
    """A soft flow over times from `first` on whose field begins as said."""
    t, z = coordinates("t"), coordinates("z", 3)
    u = field("u", t, z)
    stated = [Eq(left(u, t, z, first), right(z)) for left, right in conditions]
    problem = Problem([Eq(u.diff(t, 2), laplacian(u, z) - u**3)], {t: (first, first + 4), z: (-3, 3)}, stated)
    return PotentialFlow(None, 3, 2, problem, **settings)


def value(u, t, z, first):
    return u.subs(t, first)


def rise(u, t, z, first):
    return u.diff(t).subs(t, first)


@pytest.mark.parametrize("first", [0, 2])
def test_initial_values_hold_by_construction(first):
    """Value and slope in time, with numbers and functions of the codes, by finite differences of the field."""
    flow = begun(
        first, (value, lambda z: exp(-norm_squared(z) / 2) + z[0]), (lambda *a: 2 * rise(*a), lambda z: z[1] - 3)
    )
    assert flow.holding == {"condition 1", "condition 2"}
    z, _, k = rows(flow)
    at = lambda t: flow.potential(z, t, k).detach()  # noqa: E731
    assert torch.allclose(at(float(first)), torch.exp(-z.square().sum(1) / 2) + z[:, 0], rtol=1e-13)
    h = 1e-5
    slope = (at(first + h) - at(first - h)) / (2 * h)
    assert torch.allclose(slope, (z[:, 1] - 3) / 2, atol=1e-8)
    assert not torch.allclose(at(first + 1.0), at(first + 1.0).flip(0))
    assert [type(one).__name__ for one in flow.objectives] == ["Classifier", "Spread", "Obedience"]
    assert "initial values hold by construction" in flow.reason


def test_a_slope_without_a_value_and_what_cannot_be_read_stay_terms_of_the_training():
    alone = begun(0, (rise, lambda z: 0))
    assert alone.holding == frozenset()
    # They count in the norms: here by hand, where the condition is the worst statement.
    z, t, k = rows(alone)
    points = alone.equation.points(z, t)
    r = alone.equation.residuals(alone.field, points, k)["condition 1"].detach()
    u = alone.field(points, k)[:, 0].detach()
    with torch.no_grad():
        equation_alone = alone.equation.norms(alone.field, points, k, holding={"condition 1"})
    found = alone.residual_norms(z, t, k)
    for i in (0, 1):
        share = float(r[k == i].norm() / u[k == i].norm())
        assert found[i] == pytest.approx(max(equation_alone[i], share), rel=1e-10)
        assert share > 0.1
    strange = begun(0, (value, lambda z: Heaviside(z[0])))
    assert strange.holding == frozenset()
    z, t, k = rows(strange)
    assert float(strange.disobedience(z, t, k).detach()) > 0


def test_a_density_begins_as_it_has_to():
    t, z = coordinates("t"), coordinates("z", 3)
    rho = field("rho", t, z)
    start = exp(-norm_squared(z) / 2)
    problem = Problem([Eq(rho.diff(t), laplacian(rho**3, z))], {t: (0, 6), z: (-3, 3)}, [Eq(rho.subs(t, 0), start)])
    flow = PotentialFlow(None, 3, 2, problem, "soft", density=True)
    codes, _, k = rows(flow)
    assert flow.holding == {"condition 1"}
    assert torch.allclose(flow.potential(20 * codes, 0.0, k), -200 * codes.square().sum(1), rtol=1e-12)


def test_initial_values_that_are_none_are_refused():
    with pytest.raises(pinnflow.DeclarationError, match=r"initial value of `u.*no number at the code"):
        begun(0, (value, lambda z: log(z[0])))
    t, z = coordinates("t"), coordinates("z", 3)
    rho = field("rho", t, z)
    problem = Problem([Eq(rho.diff(t), laplacian(rho**3, z))], {t: (0, 6), z: (-3, 3)}, [Eq(rho.subs(t, 0), z[0])])
    with pytest.raises(pinnflow.DeclarationError, match=r"initial value of `rho.*not positive, as a density"):
        PotentialFlow(None, 3, 2, problem, "soft", density=True)


def test_of_two_fields_each_begins_by_itself():
    """The preset with a source: both begin at zero, and slopes can be scaled as they are."""
    flow = PotentialFlow(None, 4, 2, "hamilton-jacobi-source")
    assert flow.holding == {"condition 1", "condition 2"}
    z, _, k = rows(flow)
    assert flow.field(flow.equation.points(z, 0.0), k).abs().max() == 0
    assert flow.field(flow.equation.points(z, 1.0), k).abs().min() > 0
    before = flow.velocity(z, 2.0, k)
    assert flow.scale_velocity(3.0)
    assert torch.allclose(flow.velocity(z, 2.0, k), 3 * before, rtol=1e-12)
