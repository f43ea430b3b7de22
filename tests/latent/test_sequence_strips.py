"""Pictures of sequences: a row for every model, a column for every step, the trained length marked."""

import numpy as np
import pytest
import torch
from PIL import Image

from pinnflow.errors import WrongShape
from pinnflow.latent import plot_sequences


def frames(steps=4, c=1, size=8, value=0.5):
    return torch.full((steps + 1, c, size, size), value)


def test_rows_show_the_images_in_the_order_of_the_steps():
    rising = torch.stack([torch.full((3, 8, 8), t / 4) for t in range(5)])
    figure = plot_sequences(None, {"turn": {"target": rising, "flow": 1 - rising}}, trained=2)
    strips = [axes.images[0].get_array() for axes in figure.axes]
    assert [axes.lines[0].get_xdata()[0] for axes in figure.axes] == [3 * 9 - 0.5 - 0.5] * 2  # behind the third image
    centres = [4 + 9 * t for t in range(5)]
    np.testing.assert_allclose(strips[0][4, centres, 0], np.arange(5) / 4)
    np.testing.assert_allclose(strips[1][4, centres, 2], 1 - np.arange(5) / 4)
    told = [text.get_text() for text in figure.texts]
    assert {"turn", "target", "flow", "0", "4"} <= set(told)


def test_no_line_where_nothing_lies_beyond_and_files_are_written(tmp_path):
    figure = plot_sequences(tmp_path / "s.png", {"a": {"target": frames()}, "b": {"target": frames()}}, trained=4)
    assert not any(axes.lines for axes in figure.axes)
    assert Image.open(tmp_path / "s.png").size[0] > 300


def test_sequences_that_do_not_fit_together_are_refused():
    with pytest.raises(WrongShape, match="one shape"):
        plot_sequences(None, {"a": {"target": frames(), "flow": frames(steps=3)}})
    with pytest.raises(WrongShape, match="one shape"):
        plot_sequences(None, {})
    with pytest.raises(WrongShape, match="one shape"):
        plot_sequences(None, {"a": {"target": frames()[0]}})
