"""Exact families: whatever the weights, the equation holds to rounding, in any dimension."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Eq, Float, cos

import pinnflow
from pinnflow import NoExactFamily, Problem, coordinates, div, exact_family, field, grad, laplacian, norm_squared
from pinnflow.trial.families import PlaneWaves, RidgeWaves

t, x, y = coordinates("t x y")
u = field("u", t, x, y)
BOX = {t: (0, 1), x: (0, 1), y: (-2, 1)}
positive = st.floats(0.05, 3.0).map(lambda v: round(v, 3))
signed = st.floats(-2.0, 2.0).map(lambda v: round(v, 3))
quick = settings(max_examples=15, deadline=None)


def residual(problem, module):
    """Largest |r| over the largest sum of magnitudes of its terms, over all members."""
    compiled = pinnflow.compile(problem, points=40, backend="eager", seed=3)
    worst = 0.0
    for member in range(module.members):
        value = compiled.residuals(Member(module, member))["equation 1"]
        terms = compiled.terms(Member(module, member))["equation 1"]
        worst = max(worst, float(value.abs().max() / terms.abs().sum(dim=1).max()))
        assert module(compiled.points["equation 1"])[:, member].abs().max() > 0
    own = torch.arange(40) % module.members
    points = compiled.points["equation 1"]
    assert torch.allclose(module(points, own)[:, 0], module(points)[torch.arange(40), own], rtol=1e-12, atol=1e-14)
    return worst


class Member(torch.nn.Module):
    """One member as a field."""

    def __init__(self, module, member):
        super().__init__()
        self.module, self.member = module, member

    def forward(self, points):
        return self.module(points)[:, self.member : self.member + 1]


def scattered(module, seed=0):
    """The module with weights far from the first ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return module


def check(equation, box=BOX, conditions=(), kind=None, **settings):
    problem = Problem([equation], box, conditions)
    module = scattered(exact_family(problem, members=2, features=6, **settings))
    assert kind is None or type(module).__name__ == kind
    assert residual(problem, module) < 1e-10
    return module


@pytest.mark.filterwarnings("ignore::UserWarning")
class TestTheEquationHolds:
    @quick
    @given(st.integers(1, 5), positive, signed)
    def test_wave(self, dimension, speed, mixed):
        z = coordinates("z", dimension)
        w = field("w", t, z)
        equation = Eq(w.diff(t, 2) + mixed * w.diff(t, z[0]), speed**2 * laplacian(w, z))
        check(equation, {t: (0, 2), z: (-3, 3)}, kind="RidgeWaves")

    @quick
    @given(signed, signed)
    def test_advection(self, a, b):
        check(Eq(u.diff(t) + a * u.diff(x) + b * u.diff(y), 0), kind="RidgeWaves")

    @quick
    @given(st.integers(1, 4), positive, signed, signed)
    def test_heat_with_drift_and_growth(self, dimension, diffusivity, drift, growth):
        z = coordinates("z", dimension)
        w = field("w", t, z)
        right = diffusivity * laplacian(w, z) - drift * w.diff(z[0]) + growth * w
        check(Eq(w.diff(t), right), {t: (0, 1), z: (1, 3)}, kind="GaussianMixture")

    @quick
    @given(positive, positive, st.floats(-0.9, 0.9))
    def test_diffusion_with_a_full_matrix(self, a, b, share):
        mixed = round(share * 2 * (a * b) ** 0.5, 3)
        right = a * u.diff(x, 2) + b * u.diff(y, 2) + mixed * u.diff(x, y)
        check(Eq(u.diff(t), right), kind="GaussianMixture")

    @quick
    @given(signed, signed, signed, positive)
    def test_fokker_planck_with_linear_drift(self, a, b, c, diffusivity):
        """Rotating and shearing drift, so that no eigenvectors are shared."""
        bx, by = a * x + b * y + 1, c * x - a * y
        check(Eq(u.diff(t), -(bx * u).diff(x) - (by * u).diff(y) + diffusivity * laplacian(u, x, y)))

    def test_ornstein_uhlenbeck_in_many_dimensions(self):
        z = coordinates("z", 16)
        p = field("p", t, z)
        check(
            Eq(p.diff(t), div([z[i] * p for i in range(16)], z) / 2 + laplacian(p, z) / 4),
            {t: (0, 2), z: (-3, 3)},
            kind="GaussianMixture",
        )

    @quick
    @given(st.integers(1, 4), positive, positive, signed)
    def test_viscous_hamilton_jacobi(self, dimension, viscosity, factor, drift):
        z = coordinates("z", dimension)
        w = field("w", t, z)
        left = w.diff(t) + factor * norm_squared(grad(w, z)) + drift * w.diff(z[0])
        check(Eq(left, viscosity * laplacian(w, z) + 1), {t: (0, 1), z: (-1, 2)}, kind="SoftPlanes")

    @quick
    @given(st.integers(1, 4), positive)
    def test_inviscid_hamilton_jacobi(self, dimension, factor):
        z = coordinates("z", dimension)
        w = field("w", t, z)
        check(Eq(w.diff(t) + factor * norm_squared(grad(w, z)), 0), {t: (0, 1), z: (-1, 2)}, kind="Paraboloids")

    @quick
    @given(positive, positive, signed)
    def test_burgers(self, steepening, viscosity, drift):
        w = field("w", t, x)
        left = w.diff(t) + steepening * w * w.diff(x) + drift * w.diff(x)
        check(Eq(left, viscosity * w.diff(x, 2)), {t: (0, 1), x: (-1, 1)}, kind="MergingShocks")

    @pytest.mark.parametrize("power", [2, 3, 5])
    def test_porous_medium(self, power):
        problem = Problem([Eq(u.diff(t), laplacian(u**power, x, y) / 3)], BOX)
        module = exact_family(problem, members=2)
        compiled = pinnflow.compile(problem, points=40, backend="eager")
        for member in range(2):
            assert compiled.residuals(Member(module, member))["equation 1"].abs().max() < 1e-10

    @quick
    @given(positive, signed, signed)
    def test_any_other_linear_equation(self, a, b, c):
        equation = Eq(u.diff(t, 2) + b * u.diff(t), a * laplacian(u, x, y) - c * u)
        check(equation, kind="PlaneWaves" if b or c else "RidgeWaves")

    @pytest.mark.parametrize(
        "left",
        [
            u.diff(t, 2) + laplacian(u, x, y).diff(x, 2),
            u.diff(t) + u.diff(x, 3) + u.diff(y),
            u.diff(t) + laplacian(u, x, y).diff(y, 2),
        ],
    )
    def test_higher_order(self, left):
        check(Eq(left, 0), kind="PlaneWaves")

    @pytest.mark.parametrize("power", [1, 2])
    def test_powers_of_the_laplacian(self, power):
        """The biharmonic equation has double roots, so waves with a polynomial factor are needed too."""
        w = field("w", x, y)
        left = laplacian(w, x, y) if power == 1 else laplacian(laplacian(w, x, y), x, y)
        check(Eq(left, 0), {x: (0, 1), y: (0, 2)}, kind="PlaneWaves")


def test_waves_vanish_at_the_start_or_start_at_rest():
    equation = Eq(u.diff(t, 2), laplacian(u, x, y))
    points = torch.tensor([[0.0, 0.3, -1.0], [0.0, 0.9, 0.5]], dtype=torch.float64, requires_grad=True)
    module = exact_family(Problem([equation], BOX), members=3)
    assert module(points).abs().max() < 1e-14
    module = exact_family(Problem([equation], BOX, [Eq(u.diff(t).subs(t, 0), 0)]), members=3)
    values = module(points)
    (slope,) = torch.autograd.grad(values.sum(), points)
    assert values.abs().max() > 0.01 and slope[:, 0].abs().max() < 1e-13


def test_columns_may_come_in_any_order():
    problem = Problem([Eq(u.diff(t, 2), laplacian(u, x, y))], {x: (0, 1), t: (0, 1), y: (-2, 1)})
    module = exact_family(problem)
    assert module.time == 1 and residual(problem, module) < 1e-10


def test_a_row_of_the_result_depends_on_its_row_only():
    module = exact_family(Problem([Eq(u.diff(t), laplacian(u, x, y))], BOX), members=3)
    points = torch.rand(7, 3, dtype=torch.float64)
    assert torch.allclose(module(points)[2:3], module(points[2:3]), rtol=1e-12, atol=0)


def test_a_member_is_the_same_whatever_the_others_are():
    """Weights are stacked, not shared: a gradient of one member reaches no other."""
    module = exact_family(Problem([Eq(u.diff(t, 2), laplacian(u, x, y))], BOX), members=4)
    module(torch.rand(5, 3, dtype=torch.float64))[:, 2].sum().backward()
    for weight in module.parameters():
        moved = weight.grad.flatten(1).abs().sum(dim=1) > 0
        assert moved.tolist() == [False, False, True, False]


def test_weights_come_from_the_seed_alone():
    problem = Problem([Eq(u.diff(t), laplacian(u, x, y))], BOX)
    points = torch.rand(5, 3, dtype=torch.float64)
    state = torch.get_rng_state()
    first = exact_family(problem)(points)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(first, exact_family(problem)(points))
    assert not torch.equal(first, exact_family(problem, seed=1)(points))


def test_densities_stay_finite_in_hundreds_of_dimensions():
    z = coordinates("z", 256)
    p = field("p", t, z)
    module = exact_family(Problem([Eq(p.diff(t), laplacian(p, z) / 10)], {t: (0, 2), z: (-3, 3)}), members=2)
    points = torch.randn(4, 257, dtype=torch.float64).abs()
    assert torch.isfinite(module.log_density(points)).all() and (module(points) >= 0).all()


def test_float32_gives_the_same_to_its_precision():
    module = exact_family(Problem([Eq(u.diff(t, 2), laplacian(u, x, y) - u)], BOX), members=2)
    points = torch.rand(5, 3, dtype=torch.float64)
    expected = module(points)
    assert torch.allclose(module.float()(points.float()).double(), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("equation", "reason"),
    [
        (Eq(u.diff(t) + cos(u), laplacian(u, x, y)), "no product of derivatives"),
        (Eq(u.diff(t), x * laplacian(u, x, y)), "the coefficient `.*x` is not constant"),
        (Eq(u.diff(t, 2), laplacian(u, x, y) + x), "the equation has the source `x`"),
        (Eq(u.diff(t), laplacian(u, x, y) - u**3), "the equation is nonlinear"),
    ],
)
def test_without_a_family_the_reason_is_given(equation, reason):
    with pytest.raises(NoExactFamily, match=reason):
        exact_family(Problem([equation], BOX))


def test_systems_have_no_family():
    v = field("v", t, x, y)
    with pytest.raises(NoExactFamily, match="2 equations in 2 fields"):
        exact_family(Problem([Eq(u.diff(t), v), Eq(v.diff(t), laplacian(u, x, y))], BOX))


def test_sizes_are_positive():
    with pytest.raises(ValueError, match="`members` is 0; it must be a positive whole number"):
        exact_family(Problem([Eq(u.diff(t), laplacian(u, x, y))], BOX), members=0)


def test_slow_and_fast_waves_keep_apart():
    """Coefficients of very different size, as in other units."""
    equation = Eq(u.diff(t, 2), Float(3e8) ** 2 * laplacian(u, x, y))
    module = check(equation, {t: (0, 1e-8), x: (0, 3), y: (0, 3)})
    assert isinstance(module, RidgeWaves) and not isinstance(module, PlaneWaves)
