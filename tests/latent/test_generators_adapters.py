"""Adapters: any callable, truncation, a W space, inner layers; files of torch, BigGAN and diffusers; names."""

import json
import math
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

from pinnflow.errors import (
    DamagedFile,
    DeclarationError,
    MissingExtra,
    NonFinite,
    UnknownFormat,
    UnknownName,
    WrongShape,
)
from pinnflow.latent.generators import generator, generator_names, open_generator
from pinnflow.latent.generators.adapters import Adapted, InnerLayer, Truncated, WSpace, truncated_normal
from pinnflow.latent.generators.conv import ConvGenerator
from pinnflow.latent.generators.files import exported_generator, torchscript_generator
from pinnflow.latent.generators.pretrained import autoencoder_kl, biggan
from pinnflow.latent.generators.registry import GENERATORS, register_generator
from pinnflow.latent.generators.warped import WarpedGenerator
from pinnflow.latent.rendering import push_forward


def latents(n, d, seed=0, dtype=torch.float32):
    return torch.randn(n, d, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def small_network(d=4, act=nn.Tanh):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(d, 48), nn.SiLU(), nn.Linear(48, 64), act(), nn.Unflatten(1, (1, 8, 8)))


# Any callable


def test_the_tanh_range_is_mapped_to_the_unit_interval():
    network = small_network()
    G = Adapted(network, 4)
    z = latents(5, 4)
    assert G.image_range == (-1.0, 1.0)
    assert G.image_shape == (1, 8, 8)
    assert torch.allclose(G(z), (network(z) + 1) / 2)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


def test_the_unit_interval_stays_as_it_is():
    network = small_network(act=nn.Sigmoid)
    z = latents(5, 4)
    assert torch.equal(Adapted(network, 4)(z), network(z))


def test_a_range_of_ones_own_is_mapped_and_cut():
    G = Adapted(lambda z: 255 * z[:, :1, None, None].expand(-1, 3, 2, 2), 2, image_range=(0, 255))
    images = G(torch.tensor([[0.5, 0.0], [3.0, 0.0], [-1.0, 0.0]]))
    assert torch.equal(images[:, 0, 0, 0], torch.tensor([0.5, 1.0, 0.0]))


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: x.reshape(-1, 8, 8),
        lambda x: (x.reshape(-1, 1, 8, 8), None),
        lambda x: type("Output", (), {"sample": x.reshape(-1, 1, 8, 8)})(),
    ],
    ids=["no channel", "tuple", "attribute sample"],
)
def test_usual_forms_of_answers_are_understood(answer):
    network = small_network()[:-1]
    G = Adapted(lambda z: answer(network(z)), 4)
    z = latents(3, 4)
    assert torch.allclose(G(z)[:, 0], (network(z).reshape(3, 8, 8) + 1) / 2)


def test_rows_of_pixels_get_their_shape():
    network = small_network()[:-1]
    assert Adapted(network, 4, image_shape=(1, 8, 8))(latents(3, 4)).shape == (3, 1, 8, 8)
    with pytest.raises(WrongShape, match=r"returned \[2, 64\].*`image_shape=\(c, h, w\)`"):
        Adapted(network, 4)


def test_adapted_callables_can_be_differentiated_and_take_any_leading_axes():
    G = Adapted(small_network().double(), 4)
    z, v = latents(3, 4, dtype=torch.float64), latents(3, 4, 1, torch.float64)
    _, forward = torch.func.jvp(G, (z,), (v,))
    J = torch.func.vmap(torch.func.jacrev(G))(z)
    assert torch.allclose(forward, torch.einsum("nchwd,nd->nchw", J, v))
    assert G(z[None]).shape == (1, 3, 1, 8, 8)
    assert G(z.float()).dtype == torch.float64  # it computes in its own dtype


def test_attention_and_group_norms_are_differentiated_by_forward_mode():
    """The fused kernels for attention have no rule for it, and group norms want tangents in plain order."""

    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.begin = nn.Conv2d(2, 8, 3, padding=1)
            self.norm = nn.GroupNorm(2, 8)
            self.end = nn.Conv2d(8, 1, 3, padding=1)

        def forward(self, z):
            x = self.norm(self.begin(z.reshape(-1, 2, 4, 4)))
            rows = x.flatten(2).mT[:, None]
            rows = nn.functional.scaled_dot_product_attention(rows, rows, rows)
            return torch.sigmoid(self.end(rows[:, 0].mT.reshape(x.shape)))

    torch.manual_seed(0)
    G = Adapted(Attending(), 32)
    z, v = latents(3, 32), latents(3, 32, 1)
    _, forward = torch.func.jvp(G, (z,), (v,))
    _, back = torch.func.vjp(G, z)
    w = torch.randn(forward.shape, generator=torch.Generator().manual_seed(0))
    assert torch.allclose((forward * w).sum(), (back(w)[0] * v).sum(), rtol=1e-3)


class Softened(nn.Module):
    """Softmax and attention of the code, twice differentiable, in the ways networks write them."""

    def __init__(self, how):
        super().__init__()
        self.how, self.dtype = how, torch.float64

    def forward(self, z):
        x = z.unflatten(1, (2, 4)) @ torch.linspace(-1, 1, 16, dtype=z.dtype).reshape(4, 4)
        return self.how(x)[:, None]


@pytest.mark.parametrize(
    "how",
    [
        lambda x: nn.functional.scaled_dot_product_attention(x, x, x),
        lambda x: nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.5),
        lambda x: nn.functional.scaled_dot_product_attention(x, x, x, x @ x.mT > 0),
        lambda x: torch.softmax(x, dim=-1),
        lambda x: x.softmax(2),
        nn.Softmax(dim=1),
        lambda x: nn.functional.group_norm(x, 1),
    ],
)
def test_movements_are_differentiated_by_reverse_mode(how):
    """J v of any module, and d/ds |J(z + s a) v|^2 against a central difference; torch's softmax has no such one."""
    network = Softened(how)
    draw = torch.Generator().manual_seed(3)
    z, v, a = torch.randn(3, 2, 8, dtype=torch.float64, generator=draw)
    network(z)  # as it is, outside
    size = lambda s: push_forward(network, z + s * a, v).square().sum()  # noqa: E731
    s = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(size(s), s)
    _, direct = torch.func.jvp(lambda z: network(z).flatten(1), (z,), (v,))
    assert torch.allclose(push_forward(network, z, v), direct, rtol=1e-12)
    assert abs(float(slope) - float(size(1e-5) - size(-1e-5)) / 2e-5) < 1e-6 * max(1, abs(float(slope)))


@pytest.mark.parametrize(
    ("images", "d", "error", "words"),
    [
        (small_network(), 5, WrongShape, "`latent_dim` is 5"),
        (lambda z: z * math.nan, 4, WrongShape, "returned"),
        (lambda z: z[:, :, None, None] * math.nan, 4, NonFinite, "NaN"),
        (small_network(), "4", DeclarationError, "`latent_dim` is '4'"),
        (small_network().double(), 5, WrongShape, "`dtype=`"),
        (lambda z: 100 + z[:, :, None, None], 4, DeclarationError, r"`image_range=\(0, 255\)`"),
        (lambda z: "image", 4, WrongShape, "a str"),
        ("network.pt", 4, TypeError, "a str is no generator"),
        (small_network(), 0, DeclarationError, "`latent_dim` is 0"),
    ],
)
def test_what_is_no_generator_is_refused(images, d, error, words):
    with pytest.raises(error, match=words):
        Adapted(images, d)


# Truncation


def test_truncation_carries_a_normal_to_a_truncated_normal():
    """Against the distribution function of the truncated normal: F(T(z)) = Phi(z)."""
    z = torch.linspace(-4, 4, 81, dtype=torch.float64)
    x = truncated_normal(z, 1.5)
    Phi = torch.special.ndtr
    low, high = Phi(torch.tensor([-1.5, 1.5], dtype=torch.float64))
    assert torch.allclose((Phi(x) - low) / (high - low), Phi(z), atol=1e-12)
    assert x.abs().max() < 1.5
    assert (x.diff() > 0).all()


def test_a_truncated_generator_keeps_paths_smooth_and_inside():
    G = WarpedGenerator()
    T = Truncated(G, 1.0, 0.5)
    z = 5 * latents(100, 8)
    assert T.truncate(z).abs().max() <= 0.5
    assert torch.equal(T(z), G(T.truncate(z)))
    assert torch.isfinite(torch.func.jvp(T, (z,), (torch.ones_like(z),))[1]).all()
    with pytest.raises(DeclarationError, match="`bound` 0"):
        Truncated(G, 0.0)


# W space


def style_network():
    torch.manual_seed(1)
    mapping = nn.Sequential(nn.Linear(4, 32), nn.SiLU(), nn.Linear(32, 6))
    synthesis = nn.Sequential(nn.Linear(6, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)))
    return mapping, synthesis


def test_codes_of_w_are_whitened_and_give_the_images_of_the_network():
    mapping, synthesis = style_network()
    G = WSpace(mapping, synthesis, 4)
    assert (G.latent_dim, G.image_shape) == (6, (1, 8, 8))
    z = latents(10_000, 4)
    code = G.code_of(z)
    assert torch.allclose(code.mean(0), torch.zeros(6), atol=1e-3)
    assert torch.allclose(torch.cov(code.T), torch.eye(6), atol=1e-2)
    assert torch.allclose(G(code[:20]), synthesis(mapping(z[:20])), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: WSpace(small_network(), small_network(), 5), WrongShape, r"mapping failed on latents \[n, 5\]"),
        (lambda: WSpace(lambda z: z, lambda w: w, 4, draws=4), DeclarationError, "`draws` is 4; the covariance of 4"),
        (lambda: WSpace(lambda z: z, lambda w: w, 4, draws=1), DeclarationError, "`draws` is 1"),
        (lambda: WSpace(torch.ones_like, lambda w: w, 4), DeclarationError, "same w for all latents"),
        (lambda: Truncated(lambda z: z), DeclarationError, r"`Truncated\(Adapted\(generator, latent_dim\)\)`"),
        (lambda: Truncated(Adapted(small_network(), 4), "2"), DeclarationError, "`bound` '2'"),
        (lambda: InnerLayer(lambda z: z, "0", 4), DeclarationError, "a function has no layers"),
        (lambda: InnerLayer(small_network(), "0", 4, draws=1), DeclarationError, "`draws` is 1"),
        (lambda: InnerLayer(small_network(), "0", 4, components=1.5), WrongShape, "`components` is 1.5"),
    ],
)
def test_spaces_that_do_not_exist_are_refused_in_words(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_truncation_in_w_moves_towards_the_mean_image():
    mapping, synthesis = style_network()
    G, half = WSpace(mapping, synthesis, 4), WSpace(mapping, synthesis, 4, truncation=0.5)
    z = latents(20, 4)
    w = mapping(z)
    assert torch.allclose(half(half.code_of(z)), synthesis(half.mean + 0.5 * (w - half.mean)), atol=1e-5)
    middle = synthesis(G.mean[None])
    assert (half(half.code_of(z)) - middle).norm() < (G(G.code_of(z)) - middle).norm()
    with pytest.raises(DeclarationError, match="`truncation` is 0"):
        WSpace(mapping, synthesis, 4, truncation=0)


def test_a_synthesis_of_many_layers_is_a_lambda():
    mapping, _ = style_network()
    layers = nn.ModuleList([nn.Linear(6, 64) for _ in range(3)])

    def synthesis(w):  # [n, 3, 6]
        return torch.sigmoid(sum(layer(w[:, i]) for i, layer in enumerate(layers))).reshape(-1, 1, 8, 8)

    G = WSpace(mapping, lambda w: synthesis(w[:, None].repeat(1, 3, 1)), 4)
    z = latents(5, 4)
    assert torch.allclose(G(G.code_of(z)), synthesis(mapping(z)[:, None].repeat(1, 3, 1)), atol=1e-5)


# Inner layers


@pytest.mark.parametrize("layer", ["layers.1", "layers.3"])
def test_all_components_of_a_layer_give_the_images_of_the_network(layer):
    network = ConvGenerator(3, 8, width=2)
    features = 4 * 4 * 4 if layer == "layers.1" else 8 * 8 * 3
    # The first layer is linear in z: three components are all there are.
    G = InnerLayer(network, layer, components=3 if layer == "layers.1" else features, draws=400)
    z = latents(10, 3, 5)
    assert torch.allclose(G(G.code_of(z)), network(z), atol=1e-4)
    code = G.code_of(latents(5000, 3, 7))
    assert (code[:, :3].var(0) - 1).abs().max() < 0.25
    assert code.shape == (5000, G.latent_dim)


def test_few_components_give_the_most_of_it():
    network = ConvGenerator(8, 16, width=4)
    z = latents(50, 8, 5)
    wrong = []
    for components in (2, 16, 128):
        G = InnerLayer(network, "layers.3", components=components, draws=300)
        wrong.append(float((G(G.code_of(z)) - network(z)).norm()))
    assert wrong[0] > wrong[1] > wrong[2]
    assert InnerLayer(network, "layers.3", draws=300).latent_dim == 64


def test_inner_layers_can_be_differentiated():
    G = InnerLayer(ConvGenerator(4, 8, width=2).double(), "layers.3", components=5, draws=50)
    z, v = latents(3, 5, dtype=torch.float64), latents(3, 5, 1, torch.float64)
    _, forward = torch.func.jvp(G, (z,), (v,))
    step = 1e-6
    assert torch.allclose(forward, (G(z + step * v) - G(z - step * v)) / (2 * step), atol=1e-7)
    assert forward.abs().max() > 1e-3


def test_layers_that_are_not_there_or_come_twice_are_refused():
    network = ConvGenerator(4, 8, width=2)
    with pytest.raises(UnknownName, match=r"no layer `middle`.*layers\.0"):
        InnerLayer(network, "middle")
    with pytest.raises(WrongShape, match="expected 1 to"):
        InnerLayer(network, "layers.1", components=1000, draws=20)
    shared = nn.Linear(4, 4)
    twice = nn.Sequential(shared, nn.Tanh(), shared, nn.Unflatten(1, (1, 2, 2)))
    with pytest.raises(WrongShape, match="called 2 times"):
        InnerLayer(twice, "0", 4)
    with pytest.raises(DeclarationError, match="`latent_dim=`"):
        InnerLayer(nn.Sequential(nn.Linear(4, 4)), "0")


# Files


@pytest.fixture
def exported(tmp_path):
    network = small_network().eval()
    program = torch.export.export(
        network, (torch.zeros(2, 4),), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=10_000)},)
    )
    torch.export.save(program, tmp_path / "net.pt2")
    return tmp_path / "net.pt2", network


@pytest.fixture
def scripted(tmp_path):
    network = small_network().eval()
    torch.jit.save(torch.jit.trace(network, torch.zeros(2, 4)), tmp_path / "net.pt")
    return tmp_path / "net.pt", network


@pytest.mark.parametrize("rows", [1, 7])
def test_an_exported_program_is_a_generator(exported, rows):
    path, network = exported
    G = open_generator(path)
    z = latents(rows, 4)
    assert (G.latent_dim, G.image_shape, G.name) == (4, (1, 8, 8), "net")
    assert torch.allclose(G(z), (network(z) + 1) / 2, atol=1e-6)
    assert torch.func.jvp(G, (z,), (torch.ones_like(z),))[1].abs().max() > 0


def test_a_torchscript_file_is_a_generator(scripted):
    path, network = scripted
    G = open_generator(path, latent_dim=4)
    z = latents(7, 4)
    assert torch.allclose(G(z), (network(z) + 1) / 2, atol=1e-6)
    assert torch.func.jvp(G, (z,), (torch.ones_like(z),))[1].abs().max() > 0
    with pytest.raises(DeclarationError, match="write `latent_dim=`"):
        open_generator(path)
    with pytest.raises(WrongShape, match="`latent_dim` is 3") as refused:
        open_generator(path, latent_dim=3)
    assert "Traceback" not in str(refused.value)  # TorchScript's own


def test_a_file_is_known_by_its_bytes_not_by_its_name(exported, scripted, tmp_path):
    misnamed = tmp_path / "misnamed.h5"
    misnamed.write_bytes(exported[0].read_bytes())
    assert open_generator(misnamed).latent_dim == 4
    with pytest.raises(UnknownFormat, match="no exported program"):
        exported_generator(scripted[0])
    with pytest.raises(UnknownFormat, match="no TorchScript"):
        torchscript_generator(exported[0], 4)


def test_a_program_for_one_size_of_batch_is_refused(tmp_path):
    torch.export.save(torch.export.export(small_network().eval(), (torch.zeros(2, 4),)), tmp_path / "fixed.pt2")
    with pytest.raises(WrongShape, match=r"batches of 2 only.*dynamic_shapes"):
        open_generator(tmp_path / "fixed.pt2")


@pytest.mark.parametrize("rows", [1, 3, 20])
def test_a_program_for_batches_within_bounds_takes_any_number_of_rows(tmp_path, rows):
    network = small_network().eval()
    bounded = torch.export.Dim("n", min=4, max=8)
    program = torch.export.export(network, (torch.zeros(5, 4),), dynamic_shapes=({0: bounded},))
    torch.export.save(program, tmp_path / "bounded.pt2")
    z = latents(rows, 4)
    assert torch.allclose(open_generator(tmp_path / "bounded.pt2")(z), (network(z) + 1) / 2, atol=1e-6)


def test_a_program_says_its_precision_and_takes_latents_of_any_form(tmp_path):
    """DCGAN takes latents `[n, d, 1, 1]`; a program without weights computes in what it was exported with."""

    class Transposed(nn.Module):
        def forward(self, z):
            return torch.sigmoid(z.sum(1, keepdim=True) * torch.ones(8, 8, dtype=torch.float64))

    z = latents(3, 4, dtype=torch.float64)
    program = torch.export.export(
        Transposed(), (z[:, :, None, None],), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, tmp_path / "dcgan.pt2")
    G = open_generator(tmp_path / "dcgan.pt2")
    assert (G.latent_dim, G.dtype) == (4, torch.float64)
    assert torch.allclose(G(z)[:, 0, 0, 0], torch.sigmoid(z.sum(1)), rtol=1e-12)


@pytest.mark.parametrize("kind", ["exported", "scripted"])
def test_an_altered_byte_of_an_archive_is_found(kind, request):
    """torch reads such a file without a word."""
    path, network = request.getfixturevalue(kind)
    content, weight = path.read_bytes(), network[0].weight.detach().numpy().tobytes()[:32]
    at = content.index(weight)
    path.write_bytes(content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :])
    with pytest.raises(DamagedFile, match="another checksum"):
        open_generator(path, latent_dim=4)


class Trap:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a file was run')",))


def test_pickled_code_is_never_run(exported, tmp_path):
    """A whole module, a bare pickle, weights without a network, and an archive with a pickle slipped in."""
    import zipfile

    torch.save({"x": Trap()}, tmp_path / "module.pt")
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(Trap()))
    torch.save(small_network().state_dict(), tmp_path / "weights.pt")
    for name, words in (
        ("module.pt", "whose code is not run"),
        ("weights.pt", "Load the weights into your network"),
        ("bare.pkl", "a pickle; opening one runs the code"),
    ):
        with pytest.raises(UnknownFormat, match=words):
            open_generator(tmp_path / name)
    poisoned = tmp_path / "poisoned.pt2"
    torch.save({"x": Trap()}, tmp_path / "inner.pt")
    with zipfile.ZipFile(exported[0]) as source, zipfile.ZipFile(poisoned, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, (tmp_path / "inner.pt").read_bytes() if name.endswith("model.pt") else content)
    with pytest.raises(UnknownFormat, match="pickle of more than tensors"):
        open_generator(poisoned)


def test_broken_and_foreign_files_are_refused(exported, tmp_path):
    cut = tmp_path / "cut.pt2"
    cut.write_bytes(exported[0].read_bytes()[:500])
    with pytest.raises(DamagedFile, match=r"cut\.pt2"):
        open_generator(cut)
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(UnknownFormat, match="no generator; expected"):
        open_generator(tmp_path / "text.pt")
    with pytest.raises(FileNotFoundError):
        open_generator(tmp_path / "none.pt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnknownFormat, match=r"without `config\.json`"):
        open_generator(tmp_path / "folder")
    (tmp_path / "folder" / "config.json").write_text("[1]")
    with pytest.raises(UnknownFormat, match="holds a list"):
        open_generator(tmp_path / "folder")
    (tmp_path / "folder" / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(UnknownFormat, match="describes UNet2DModel"):
        open_generator(tmp_path / "folder")


# Published networks, small ones of the same classes


@pytest.fixture
def small_biggan(tmp_path):
    library = pytest.importorskip("pytorch_pretrained_biggan")
    config = library.BigGANConfig.from_dict(
        {
            "output_dim": 16,
            "z_dim": 6,
            "class_embed_dim": 6,
            "channel_width": 8,
            "num_classes": 5,
            "layers": [(True, 16, 8), (True, 8, 4), (False, 4, 2), (False, 2, 1)],
            "attention_layer_position": 1,
        }
    )
    torch.manual_seed(0)
    network = library.BigGAN(config)
    # Calls in training mode find the spectral norms; the last batch norm has uninitialised weights.
    nn.init.ones_(network.generator.bn.weight)
    nn.init.zeros_(network.generator.bn.bias)
    with torch.no_grad():
        for _ in range(20):
            images = network(latents(8, 6), torch.eye(5)[[0] * 8], 1.0)
    network.eval()
    assert images.abs().mean() < 0.9
    (tmp_path / "config.json").write_text(config.to_json_string())
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    return tmp_path, network


def test_biggan_gives_the_images_of_its_class(small_biggan):
    path, network = small_biggan
    G = open_generator(path, class_index=3, truncation=0.5)
    z = latents(4, 6)
    assert (G.latent_dim, G.image_shape) == (6, (3, 16, 16))
    label = torch.eye(5)[[3]].expand(4, -1)
    expected = (network(0.5 * truncated_normal(z, 2.0), label, 0.5) + 1) / 2
    assert torch.allclose(G(z), expected, atol=1e-6)
    assert 0.005 < G(z).std(0).mean() < 0.49
    assert not torch.allclose(G(z), open_generator(path, class_index=1, truncation=0.5)(z), atol=1e-4)
    mixed = biggan(path, class_index=[0, 0, 0, 1, 0], truncation=0.5)
    assert torch.allclose(mixed(z), G(z), atol=1e-6)
    assert torch.func.jvp(G, (z,), (torch.ones_like(z),))[1].abs().max() > 0


def test_biggan_refuses_what_does_not_belong_to_it(small_biggan):
    path, network = small_biggan
    with pytest.raises(WrongShape, match="expected 0 to 4"):
        biggan(path, class_index=5)
    with pytest.raises(WrongShape, match="each of the 5 classes"):
        biggan(path, class_index=torch.ones(4))
    for truncation in (2.0, "0.4"):
        with pytest.raises(DeclarationError, match="`truncation` is"):
            biggan(path, truncation=truncation)
    for class_index in ("cat", 1.5, True):
        with pytest.raises(DeclarationError, match="`class_index` is"):
            biggan(path, class_index=class_index)
    weights = network.state_dict()
    torch.save({name: value for name, value in weights.items() if "embeddings" not in name}, path / "pytorch_model.bin")
    with pytest.raises(DamagedFile, match=r"1 weights are missing, e\.g\. `embeddings\.weight`"):
        biggan(path)
    torch.save({"x": Trap()}, path / "pytorch_model.bin")
    with pytest.raises(DamagedFile, match="no file of weights"):
        biggan(path)
    torch.save(weights, path / "pytorch_model.bin")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"layers": [*config["layers"][:-1], (False, 2, 2)]}))
    with pytest.raises(DamagedFile, match=r"not the weights of this configuration|cannot be run"):
        biggan(path)
    (path / "pytorch_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"pytorch_model\.bin: missing"):
        biggan(path)


@pytest.fixture
def small_kl(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    network = diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=2,
        norm_num_groups=4,
        sample_size=16,
        scaling_factor=0.5,
    )
    network.save_pretrained(tmp_path)
    return tmp_path, network.eval()


def test_an_autoencoder_kl_decodes_flattened_latents(small_kl):
    path, network = small_kl
    G = open_generator(path)
    assert (G.latent_dim, G.image_shape) == (2 * 8 * 8, (3, 16, 16))
    z = latents(2, 128)
    expected = ((network.decode(z.reshape(2, 2, 8, 8) / 0.5).sample + 1) / 2).clamp(0, 1)
    assert torch.allclose(G(z), expected, atol=1e-5)
    assert torch.func.jvp(G, (z,), (torch.ones_like(z),))[1].abs().max() > 0
    images = torch.rand(2, 3, 16, 16)
    found = network.encode(2 * images - 1).latent_dist
    mean, log_variance = G.encode(images)
    assert torch.allclose(mean, 0.5 * found.mean.flatten(1), atol=1e-5)
    assert torch.allclose(log_variance, (0.25 * found.var).log().flatten(1), atol=1e-5)
    assert torch.equal(G.code_of(images), mean)


def test_an_autoencoder_kl_takes_another_size_and_refuses_an_odd_one(small_kl):
    path, _ = small_kl
    assert autoencoder_kl(path, size=32).image_shape == (3, 32, 32)
    assert autoencoder_kl(path, size=(16, 24)).image_shape == (3, 16, 24)
    for size in (15, 1.5, "16", (16, 24, 8)):
        with pytest.raises(DeclarationError, match="a multiple of 2"):
            autoencoder_kl(path, size=size)
    (path / "diffusion_pytorch_model.safetensors").write_bytes(b"none")
    with pytest.raises(DamagedFile, match="no file of weights"):
        autoencoder_kl(path)
    (path / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="safetensors or"):
        autoencoder_kl(path)


@pytest.mark.parametrize(("library", "read"), [("pytorch_pretrained_biggan", biggan), ("diffusers", autoencoder_kl)])
def test_a_missing_library_is_named(library, read, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=library):
        read(tmp_path)


# Names


def test_generators_are_made_by_name():
    assert {"warped", "conv", "digits-vae", "digits-gan", "mnist-vae", "sprites-vae", "biggan"} <= set(
        generator_names()
    )
    G = generator("warped", latent_dim=6, factors=3, renderer="bars")
    assert (G.latent_dim, G.renderer) == (6, "bars")
    vae = generator("sprites-vae", count=64, size=8, iterations=3, width=8, progress=False)
    assert (vae.image_shape, vae.name) == ((1, 8, 8), "sprites-vae")


def test_files_are_generators_by_their_path(tmp_path):
    G = ConvGenerator(4, 8, width=2)
    from pinnflow.latent.generators import save_generator

    save_generator(G, tmp_path / "conv.h5")
    z = latents(2, 4)
    assert torch.equal(generator(str(tmp_path / "conv.h5"))(z), G(z))
    assert torch.equal(generator(tmp_path / "conv.h5")(z), G(z))


def test_unknown_names_are_refused_with_the_choices():
    with pytest.raises(UnknownName, match=r"no generator `stylegan`.*autoencoder-kl, biggan, conv.*warped"):
        generator("stylegan")
    with pytest.raises(TypeError, match="entanglement"):
        generator("warped", entanglement=1)


def test_a_generator_of_ones_own_is_one_function():
    @register_generator("flat")
    def flat(latent_dim=2):
        return Adapted(lambda z: torch.sigmoid(z[:, :1, None, None]).expand(-1, 1, 8, 8), latent_dim)

    try:
        assert generator("flat", latent_dim=3).latent_dim == 3
    finally:
        del GENERATORS["flat"]


def test_importing_generators_loads_no_plot_and_no_optional_library():
    program = (
        "import sys; from pinnflow.latent.generators import generator, generator_names; generator_names();"
        "print(sorted({'matplotlib', 'h5py', 'sklearn', 'diffusers', 'safetensors'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout.replace("'", '"')) == []
