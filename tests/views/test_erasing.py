"""Erasing changes only its box, and fills it with the noise that timm's becomes when mapped back to levels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from tinyvit_kd.config.view_spec import IMAGENET_MEAN, IMAGENET_STD, ViewSpec
from tinyvit_kd.views.erasing import erase, noise_table
from tinyvit_kd.views.params import NOISE_LENGTH, EraseBox

SIZE = 24
TABLE = noise_table(IMAGENET_MEAN, IMAGENET_STD)


def expected_fill(box: EraseBox, spec: ViewSpec, channel: int, row: int, column: int) -> int:
    """The definition, for one pixel."""
    if spec.erase_mode == "const":
        return round(spec.mean[channel] * 255)
    place = row * box.width + column if spec.erase_mode == "pixel" else 0
    return int(TABLE[channel, (box.noise_offset + place) % NOISE_LENGTH])


@st.composite
def boxes(draw: st.DrawFn) -> EraseBox:
    width, height = draw(st.integers(0, SIZE - 1)), draw(st.integers(0, SIZE - 1))
    left, top = draw(st.integers(0, SIZE - width)), draw(st.integers(0, SIZE - height))
    near_end = st.integers(NOISE_LENGTH - SIZE, NOISE_LENGTH - 1)
    return EraseBox(left, top, width, height, draw(st.integers(0, NOISE_LENGTH - 1) | near_end))


@given(boxes(), st.sampled_from(["pixel", "rand", "const"]))
def test_a_box_holds_its_noise_and_nothing_else_changes(box: EraseBox, mode: str) -> None:
    spec = ViewSpec.model_validate({"size": SIZE, "erase_mode": mode})
    view = np.full((3, SIZE, SIZE), 7, np.uint8)
    expected = view.copy()
    for channel, row, column in np.ndindex(3, box.height, box.width):
        expected[channel, box.top + row, box.left + column] = expected_fill(box, spec, channel, row, column)
    erase(view, box, spec)
    np.testing.assert_array_equal(view, expected)


def test_noise_wraps_around_for_a_box_larger_than_the_table() -> None:
    view = np.zeros((3, 600, 600), np.uint8)
    erase(view, EraseBox(0, 0, 599, 599, 5), ViewSpec(size=600))
    flat = view[:, :599, :599].reshape(3, -1)
    np.testing.assert_array_equal(flat[:, NOISE_LENGTH:], flat[:, : 599 * 599 - NOISE_LENGTH])


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_noise_is_normal_around_the_mean_and_clipped(channel: int) -> None:
    mean, std = IMAGENET_MEAN[channel] * 255, IMAGENET_STD[channel] * 255
    shares = np.bincount(TABLE[channel], minlength=256) / NOISE_LENGTH
    edges = np.concatenate([[-np.inf], np.arange(255) + 0.5, [np.inf]])
    expected = np.diff(norm.cdf(edges, mean, std))
    assert np.abs(shares - expected).max() < 5 * np.sqrt(expected.max() / NOISE_LENGTH)


def test_channels_are_independent() -> None:
    assert np.abs(np.corrcoef(TABLE) - np.eye(3)).max() < 0.01


def test_the_table_is_made_once_and_is_read_only() -> None:
    assert noise_table(IMAGENET_MEAN, IMAGENET_STD) is TABLE
    assert not TABLE.flags.writeable


def test_without_a_spread_noise_is_the_mean() -> None:
    assert np.unique(noise_table((0.5, 0.2, 1.0), (0.0, 0.0, 0.0))[1]).tolist() == [51]
