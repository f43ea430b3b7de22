"""VAEs whose codes flow: their likelihood on linear-Gaussian models, where it is known, and what training finds."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pinnflow.errors import DeclarationError, NonFinite, UnknownName, WrongShape
from pinnflow.latent import PotentialFlow
from pinnflow.latent.generators.mixed import mixed_images
from pinnflow.latent.generators.moving import MovingImages
from pinnflow.latent.generators.vae import VAE
from pinnflow.latent.index import IndexPosterior, index_recovery
from pinnflow.latent.likelihood import Gaussian
from pinnflow.latent.sequences import image_likelihood, sequence_error, sequence_likelihood
from pinnflow.latent.structured import StructuredVAE
from pinnflow.latent.structured_training import _known, make_transition, train_structured_vae
from pinnflow.latent.transitions import LinearTransition, Still, fit_linear_transition
from pinnflow.latent.traversal import standard_normal


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear_transition(d=3, K=2, seed=3):
    flow = LinearTransition(None, d, K, device="cpu")
    with torch.no_grad():
        flow.field.matrices.copy_(0.3 * normal(K, d, d, seed=seed))
        flow.field.shifts.copy_(0.5 * normal(K, d, seed=seed + 1))
    return flow.field.requires_grad_(False) and flow


class LinearVAE(nn.Module):
    """x = W z + b + s e, and for an encoder the exact posterior under the prior N(c, S) of z: `[n, 1, 2, 4]` images.

    Only posteriors with a diagonal covariance fit an encoder, so W has orthogonal columns.
    """

    shape, scale = (1, 2, 4), 0.3

    def __init__(self, d=3):
        super().__init__()
        self.latent_dim = d
        W = torch.linalg.qr(normal(8, d, seed=1)).Q * torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
        self.W, self.b = nn.Parameter(W), nn.Parameter(normal(8, seed=2))

    def encode(self, x):
        precision = 1 + self.W.square().sum(dim=0) / self.scale**2
        mean = ((x.flatten(1) - self.b) @ self.W) / self.scale**2 / precision
        return mean, -precision.log().expand_as(mean)

    def decode(self, z):
        return (z @ self.W.mT + self.b).unflatten(-1, self.shape)


class LinearFlowModel:
    """The sequence model of `LinearVAE` and a linear transition, with its exact likelihoods."""

    def __init__(self, T=3):
        self.T, self.vae, self.flow = T, LinearVAE().requires_grad_(False), linear_transition()
        self.model = StructuredVAE(self.vae, self.flow, T)

    def affine(self, k, t):
        """F_{k,t}(z) = M z + m."""
        d = self.vae.latent_dim
        step = torch.eye(d, dtype=torch.float64) + self.flow.field.matrices[k]
        M, m = torch.eye(d, dtype=torch.float64), torch.zeros(d, dtype=torch.float64)
        for _ in range(t):
            M, m = step @ M, step @ m + self.flow.field.shifts[k]
        return M, m

    def frames(self, n, seed=5):
        z, k = normal(n, 3, seed=seed), torch.arange(n) % 2
        clean = torch.stack([self.vae.decode(one) for one in self.model.path(z, k, self.T)])
        return clean + self.vae.scale * normal(*clean.shape, seed=seed + 1), k

    def stacked(self, k, times):
        """Matrix and shift of the images at these times as a function of z_0."""
        maps = [self.affine(k, t) for t in times]
        return (
            torch.cat([self.vae.W @ M for M, _ in maps]),
            torch.cat([self.vae.W @ m + self.vae.b for _, m in maps]),
        )

    def log_likelihood(self, frames, labels, times):
        """log N of the images at these times, `[n]`, exactly."""
        found = torch.empty(len(labels), dtype=torch.float64)
        for k in (0, 1):
            A, b = self.stacked(k, times)
            covariance = A @ A.mT + self.vae.scale**2 * torch.eye(len(b), dtype=torch.float64)
            x = torch.cat([frames[t].flatten(1) for t in times], dim=1)[labels == k]
            found[labels == k] = torch.distributions.MultivariateNormal(b, covariance).log_prob(x)
        return found

    def divergence_from_posterior(self, frames, labels):
        """KL(q(z_0 | x_0) | p(z_0 | x_0, ..., x_T)), `[n]`."""
        mean, log_variance = self.vae.encode(frames[0])
        found = torch.empty(len(labels), dtype=torch.float64)
        for k in (0, 1):
            A, b = self.stacked(k, range(self.T + 1))
            precision = torch.eye(3, dtype=torch.float64) + A.mT @ A / self.vae.scale**2
            mine = labels == k
            x = frames.transpose(0, 1).flatten(1)[mine]
            centre = torch.linalg.solve(precision, A.mT @ (x - b).mT / self.vae.scale**2).mT
            q = torch.distributions.MultivariateNormal(mean[mine], torch.diag_embed(log_variance[mine].exp()))
            p = torch.distributions.MultivariateNormal(centre, precision_matrix=precision)
            found[mine] = torch.distributions.kl_divergence(q, p)
        return found


PIXELS = Gaussian(LinearVAE.scale)


def test_likelihood_of_single_images_is_exact_at_all_times():
    """p(x_t | k) under the density that the flow carries to time t: every draw has the exact weight, also beyond T.

    The encoder's q(z_t | x_t) has to be given, as N(x_t; W z, s^2 I) up to a factor, because the prior counts already.
    """
    exact = LinearFlowModel()
    frames, k = exact.frames(12)

    def likelihood(x):
        precision = exact.vae.W.square().sum(dim=0) / exact.vae.scale**2
        mean = ((x.flatten(1) - exact.vae.b) @ exact.vae.W) / exact.vae.scale**2 / precision
        return mean, -precision.log().expand_as(mean)

    usual, exact.vae.encode = exact.vae.encode, likelihood
    found = image_likelihood(exact.model, frames, k, 5, pixels=PIXELS)
    for t in range(1, exact.T + 1):
        torch.testing.assert_close(found[t].each, exact.log_likelihood(frames, k, [t]), rtol=1e-9, atol=1e-9)
        assert found[t].effective == pytest.approx(5)
    exact.vae.encode = usual
    first = image_likelihood(exact.model, frames, k, 5, pixels=PIXELS)[0]
    torch.testing.assert_close(first.each, exact.log_likelihood(frames, k, [0]), rtol=1e-9, atol=1e-9)


def test_elbo_of_sequences_lies_below_the_likelihood_by_the_divergence_from_the_posterior():
    """ELBO = log p(x_0, ..., x_T | k) - KL(q(z_0 | x_0) | p(z_0 | x_0, ..., x_T)), sequence by sequence."""
    exact = LinearFlowModel()
    frames, k = exact.frames(40)
    log_p = exact.log_likelihood(frames, k, range(exact.T + 1))
    expected = float((log_p - exact.divergence_from_posterior(frames, k)).mean())
    noise = [normal(40, 3, seed=s) for s in range(400)]
    mean, log_variance = exact.vae.encode(frames[0])
    draws = []
    for e in noise:
        z = mean + (log_variance / 2).exp() * e
        shown = exact.vae.decode(exact.model.path(z, k, exact.T))
        log_x = PIXELS.log_likelihood(shown.transpose(0, 1), frames.transpose(0, 1))
        draws.append(
            log_x + standard_normal(z) - (-(e.square() + log_variance).sum(1) / 2 - 1.5 * math.log(2 * math.pi))
        )
    by_hand = torch.stack(draws).mean(dim=0)
    assert float(by_hand.mean()) == pytest.approx(expected, abs=4 * float(torch.stack(draws).mean(1).std()) / 20)
    found = sequence_likelihood(exact.model, frames, k, 1, pixels=PIXELS, seed=2)
    spread = torch.stack(
        [sequence_likelihood(exact.model, frames, k, 1, pixels=PIXELS, seed=s).each for s in range(30)]
    )
    assert found.pixels == 4 * 8
    assert float(spread.mean()) == pytest.approx(expected, abs=4 * float(spread.mean(1).std()) / 30**0.5)


def test_bound_of_sequences_grows_to_the_exact_likelihood():
    exact = LinearFlowModel()
    frames, k = exact.frames(16)
    log_p = float(exact.log_likelihood(frames, k, range(exact.T + 1)).mean())
    values = [sequence_likelihood(exact.model, frames, k, n, pixels=PIXELS) for n in (1, 8, 64, 512)]
    assert [one.value for one in values] == sorted(one.value for one in values)
    # The draws know x_0 alone, so that many are needed; the gap falls like 1 / k.
    assert values[-1].value == pytest.approx(log_p, abs=0.3)
    assert values[-1].value < log_p + 4 * values[-1].noise


def test_draws_that_know_the_whole_sequence_give_a_closer_bound():
    """They nearly reach the exact likelihood where draws that know x_0 alone are nats below it."""
    exact = LinearFlowModel()
    frames, k = exact.frames(16)
    log_p = float(exact.log_likelihood(frames, k, range(exact.T + 1)).mean())
    usual, refined = (sequence_likelihood(exact.model, frames, k, 8, refine=r, pixels=PIXELS) for r in (0, 200))
    assert log_p - usual.value > 0.4
    assert log_p - refined.value == pytest.approx(0.0, abs=0.2)
    assert refined.value < log_p + 4 * refined.noise
    assert refined.effective > 2 * usual.effective
    usual, refined = (sequence_likelihood(exact.model, frames, k, 1, refine=r, pixels=PIXELS) for r in (0, 200))
    assert log_p - usual.value > 5 > 10 * (log_p - refined.value)
    still = StructuredVAE(exact.vae, Still(None, 3, 2), exact.T)
    apart = sum(float(exact.log_likelihood(frames[t : t + 1], k, [0]).mean()) for t in range(exact.T + 1))
    assert sequence_likelihood(still, frames, k, 8, refine=200, pixels=PIXELS).value == pytest.approx(apart, abs=0.1)
    with pytest.raises(ValueError, match="refine"):
        sequence_likelihood(still, frames, k, 8, refine=-1)


def test_without_movement_a_sequence_is_images_that_have_nothing_to_do_with_each_other():
    exact = LinearFlowModel()
    frames, k = exact.frames(20)
    model = StructuredVAE(exact.vae, Still(None, 3, 2, device="cpu"), exact.T)
    assert not model.moves
    found = sequence_likelihood(model, frames, k, 3, pixels=PIXELS)
    alone = sum(exact.log_likelihood(x[None], k, [0]) for x in frames)
    torch.testing.assert_close(found.each, alone, rtol=1e-9, atol=1e-9)
    parts = image_likelihood(model, frames, k, 3, pixels=PIXELS)
    torch.testing.assert_close(sum(one.each for one in parts), alone, rtol=1e-9, atol=1e-9)


def test_log_determinant_of_a_step_is_exact():
    flow = linear_transition()
    model = StructuredVAE(LinearVAE(), flow, 2)
    k = torch.tensor([0, 1, 1])
    step = torch.eye(3, dtype=torch.float64) + flow.field.matrices[k]
    torch.testing.assert_close(model.log_determinant(normal(3, 3), k, 1.0), torch.linalg.slogdet(step).logabsdet)
    waves = PotentialFlow(None, 3, 2, pde="wave", objectives=[], device="cpu", seed=1)
    z = normal(3, 3, seed=4)
    jacobians = torch.stack(
        [torch.func.jacrev(lambda x, i=i: x + waves.velocity(x[None], 2.0, k[i : i + 1])[0])(z[i]) for i in range(3)]
    )
    found = StructuredVAE(LinearVAE(), waves, 2).log_determinant(z, k, 2.0)
    torch.testing.assert_close(found, torch.linalg.slogdet(jacobians).logabsdet, rtol=1e-9, atol=1e-10)
    # Of a potential the Jacobian is I and a Hessian, hence symmetric.
    torch.testing.assert_close(jacobians, jacobians.mT, rtol=0, atol=1e-12)


def gentle(pde="wave", d=2, K=2, seed=0):
    """A potential flow whose steps are one to one: small weights."""
    flow = PotentialFlow(None, d, K, pde=pde, objectives=[], device="cpu", seed=seed, features=16)
    with torch.no_grad():
        weight = flow.field.amplitudes if hasattr(flow.field, "amplitudes") else flow.field.momenta
        weight.mul_(0.25)
    return flow


@pytest.mark.parametrize("pde", ["wave", "hamilton-jacobi"])
def test_carried_density_is_the_one_that_follows_the_walk_and_has_mass_one(pde):
    """Backwards by Newton's method as forwards by the change of variables; and its integral over the plane is 1."""
    vae = VAE((1, 8, 8), latent_dim=2, width=8)
    flow = gentle(pde)
    model = StructuredVAE(vae, flow, 3)
    start, k = normal(30, 2, seed=7), torch.arange(30) % 2
    path = flow.traverse(start, k, 3, None)
    forwards = flow.transported_log_density(start, k, 3, None)
    torch.testing.assert_close(model.log_prior(path[3], k, 3), forwards[3], rtol=0, atol=1e-7)
    torch.testing.assert_close(model.log_prior(start, k, 0), standard_normal(start))
    axis = torch.linspace(-8, 8, 81, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    mass = float(model.log_prior(grid, 1, 3).exp().sum()) * 0.2**2
    # The rule of midpoints is exact to rounding for smooth functions that vanish at the ends.
    assert mass == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("transition", ["linear", "potential", "wave", "hamilton-jacobi"])
def test_all_weights_of_the_model_have_a_gradient(transition):
    vae = VAE((1, 8, 8), latent_dim=3, width=16)
    model = StructuredVAE(vae, make_transition(transition, vae, 2, 3, 0), 3)
    frames = torch.rand(4, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0)).round()
    missed, divergence, path = model.bound_terms(frames, torch.arange(6) % 2, normal(6, 3).float())
    assert missed.shape == divergence.shape == (6,)
    assert path.shape == (4, 6, 3)
    (missed + divergence).sum().backward()
    for name, weight in model.named_parameters():
        # A constant added to a potential, and the first slope of linear potentials at rest, move nothing.
        if name.endswith(("last.bias",)):
            continue
        assert weight.grad is not None, name
        assert float(weight.grad.abs().sum()) > 0, name


def test_terms_of_the_bound_are_what_the_likelihood_measures():
    """-(missed + divergence) in the mean over draws is the importance-weighted bound with one draw."""
    vae = VAE((1, 8, 8), latent_dim=3, width=16)
    model = StructuredVAE(vae, gentle(d=3), 2)
    frames = torch.rand(3, 5, 1, 8, 8, generator=torch.Generator().manual_seed(0)).round()
    k = torch.arange(5) % 2
    with torch.no_grad():
        terms = torch.stack([sum(model.bound_terms(frames, k, normal(5, 3, seed=s).float())[:2]) for s in range(100)])
    found = torch.stack([sequence_likelihood(model, frames, k, 1, seed=s).each for s in range(100)])
    error = float((terms.mean(1).var() + found.mean(1).var()).sqrt()) / 10
    assert float(-terms.mean()) == pytest.approx(float(found.mean()), abs=4 * error)


def test_mixed_velocities_are_the_sum_and_pure_weights_the_velocity_itself():
    vae = VAE((1, 8, 8), latent_dim=3, width=16)
    model = StructuredVAE(vae, gentle(d=3), 2)
    z = normal(5, 3)
    weights = torch.softmax(normal(5, 2, seed=1), dim=1)
    parts = torch.stack([model.velocity(z, 2.0, k) for k in (0, 1)], dim=1)
    torch.testing.assert_close(model.velocity(z, 2.0, weights), (weights[:, :, None] * parts).sum(dim=1))
    pure = torch.eye(2, dtype=torch.float64)[torch.tensor([0, 1, 1, 0, 1])]
    torch.testing.assert_close(model.velocity(z, 2.0, pure), model.velocity(z, 2.0, pure.argmax(dim=1)))


def test_linear_transition_is_found_exactly_from_linear_paths():
    flow = linear_transition()
    k = torch.arange(40) % 2
    found = fit_linear_transition(flow.traverse(normal(40, 3), k, 3, None), k, ridge=0)
    torch.testing.assert_close(found.field.matrices, flow.field.matrices, rtol=0, atol=1e-9)
    torch.testing.assert_close(found.field.shifts, flow.field.shifts, rtol=0, atol=1e-9)
    with pytest.raises(WrongShape, match="T >= 1"):
        fit_linear_transition(normal(1, 4, 3), torch.zeros(4, dtype=torch.long))


def halves(count=400, seed=0):
    """Images of which the left or the right half gets bright, each from its own darkness."""
    draw = torch.Generator().manual_seed(seed)
    start = -3.5 + torch.rand(count, 2, generator=draw)
    labels = torch.randint(2, (count,), generator=draw)

    def light(factors, rows):
        return torch.sigmoid(factors)[:, None, None].repeat_interleave(4, dim=3).expand(-1, 1, 8, 8)

    return MovingImages("halves", ("left", "right"), start, 2 * torch.eye(2), labels, light)


def trained(index="known", transition="hamilton-jacobi", iterations=150, seed=0, **settings):
    usual = {"steps": 2, "latent_dim": 3, "width": 32, "rate": 1e-2, "flow_rate": 3e-2, "temperature": 10.0}
    usual |= {"progress": False}
    return train_structured_vae(
        halves(), transition, index=index, iterations=iterations, seed=seed, **(usual | settings)
    )


@pytest.fixture(scope="module")
def unlabelled():
    """A model that was not told which half gets bright."""
    return trained("inferred", iterations=300)


def recovered(model):
    test = halves(seed=1)
    ends = test.frames(torch.arange(len(test)), 2)[[0, -1]]
    return index_recovery(model.index(*ends).argmax(dim=1), test.labels, 2)


def test_index_is_recovered_from_pairs_without_labels(unlabelled):
    assert recovered(unlabelled).accuracy > 0.95


def test_index_is_recovered_by_relaxed_draws_too():
    assert recovered(trained("gumbel", iterations=300)).accuracy > 0.95


def test_index_is_recovered_from_pairs_with_labels_under_its_own_name():
    found = recovered(trained(iterations=60))
    assert found.accuracy > 0.95
    assert found.matching == (0, 1)


def test_relaxed_draws_train_the_posterior_of_the_index_and_the_potentials():
    """Forwards a draw is one potential, backwards all of them have a share in it."""
    model = trained("gumbel", iterations=2).requires_grad_(True)
    frames = halves(8).frames(torch.arange(8), 2)
    y = model.index.relaxed(model.index(frames[0], frames[-1]), 0.5, torch.Generator().manual_seed(0))
    whole = nn.functional.one_hot(y.argmax(dim=1), 2).to(y)
    missed, _, path = model.bound_terms(frames, whole + y - y.detach(), torch.zeros(8, 3))
    torch.testing.assert_close(path, model.path(path[0], y.argmax(dim=1), 2))
    missed.sum().backward()
    assert all(float(w.grad.abs().sum()) > 0 for w in model.index.parameters())
    assert all(float(g.abs().sum()) > 0 for g in model.field.momenta.grad)


def test_inferred_flows_continue_sequences_under_their_matching(unlabelled):
    """With the potentials' own names the sequences go on rightly; with the names exchanged they do not."""
    test, matching = halves(seed=1), recovered(unlabelled).matching
    right = sequence_error(unlabelled, test, matching=matching)
    wrong = sequence_error(unlabelled, test, matching=matching[::-1])
    assert right.error < 0.6
    assert wrong.error > 1.2
    assert len(right.along) == 2


def test_error_of_sequences_is_one_at_rest_and_zero_for_the_truth():
    """Codes are the factors and the decoder is the drawing, so that the true transition is b_k = rate_k."""

    class Exact(nn.Module):
        latent_dim = 2

        def encode(self, x):
            z = torch.logit(x[..., 0, 0, [0, 4]].double())
            return z, torch.zeros_like(z)

        def decode(self, z):
            return torch.sigmoid(z)[..., None, None, :].repeat_interleave(4, dim=-1).expand(*z.shape[:-1], 1, 8, 8)

    test = halves(60)
    true = LinearTransition(None, 2, 2, device="cpu")
    with torch.no_grad():
        true.field.matrices.zero_()
        true.field.shifts.copy_(test.rates)
    still = Still(None, 2, 2, device="cpu")
    found = sequence_error(StructuredVAE(Exact(), true, 2), test, steps=4)
    assert found.error == pytest.approx(0, abs=1e-5)
    assert found.beyond == pytest.approx(0, abs=1e-5)
    assert found.floor == pytest.approx(0, abs=1e-5)
    rest = sequence_error(StructuredVAE(Exact(), still, 2), test, steps=4)
    assert rest.along == pytest.approx([1] * 4, abs=1e-5)
    assert rest.each == pytest.approx([1] * 2, abs=1e-5)
    assert math.isnan(sequence_error(StructuredVAE(Exact(), still, 2), test).beyond)


def test_floor_of_the_error_is_what_the_decoder_cannot_show():
    """A decoder that shows the same grey for every code misses as much of x_t by encoding it as by any flow."""

    class Blind(nn.Module):
        latent_dim = 2

        def encode(self, x):
            z = torch.zeros(*x.shape[:-3], 2, dtype=torch.float64)
            return z, z

        def decode(self, z):
            return torch.full((*z.shape[:-1], 1, 8, 8), 0.5)

    found = sequence_error(StructuredVAE(Blind(), linear_transition(2), 2), halves(60))
    assert found.floor == pytest.approx(found.error)
    assert found.floor > 0.5


def test_few_later_images_estimate_the_bound_of_the_whole_sequence():
    """The mean over many draws of one of two later images is the bound with both."""
    model, sequences = trained(iterations=1), halves(50)
    frames = sequences.frames(torch.arange(50), 2)

    def bound(later, seed):
        loop = SimpleNamespace(draw=torch.Generator().manual_seed(seed))
        loop.noise = lambda *shape: torch.zeros(shape)  # the draw of z_0 is the mean, so that only images are drawn
        with torch.no_grad():
            return float(_known(model, frames, sequences.labels, loop, 1.0, later)[0])

    one = torch.tensor([bound(1, seed) for seed in range(60)])
    assert float(one.std()) > 0
    assert float(one.mean()) == pytest.approx(bound(2, 0), abs=4 * float(one.std()) / 60**0.5)
    assert trained(iterations=40, later=1).history[-1]["missed"] < trained(iterations=1).history[0]["missed"]


def test_share_of_single_images_trains_the_flow_or_leaves_it():
    first = trained(iterations=1, alone=(1.0, 1.0)).field.momenta
    torch.testing.assert_close(trained(iterations=40, alone=(1.0, 1.0)).field.momenta, first)
    both = trained(iterations=40, alone=(0.5, 0.5))
    assert float((both.field.momenta - first).abs().max()) > 1e-2
    assert both.history[-1]["missed"] < both.history[0]["missed"]


def test_training_follows_its_seed_and_lowers_the_loss():
    one, same, other = (trained(iterations=30, seed=s) for s in (0, 0, 1))
    weights = [torch.cat([w.flatten().double() for w in m.parameters()]) for m in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert one.history[-1]["missed"] < one.history[0]["missed"]
    assert "30 iterations" in one.stop
    assert not any(w.requires_grad for w in one.parameters())


def test_weight_of_the_divergence_makes_codes_say_less():
    test = halves(200, seed=1).frames(torch.arange(200), 0)[0]
    spread = [
        float(trained(transition="none", beta=b, warmup=0.0).vae.encode(test)[0].var(dim=0).sum()) for b in (0.1, 20.0)
    ]
    assert spread[1] < 0.2 * spread[0]


@pytest.mark.parametrize("transition", ["wave", "linear", "helmholtz", "free", "none"])
def test_every_transition_can_be_trained(transition):
    model = trained(transition=transition, iterations=3)
    assert model.moves == (transition != "none")
    assert (model.index is None) == (transition == "none")
    shown = model.continued(halves(4).frames(torch.arange(4), 0)[0], torch.tensor([0, 1, 1, 0]), 5)
    assert shown.shape == (6, 4, 1, 8, 8)


def test_probabilities_of_the_index_and_its_divergence():
    posterior = IndexPosterior((1, 8, 8), 3)
    x = torch.rand(5, 1, 8, 8)
    q = posterior.probabilities(x, x.flip(0))
    torch.testing.assert_close(q.sum(dim=1), torch.ones(5))
    scores = torch.tensor([[0.0, 0.0, 0.0], [50.0, 0.0, 0.0]])
    torch.testing.assert_close(posterior.divergence(scores), torch.tensor([0.0, math.log(3.0)]))
    # A relaxed draw at a low temperature is a draw: its largest weight is where a draw of q would be.
    draw = torch.Generator().manual_seed(0)
    weights = posterior.relaxed(torch.tensor([[1.0, 0.0, -1.0]]).expand(4000, 3), 0.1, draw)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(4000))
    share = nn.functional.one_hot(weights.argmax(dim=1), 3).double().mean(dim=0)
    expected = torch.softmax(torch.tensor([1.0, 0.0, -1.0]).double(), dim=0)
    assert float((share - expected).abs().max()) < 4 * 0.5 / 4000**0.5


def test_imbalance_is_zero_for_an_index_used_equally_often_and_log_k_for_one():
    posterior = IndexPosterior((1, 8, 8), 3)
    sure = 50 * torch.eye(3)
    assert float(posterior.imbalance(sure)) == pytest.approx(0, abs=1e-6)
    assert float(posterior.imbalance(sure[:1].expand(4, 3))) == pytest.approx(math.log(3))


def test_recovery_is_counted_under_the_best_permutation():
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2])
    found = index_recovery(torch.tensor([1, 1, 2, 0, 0, 0, 0, 0]), labels, 3)
    assert found.accuracy == pytest.approx(7 / 8)
    assert found.matching == (2, 0, 1)
    assert found.error == pytest.approx(math.sqrt(7 / 8 / 8 / 8))
    assert index_recovery(labels, labels, 3).accuracy == 1
    with pytest.raises(WrongShape, match="expected"):
        index_recovery(labels[:3], labels, 3)


def test_what_cannot_be_trained_or_measured_is_refused_in_words():
    with pytest.raises(UnknownName, match="hamilton-jacobi"):
        trained(transition="sideways")
    with pytest.raises(UnknownName, match="gumbel, inferred, known"):
        trained(index="guessed")
    with pytest.raises(DeclarationError, match="beta"):
        trained(beta=-1.0)
    with pytest.raises(ValueError, match="iterations"):
        trained(iterations=0)
    with pytest.raises(ValueError, match="steps"):
        trained(steps=0)
    vae = VAE((1, 8, 8), latent_dim=3, width=16)
    with pytest.raises(WrongShape, match="2 dimensions; those of `vae` have 3"):
        StructuredVAE(vae, gentle(d=2), 2)
    model = StructuredVAE(vae, gentle(d=3), 2)
    with pytest.raises(ValueError, match="steps"):
        model.path(normal(2, 3), 0, -1)
    with pytest.raises(WrongShape, match=r"expected \[2, 2\]"):
        model.path(normal(2, 3), torch.ones(2, 1))
    with pytest.raises(DeclarationError, match="255"):
        model.continued(torch.full((1, 1, 8, 8), 255.0), 0)
    with pytest.raises(WrongShape, match="expected"):
        sequence_likelihood(model, torch.zeros(3, 4, 1, 8, 8), torch.zeros(5, dtype=torch.long))
    with pytest.raises(WrongShape, match="expected"):
        image_likelihood(model, torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match="no potential 7"):
        model.path(normal(2, 3), torch.tensor([0, 7]))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"alone": 0.5}, "two shares"),
        ({"alone": (0.0, 2.0)}, "two shares"),
        ({"alone": (0.5, 0.5), "index": "inferred"}, "index='known'"),
        ({"later": 3}, "1 to 2 images"),
        ({"later": 1, "index": "inferred"}, "index='known'"),
        ({"rate": 0.0}, "rate"),
        ({"flow_rate": -1.0}, "flow_rate"),
        ({"warmup": -1.0}, "warmup"),
        ({"width": 0}, "width"),
        ({"potentials": 0}, "potentials"),
        ({"iterations": 1.5}, "iterations"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        trained(**settings)


def test_sequences_that_have_no_single_index_are_not_taken_for_some_that_have():
    mixed = mixed_images(halves(20))
    with pytest.raises(DeclarationError, match="infer_sets"):
        train_structured_vae(mixed, iterations=1, progress=False)
    with pytest.raises(TypeError, match="moving_images"):
        train_structured_vae(torch.rand(3, 4, 1, 8, 8), iterations=1)
    model = trained(iterations=1)
    with pytest.raises(DeclarationError, match="several transformations"):
        sequence_error(model, mixed)
    with pytest.raises(DeclarationError, match="each of the 2 transformations once"):
        sequence_error(model, halves(20), matching=(0, 0))
    with pytest.raises(ValueError, match="rows"):
        sequence_error(model, halves(20), rows=0)
    labels = torch.zeros(4, dtype=torch.long)
    with pytest.raises(ValueError, match="widened"):
        image_likelihood(model, halves(20).frames(torch.arange(4), 2), labels, 4, widened=0)
    with pytest.raises(WrongShape, match="0 to 1"):
        index_recovery(torch.tensor([0, 4]), torch.tensor([0, 1]), 2)
    with pytest.raises(NonFinite, match="encoder"):
        fit_linear_transition(torch.full((3, 4, 2), torch.nan), labels)
    with pytest.raises(WrongShape, match="from 0 on"):
        fit_linear_transition(torch.zeros(3, 4, 2), -torch.ones(4, dtype=torch.long))
