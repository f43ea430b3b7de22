"""VAE and GAN: they learn, repeat for a seed, survive a file, and say when something is wrong."""

import math

import h5py
import pytest
import torch

from pinnflow.errors import DamagedFile, DeclarationError, NonFinite, UnknownFormat, UnknownName, WrongShape
from pinnflow.latent.generators import generator
from pinnflow.latent.generators.conv import ConvGenerator
from pinnflow.latent.generators.data import ImageSet, digits
from pinnflow.latent.generators.gan import GAN, train_gan
from pinnflow.latent.generators.nets import halvings
from pinnflow.latent.generators.storage import load_generator, save_generator
from pinnflow.latent.generators.training import Loop
from pinnflow.latent.generators.vae import VAE, elbo_terms, train_vae
from pinnflow.latent.generators.warped import WarpedGenerator


@pytest.fixture(scope="module")
def waves():
    """1500 images, 8 x 8, that differ in three ways: the amplitudes of three cosine waves."""
    x = (torch.arange(8.0) + 0.5) / 8
    patterns = torch.stack(
        [torch.cos(torch.pi * p * x)[:, None] * torch.cos(torch.pi * q * x) for p, q in ((0, 1), (1, 0), (1, 1))]
    )
    z = torch.randn(1500, 3, generator=torch.Generator().manual_seed(0))
    return ImageSet("waves", torch.sigmoid(3 * torch.einsum("nk,khw->nhw", z, patterns) - 1)[:, None])


@pytest.fixture(scope="module")
def vae(waves):
    return train_vae(waves, latent_dim=5, width=64, iterations=400, seed=1, device="cpu", progress=False)


@pytest.fixture(scope="module")
def gan(waves):
    return train_gan(waves, latent_dim=4, width=64, iterations=600, seed=1, device="cpu", progress=False)


def latents(n, d, seed=3):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def to_nearest(images, data):
    """Mean distance of each image to the nearest of the data, in pixel space."""
    return torch.cdist(images.flatten(1), data.flatten(1)).min(1).values.mean()


def test_the_vae_restores_its_images(vae, waves):
    mean, log_variance = vae.encode(waves.images)
    assert mean.shape == log_variance.shape == (1500, 5)
    error = (vae.decode(mean) - waves.images).square().mean()
    assert error < 0.15 * waves.images.var(0).mean()
    assert vae.stop == "All 400 iterations were done."
    assert vae.history[-1]["loss"] < 0.8 * vae.history[0]["loss"]


def test_the_latents_of_the_images_have_mean_zero_and_variance_one(vae, waves):
    mean, log_variance = vae.encode(waves.images)
    assert torch.allclose(mean.mean(0), torch.zeros(5), atol=1e-4)
    spread = mean.var(0, correction=0) + log_variance.exp().mean(0)
    assert torch.allclose(spread, torch.ones(5), atol=1e-3)


def test_standardising_changes_no_reconstruction(waves):
    """The shift and the scale cancel: 30 iterations leave a VAE whose latents are far from N(0, I)."""
    from pinnflow.latent.generators.vae import standardise

    torch.manual_seed(0)
    raw = VAE(waves.image_shape, 4, width=32)
    with torch.no_grad():
        raw.encoder[-1].bias.add_(1.0)
        before_mean, before_log = raw.encode(waves.images)
        before = raw.decode(before_mean)
        standardise(raw, waves.images)
        mean, log_variance = raw.encode(waves.images)
        assert torch.allclose(raw.decode(mean), before, atol=1e-5)
        scale = (mean[0] - mean[1]) / (before_mean[0] - before_mean[1])
        assert torch.allclose(log_variance, before_log + 2 * scale.log(), atol=1e-3)


def test_active_latents_are_counted(vae, waves):
    """Three ways to differ want three latents at work; a huge weight of the divergence leaves none."""
    assert vae.active_latents >= 3
    dead = train_vae(waves, latent_dim=5, width=32, beta=1000.0, iterations=150, device="cpu", progress=False)
    assert dead.active_latents == 0
    assert VAE((1, 8, 8), 3).active_latents == 0


def test_the_divergence_is_that_of_two_normals(waves):
    """Against torch.distributions, and the reconstruction against the Bernoulli density."""
    torch.manual_seed(0)
    vae = VAE(waves.image_shape, 4, width=16)
    x, noise = waves.images[:7], latents(7, 4)
    pixels, divergence = elbo_terms(vae, x, noise)
    mean, log_variance = vae.encode(x)
    q = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1).mean()
    assert torch.allclose(divergence, expected, rtol=1e-5)
    p = vae.decode(mean + (0.5 * log_variance).exp() * noise)
    assert torch.allclose(pixels, -(x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3)).mean(), rtol=1e-4)


def test_images_drawn_from_the_vae_are_like_the_data(vae, waves):
    drawn = vae(latents(200, 5))
    blank = to_nearest(waves.images.mean(0, keepdim=True), waves.images)
    assert to_nearest(drawn, waves.images) < 0.6 * blank


def test_images_drawn_from_the_gan_are_like_the_data_and_as_varied(gan, waves):
    drawn = gan(latents(1000, 4))
    blank = to_nearest(waves.images.mean(0, keepdim=True), waves.images)
    assert to_nearest(drawn, waves.images) < 0.75 * blank
    assert 0.7 < drawn.std(0).mean() / waves.images.std(0).mean() < 1.3
    assert (drawn.mean(0) - waves.images.mean(0)).abs().max() < 0.15


@pytest.mark.parametrize("train", [train_vae, train_gan])
def test_a_seed_repeats_and_another_differs(train, waves):
    form = {"latent_dim": 3, "width": 16, "iterations": 20, "device": "cpu", "progress": False}
    state = torch.random.get_rng_state()
    first, again, other = train(waves, seed=2, **form), train(waves, seed=2, **form), train(waves, seed=3, **form)
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's random numbers are touched
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(first(latents(2, 3)), other(latents(2, 3)))
    assert not any(p.requires_grad for p in first.parameters())


@pytest.mark.parametrize("train", [train_vae, train_gan])
def test_a_time_limit_ends_training_with_what_was_learned(train, waves):
    made = train(waves, latent_dim=3, width=16, iterations=10**6, time_limit=0.2, device="cpu", progress=False)
    assert made.stop.startswith("The time limit of 0.2 s ended it after")
    assert torch.isfinite(made(latents(4, 3))).all()


def test_progress_is_told(waves):
    told = []
    train_vae(waves, latent_dim=2, width=16, iterations=30, device="cpu", progress=told.append)
    assert {"stage", "iteration", "iterations", "elapsed", "loss", "divergence"} <= set(told[0])
    assert told[0]["stage"] == "waves-vae"


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 64, 64), (2, 5, 7)])
@pytest.mark.parametrize("architecture", ["mlp", "conv"])
def test_both_architectures_serve_all_sizes(shape, architecture):
    vae = VAE(shape, 3, architecture, width=4)
    z = latents(4, 3).reshape(2, 2, 3)
    images = vae(z)
    assert images.shape == (2, 2, *shape)
    assert images.min() >= 0 and images.max() <= 1
    mean, _ = vae.encode(images)
    assert mean.shape == (2, 2, 3)
    # A row's image does not depend on the other rows.
    assert torch.allclose(vae(z[0, :1]), images[0, :1], atol=1e-6)


def test_sides_are_halved_while_they_are_whole():
    assert [halvings(n, n) for n in (4, 7, 8, 12, 28, 32, 64)] == [0, 0, 1, 1, 2, 3, 4]


@pytest.mark.parametrize("make", ["vae", "gan", "conv"])
def test_generators_can_be_differentiated_by_forward_and_reverse_mode(make, vae, gan):
    G = {"vae": vae, "gan": gan, "conv": ConvGenerator(6, 16, width=4)}[make]
    z, v = latents(3, G.latent_dim), latents(3, G.latent_dim, 4)
    _, forward = torch.func.jvp(G, (z,), (v,))
    J = torch.func.vmap(torch.func.jacrev(G))(z)
    assert torch.allclose(forward, torch.einsum("nchwd,nd->nchw", J, v), atol=1e-4)
    assert forward.abs().max() > 1e-3


@pytest.mark.parametrize("make", ["vae", "gan", "conv"])
def test_a_file_gives_the_same_generator(make, vae, gan, tmp_path):
    G = {"vae": vae, "gan": gan, "conv": ConvGenerator(6, 16, width=4, seed=9)}[make]
    save_generator(G, tmp_path / "made.h5")
    back = load_generator(tmp_path / "made.h5")
    assert type(back) is type(G)
    assert back.name == G.name
    z = latents(4, G.latent_dim)
    assert torch.equal(back(z), G(z))
    if make == "vae":
        assert back.active_latents == vae.active_latents
        image = torch.rand(2, *vae.image_shape)
        assert torch.equal(back.encode(image)[1], vae.encode(image)[1])


def test_files_of_something_else_or_damaged_are_refused(gan, tmp_path):
    path = tmp_path / "made.h5"
    gan.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DamagedFile, match=r"made\.h5"):
        load_generator(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(UnknownFormat, match="not of a generator"):
        load_generator(path)
    with pytest.raises(FileNotFoundError):
        load_generator(tmp_path / "none.h5")
    for change, error, words in (
        (lambda f: f.attrs.__setitem__("kind", "diffusion"), UnknownName, "conv, gan, vae"),
        (lambda f: f.attrs.__setitem__("version", 99), UnknownFormat, "later release"),
        (lambda f: f.attrs.__setitem__("settings", "{"), DamagedFile, "not a readable file"),
        (lambda f: f["weights"].pop("decoder.0.bias"), DamagedFile, "do not fit"),
        (lambda f: f["weights/decoder.0.bias"].__setitem__(0, math.nan), DamagedFile, "`decoder.0.bias` hold NaN"),
        (lambda f: f["weights/decoder.0.bias"].__setitem__(0, 0.125), DamagedFile, "another one than was written"),
    ):
        path.write_bytes(content)
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(error, match=words):
            load_generator(path)


def test_files_of_the_first_format_had_no_digest(gan, tmp_path):
    gan.save(tmp_path / "made.h5")
    with h5py.File(tmp_path / "made.h5", "r+") as file:
        file.attrs["version"] = 1
        del file.attrs["digest"]
    z = torch.ones(1, gan.latent_dim)
    assert torch.equal(load_generator(tmp_path / "made.h5")(z), gan(z))


def test_only_kinds_that_a_file_can_hold_are_written(tmp_path):
    with pytest.raises(DeclarationError, match="only conv, gan, vae can"):
        save_generator(WarpedGenerator(), tmp_path / "x.h5")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda d: train_vae(d, beta=-1), DeclarationError, "`beta` is -1"),
        (lambda d: train_vae(d, beta="1"), DeclarationError, "`beta` is '1'"),
        (lambda d: train_vae(d, iterations=0), DeclarationError, "`iterations` is 0"),
        (lambda d: train_vae(d, iterations=2.5), DeclarationError, "`iterations` is 2.5; expected a whole number"),
        (lambda d: train_vae(d, time_limit=0), DeclarationError, "`time_limit` is 0"),
        (lambda d: train_vae(d, latent_dim=0), DeclarationError, "`latent_dim` is 0"),
        (lambda d: train_vae(d, architecture="transformer"), UnknownName, "auto, conv, mlp"),
        (lambda d: train_gan(d, average=1.0), DeclarationError, "`average` is 1"),
        (lambda d: train_vae(d, rate=1e9, iterations=50), NonFinite, "smaller `rate`"),
        (lambda d: VAE((28, 28)), DeclarationError, r"\(channels, height, width\)"),
        (lambda d: GAN((1, 8, 8), 0), DeclarationError, "`latent_dim` is 0"),
        (lambda d: ConvGenerator(size=48), DeclarationError, "power of 2"),
        (lambda d: ConvGenerator(8.0), DeclarationError, "`latent_dim` is 8.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(call, error, words, waves):
    with pytest.raises(error, match=words):
        call(waves)


def test_wrong_latents_and_images_are_refused(vae):
    with pytest.raises(WrongShape, match=r"waves-vae: `z` has the shape \[2, 4\]"):
        vae(torch.zeros(2, 4))
    with pytest.raises(WrongShape, match="1, 8, 8"):
        vae.encode(torch.zeros(2, 1, 12, 12))
    with pytest.raises(NonFinite, match="1 of the images"):
        vae.encode(torch.full((1, 1, 8, 8), math.inf))


def test_every_row_comes_once_in_an_epoch():
    loop = Loop("x", 12, 4, 6, seed=0, progress=False)
    seen = torch.cat(list(loop)).reshape(2, 12)
    assert torch.equal(seen.sort(1).values, torch.arange(12).expand(2, 12))
    assert not torch.equal(seen[0], seen[1])


def test_conv_images_vary_everywhere_and_by_every_latent():
    G = ConvGenerator(16, 32, width=8)
    images = G(latents(100, 16))
    assert images.shape == (100, 3, 32, 32)
    assert images.std(0).min() > 0.02
    assert 0.4 < images.mean() < 0.6
    z = latents(1, 16)
    moved = (G(z + torch.eye(16)) - G(z)).flatten(1).norm(dim=1)
    assert moved.min() > 1.0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits-vae", "digits-gan"])
def test_digits_are_learned_with_all_their_classes(name):
    """Each of the ten digits is among the draws, judged by the nearest neighbour.

    Draws are as varied as the data, which a mean image is not, and much nearer to the data than images whose pixels
    have the right values but are independent of each other.
    """
    pytest.importorskip("sklearn")
    data, G = digits(), generator(name, progress=False, device="cpu")
    drawn, known = G(latents(2000, G.latent_dim)).flatten(1), data.images.flatten(1)
    distance, nearest = torch.cdist(drawn, known).min(1)
    assert torch.bincount(data.labels[nearest], minlength=10).min() > 0.03 * 2000
    assert 0.8 < drawn.std(0).mean() / known.std(0).mean() < 1.25
    order = torch.rand(known.shape, generator=torch.Generator().manual_seed(0)).argsort(0)
    assert distance.mean() < 0.75 * torch.cdist(known.gather(0, order), known).min(1).values.mean()
