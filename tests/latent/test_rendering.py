"""What calling a generator says when it cannot be called, or cannot be learned from."""

import numpy as np
import pytest
import torch

from pinnflow.errors import NotApplicable, WrongShape
from pinnflow.latent import PotentialFlow, baseline
from pinnflow.latent.rendering import images, push_forward

A = torch.randn(4, 25, generator=torch.Generator().manual_seed(0))


def pixels(z):
    return torch.sigmoid(z @ A.to(z)).unflatten(1, (1, 5, 5))


def test_what_the_generator_raises_comes_with_what_it_was_called_with():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as raised:
        PotentialFlow(pixels, latent_dim=5)
    (note,) = raised.value.__notes__
    assert "codes [1, 5] of torch.float32: `latent_dim` is 5" in note
    assert "dtype=torch.float64" in note


@pytest.mark.parametrize(
    ("generator", "error", "message"),
    [
        ("warped", TypeError, r"a str is no generator.*`generator\('warped'\)`"),
        (lambda z: pixels(z)[:, 0], WrongShape, r"answered \(1, 5, 5\)"),
        (lambda z: np.zeros((len(z), 1, 5, 5)), WrongShape, "answered ndarray"),
        (lambda z: (255 * pixels(z)).byte(), TypeError, "divided by 255"),
    ],
)
def test_what_is_no_generator_of_images_is_refused(generator, error, message):
    with pytest.raises(error, match=message):
        PotentialFlow(generator, latent_dim=4)


def cut_off(z):
    return pixels(z.detach())


def test_a_generator_without_derivatives_is_refused_by_all_who_need_them():
    """A training would go on and leave the first weights; the Jacobian would be zero."""
    z = torch.zeros(3, 4, dtype=torch.float64)
    assert images(cut_off, z).shape == (3, 1, 5, 5)
    flow = PotentialFlow(cut_off, latent_dim=4, potentials=2)
    with pytest.raises(NotApplicable, match="do not depend on the codes"):
        flow.fit(iterations=2, batch=4)
    with pytest.raises(NotApplicable, match="do not depend on the codes"):
        push_forward(cut_off, z, torch.ones_like(z))
    with pytest.raises(NotApplicable, match="do not depend on the codes"):
        baseline("local-jacobian", cut_off, latent_dim=4, potentials=2).fit()
