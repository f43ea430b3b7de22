"""The benchmark generator: a diffeomorphism that keeps N(0, I), factors that can be read back, exact traversals."""

import math

import numpy as np
import pytest
import torch

from pinnflow.errors import DeclarationError, NonFinite, UnknownName, WrongShape
from pinnflow.latent.generators.renderers import RENDERERS, Renderer, cosine_waves, render, renderer
from pinnflow.latent.generators.warped import WarpedGenerator, random_planes


def latents(n, d, dtype=torch.float64, seed=0):
    return torch.randn(n, d, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def determination(prediction, truth):
    """R^2 of every column."""
    return 1 - (prediction - truth).square().mean(0) / truth.var(0)


def shares(factors):
    """Which share of the total change of all factors each one has, between the ends of paths `[steps + 1, n, F]`."""
    change = (factors[-1] - factors[0]).abs()
    return change / change.sum(-1, keepdim=True)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("d", "factors"), [(8, 5), (3, 3), (16, 12), (64, 5)])
def test_unwarp_inverts_warp(dtype, tolerance, d, factors):
    G = WarpedGenerator(d, factors, seed=3)
    z = latents(500, d, dtype)
    assert (G.unwarp(G.warp(z)) - z).abs().max() <= tolerance
    assert (G.warp(G.unwarp(z)) - z).abs().max() <= tolerance
    assert (G.warp(z) - z).abs().max() > 0.5  # and it is not the identity


@pytest.mark.parametrize("seed", [0, 1])
def test_warp_preserves_the_standard_normal_density(seed):
    """|h(z)| = |z| and |det Dh| = 1, so h maps N(0, I) to itself exactly; the covariance agrees within 4 sigma."""
    G = WarpedGenerator(seed=seed)
    z = latents(20_000, 8, seed=seed)
    w = G.warp(z)
    assert torch.allclose(w.norm(dim=-1), z.norm(dim=-1), rtol=1e-12)
    J = torch.func.vmap(torch.func.jacrev(G.warp))(z[:100])
    assert (torch.linalg.det(J) - 1).abs().max() < 1e-12
    # Entries of a sample covariance have the deviation 1/sqrt(n), on the diagonal sqrt(2/n).
    deviation = (1 + torch.eye(8)).sqrt() / math.sqrt(len(w))
    assert ((torch.cov(w.T) - torch.eye(8)).abs() < 4 * deviation).all()
    assert (w.mean(0).abs() < 4 / math.sqrt(len(w))).all()


@pytest.mark.parametrize(("warp", "low", "high"), [(0.0, 1 - 1e-12, 1.0), (0.5, 0.84, 0.93), (1.0, 0.50, 0.72)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_dial_sets_how_linear_the_factors_are(warp, low, high, seed):
    """Mean R^2 of the best linear map from z to the factor coordinates of w."""
    G = WarpedGenerator(warp=warp, seed=seed)
    z = latents(20_000, 8)
    w = G.warp(z)[:, :5]
    columns = torch.cat([z, torch.ones(len(z), 1, dtype=z.dtype)], 1)
    fit = columns @ torch.linalg.lstsq(columns, w).solution
    assert low <= determination(fit, w).mean() <= high


def test_factors_are_uniform_and_independent():
    f = WarpedGenerator().factors(latents(40_000, 8))
    assert f.abs().max() < 1
    ranks = f.sort(0).values
    expected = torch.linspace(-1, 1, len(f), dtype=f.dtype)[:, None]
    assert (ranks - expected).abs().max() < 2 * 1.95 / math.sqrt(len(f))  # Kolmogorov, level 0.001
    assert (torch.corrcoef(f.T) - torch.eye(5)).abs().max() < 4 / math.sqrt(len(f))


@pytest.mark.parametrize("warp", [0.0, 1.0, 1.5])
def test_the_oracle_changes_only_its_factor(warp):
    G = WarpedGenerator(warp=warp)
    z, k = latents(200, 8), torch.arange(200) % 5
    path = G.oracle(z, k, 6, 0.35)
    assert path.shape == (7, 200, 8)
    assert torch.equal(path[0], z)
    assert shares(G.factors(path)).gather(-1, k[:, None]).min() >= 0.999
    w = G.warp(path)
    assert torch.allclose((w[-1] - w[0]).gather(-1, k[:, None]), torch.full((200, 1), 6 * 0.35, dtype=z.dtype))


def test_the_oracle_takes_a_factor_and_a_direction_per_row():
    G = WarpedGenerator()
    z, k = latents(6, 8), torch.tensor([0, 1, 2, 3, 4, 0])
    sign = torch.tensor([1, -1, 1, -1, 1, -1])
    together = G.oracle(z, k, 3, 0.5, sign)
    for row in range(6):
        alone = G.oracle(z[row : row + 1], int(k[row]), 3, 0.5, int(sign[row]))
        assert torch.allclose(together[:, row : row + 1], alone, atol=1e-12)
    back = G.oracle(together[-1], k, 3, 0.5, -sign)
    assert torch.allclose(back[-1], z, atol=1e-12)


def test_a_straight_line_is_no_oracle_of_a_warped_factor():
    """The oracle's share is 1 because it bends, not because any path has it: its chord does much worse."""
    G = WarpedGenerator()
    z, k = latents(500, 8), torch.arange(500) % 5
    ends = G.oracle(z, k, 6, 0.35)[[0, -1]]
    straight = torch.stack([ends[0], ends[0] + 0.5 * (ends[1] - ends[0])])
    assert shares(G.factors(straight)).gather(-1, k[:, None]).mean() < 0.95


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [32, 64])
def test_moments_read_the_factors_of_a_rendered_ellipse(dtype, size):
    G = WarpedGenerator(size=size)
    z = latents(1000, 8, dtype)
    images = G(z)
    assert images.dtype == dtype
    assert determination(G.read_factors(images), G.factors(z)).min() >= 0.9999


@pytest.mark.parametrize(("name", "factors"), [("colour", 6), ("blobs", 5), ("bars", 5), ("ellipse", 7)])
def test_fitted_drawings_read_the_factors_of_every_other_renderer(name, factors):
    G = WarpedGenerator(10, factors, size=24, renderer=name)
    z = latents(60, 10, torch.float32, seed=5)
    assert determination(G.read_factors(G(z)), G.factors(z)).min() >= 0.9999


@pytest.mark.parametrize("name", sorted(RENDERERS))
@pytest.mark.parametrize("factors", [1, 3, 9])
def test_every_factor_is_seen_and_images_stay_in_range(name, factors):
    G = WarpedGenerator(12, factors, size=20, renderer=name)
    f = torch.rand(64, factors, dtype=torch.float64) * 2 - 1
    images = G.draw(f)
    assert images.shape == (64, *G.image_shape)
    assert images.min() >= 0
    assert images.max() <= 1
    for k in range(factors):
        other = f.clone()
        other[:, k] = -f[:, k].sign() * (1 - f[:, k].abs())
        moved = (G.draw(other) - images).flatten(1).norm(dim=1)
        assert moved.median() > 0.05, G.factor_names[k]


@pytest.mark.parametrize("name", sorted(RENDERERS))
def test_forward_reverse_and_vmap_agree(name):
    """J v by forward mode, by reverse mode and by a central difference; one sample and a batch."""
    G = WarpedGenerator(7, 7, size=12, renderer=name)
    z, v = latents(4, 7), latents(4, 7, seed=1)
    value, forward = torch.func.jvp(G, (z,), (v,))
    J = torch.func.vmap(torch.func.jacrev(G))(z)
    assert torch.allclose(forward, torch.einsum("nchwd,nd->nchw", J, v), atol=1e-12)
    step = 1e-5
    assert torch.allclose(forward, (G(z + step * v) - G(z - step * v)) / (2 * step), atol=1e-7)
    assert torch.allclose(torch.func.vmap(G)(z), value, atol=1e-14)
    assert torch.allclose(G(z.reshape(2, 2, 7)).flatten(0, 1), value, atol=1e-14)


def test_seeds_differ_and_the_same_seed_repeats():
    z = latents(5, 8)
    assert torch.equal(WarpedGenerator(seed=4)(z), WarpedGenerator(seed=4)(z))
    assert not torch.allclose(WarpedGenerator(seed=4).warp(z), WarpedGenerator(seed=5).warp(z))


@pytest.mark.parametrize("m", [3, 4, 8, 9, 35])
def test_each_coordinate_is_turned_once_or_twice(m):
    """And by a coordinate outside its plane, without which no inverse exists."""
    for seed in range(5):
        planes = random_planes(np.random.default_rng(seed), m)
        counts = torch.bincount(torch.tensor([p[:2] for p in planes]).flatten(), minlength=m)
        assert counts.max() <= 2
        assert (counts >= 1).sum() >= min(m, 2 * len(planes))
        assert all(len({i, j, k}) == 3 for i, j, k, _ in planes)


def test_an_image_without_light_has_no_brightness_and_no_nan():
    f = WarpedGenerator().read_factors(torch.zeros(2, 1, 32, 32))
    assert torch.allclose(f, torch.tensor([0.0, 0.0, 0.0, 0.0, -0.65 / 0.35]).expand(2, 5))


def test_waves_are_all_different_and_lowest_first():
    waves = cosine_waves(40)
    assert len(set(waves)) == 40
    assert (0, 0) not in waves
    assert [sum(w) for w in waves] == sorted(sum(w) for w in waves)


def test_a_renderer_of_ones_own_is_one_function():
    @renderer("flat", 1, "level")
    def draw_flat(f, x, y):
        cover = torch.ones_like(x + y)
        return cover * (0.5 + 0.5 * f[0]), cover

    try:
        assert isinstance(RENDERERS["flat"], Renderer)
        images = WarpedGenerator(3, 1, size=8, renderer="flat")(latents(4, 3))
        assert images.shape == (4, 1, 8, 8)
        assert torch.equal(images.amax((1, 2, 3)), images.amin((1, 2, 3)))
    finally:
        del RENDERERS["flat"]


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"factors": 9}, DeclarationError, "`factors` is 9 and `latent_dim` is 8"),
        ({"factors": 0}, DeclarationError, "`factors` is 0"),
        ({"latent_dim": 8.0}, DeclarationError, r"`latent_dim` is 8\.0; expected a whole number"),
        ({"seed": -1}, DeclarationError, "`seed` is -1"),
        ({"warp": "1"}, DeclarationError, "`warp` is '1'"),
        ({"latent_dim": 2, "factors": 2}, DeclarationError, "`warp=0`"),
        ({"warp": math.nan}, DeclarationError, "finite"),
        ({"size": 4}, DeclarationError, "at least 8"),
        ({"renderer": "ellipsis"}, UnknownName, "bars, blobs, colour, ellipse"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, error, words):
    with pytest.raises(error, match=words):
        WarpedGenerator(**settings)


def test_two_coordinates_can_be_rotated():
    G = WarpedGenerator(2, 2, warp=0)
    z = latents(5, 2)
    assert torch.allclose(G.unwarp(G.warp(z)), z)


def test_wrong_latents_and_images_are_refused_in_words():
    G = WarpedGenerator()
    with pytest.raises(WrongShape, match=r"\[3, 7\]; expected \[\.\.\., 8\]"):
        G(torch.zeros(3, 7))
    with pytest.raises(TypeError, match=r"torch\.int64"):
        G(torch.zeros(3, 8, dtype=torch.long))
    with pytest.raises(TypeError, match="ndarray"):
        G(torch.zeros(3, 8).numpy())
    with pytest.raises(WrongShape, match="expected 0 to 4"):
        G.oracle(torch.zeros(3, 8), 5)
    with pytest.raises(WrongShape, match="one per row"):
        G.oracle(torch.zeros(3, 8), torch.tensor([0, 1]))
    with pytest.raises(WrongShape, match="1, 32, 32"):
        G.read_factors(torch.zeros(3, 1, 16, 16))
    with pytest.raises(NonFinite, match="2 of the images"):
        G.read_factors(torch.full((2, 1, 32, 32), math.nan))


def test_missing_features_stay_in_the_middle():
    few, many = render("ellipse", torch.tensor([[0.3]]), 16), render("ellipse", torch.tensor([[0.3, 0, 0, 0, 0]]), 16)
    assert torch.equal(few, many)
