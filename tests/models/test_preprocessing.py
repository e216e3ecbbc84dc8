"""From uint8 views to a network's input, compared with the definition and with Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from tests.models.networks import MEAN, STD, views
from tinyvit_kd.models.input_size import resize_views
from tinyvit_kd.models.normalizer import Normalizer

CPU = torch.device("cpu")
FORMAT = torch.contiguous_format


def test_every_value_of_a_pixel_is_normalised_by_mean_and_std() -> None:
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (MEAN, STD))
    expected = (ramp.double() / 255 - mean) / std
    torch.testing.assert_close(Normalizer(MEAN, STD, CPU)(ramp).double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [20, 32, 50])
def test_views_of_another_size_are_resized_as_pillow_does(size: int) -> None:
    view = 96 + views(count=1, size=32) // 4  # far from 0 and 255, at which Pillow also clips between rows and columns
    found = resize_views(view, size, FORMAT)[0]
    image = Image.fromarray(view[0].permute(1, 2, 0).numpy())
    expected = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
    # Pillow rounds to whole values, after the rows and again after the columns.
    assert np.abs(found.permute(1, 2, 0).numpy() - expected).max() < 1.5


def test_resizing_does_not_overshoot() -> None:
    steps = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    steps[..., 16:] = 255
    found = resize_views(steps, 50, FORMAT)
    assert found.min().item() == 0
    assert found.max().item() == 255


def test_a_view_of_the_right_size_is_not_changed_by_resizing() -> None:
    view = views(count=2, size=32)
    assert torch.equal(resize_views(view, 32, FORMAT), view.float())
    assert torch.equal(Normalizer(MEAN, STD, CPU)(resize_views(view, 32, FORMAT)), Normalizer(MEAN, STD, CPU)(view))


@pytest.mark.parametrize("size", [20, 32])
def test_a_resized_view_has_the_memory_format_that_was_asked_for(size: int) -> None:
    view = views(count=2, size=32)
    resized = resize_views(view, size, torch.channels_last)
    assert resized.is_contiguous(memory_format=torch.channels_last)
    assert resize_views(view, size, FORMAT).is_contiguous()


def test_normalising_uses_channels_last_on_cuda_only() -> None:
    view = views(count=2, size=32)
    on_cpu = Normalizer(MEAN, STD, CPU, channels_last=True)(view)
    assert on_cpu.is_contiguous()
    assert torch.equal(on_cpu, Normalizer(MEAN, STD, CPU)(view))
