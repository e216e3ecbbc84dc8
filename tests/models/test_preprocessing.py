"""From uint8 views to a network's input, against the textbook and against Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tests.models.networks import MEAN, STD, views
from tinyvit_kd.models.normalizer import Normalizer

CPU = torch.device("cpu")


def test_every_value_of_a_pixel_is_normalised_by_mean_and_std() -> None:
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))
    expected = (ramp.double() / 255 - mean) / std
    torch.testing.assert_close(Normalizer(MEAN, STD, CPU)(ramp).double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [20, 32, 50])
def test_views_of_another_size_are_resized_as_pillow_does(size: int) -> None:
    view = 96 + views(count=1, size=32) // 4  # far from 0 and 255, at which Pillow also clips between rows and columns
    found = Normalizer((0, 0, 0), (1, 1, 1), CPU, image_size=size)(view)[0] * 255
    image = Image.fromarray(view[0].permute(1, 2, 0).numpy())
    expected = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
    # Pillow rounds to whole values, after the rows and again after the columns.
    assert np.abs(found.permute(1, 2, 0).numpy() - expected).max() < 1.5


def test_resizing_does_not_overshoot() -> None:
    steps = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    steps[..., 16:] = 255
    found = Normalizer((0, 0, 0), (1, 1, 1), CPU, image_size=50)(steps)
    assert found.min().item() == 0
    assert found.max().item() == pytest.approx(1)


def test_a_view_of_the_right_size_is_not_touched_by_resizing() -> None:
    view = views(count=2, size=32)
    assert torch.equal(Normalizer(MEAN, STD, CPU, image_size=32)(view), Normalizer(MEAN, STD, CPU)(view))


def test_channels_last_is_for_cuda_alone() -> None:
    view = views(count=2, size=32)
    asked = Normalizer(MEAN, STD, CPU, channels_last=True, image_size=20)(view)
    assert asked.is_contiguous()
    assert torch.equal(asked, Normalizer(MEAN, STD, CPU, image_size=20)(view))
