"""The bounds hold for every teacher that is what it says it is, and are exceeded by what is not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tinyvit_kd.analysis.verifying.agreement import Agreement, agreement, ranges_of
from tinyvit_kd.analysis.verifying.rounding import ROUNDOFF, Rounding, odds_range, other_precision, rounding
from tinyvit_kd.config.data import Encoding
from tinyvit_kd.models.teacher import topk_probs
from tinyvit_kd.store.codec import decode, encode, split_planes
from tinyvit_kd.store.encodings import ENCODINGS
from tinyvit_kd.store.records import Block, BlockHeader

Float64 = npt.NDArray[np.float64]
ENCODING = st.sampled_from(list(ENCODINGS))


def logits_of(seed: int, rows: int = 6, classes: int = 30, sharpness: float = 3.0) -> Float64:
    """Random logits, as networks give them in float32: [rows, classes]."""
    drawn = np.random.default_rng(seed).normal(0, sharpness, (rows, classes))
    return drawn.astype(np.float32).astype(np.float64)


def stored(logits: Float64, k: int, encoding: Encoding) -> tuple[Block, Block, BlockHeader, npt.NDArray[np.uint8]]:
    """A block as a dump writes it: before encoding, decoded, its header, and its bytes."""
    indices, probs, residual = (each.numpy() for each in topk_probs(torch.from_numpy(logits).float(), k))
    zeros = np.zeros(len(logits), np.uint32)
    block = Block(indices.astype(np.int32), probs, residual, zeros, zeros, zeros.astype(np.uint8))
    header = BlockHeader(encoding, 0, 0, len(logits), k, logits.shape[1], 0, 0)
    planes = encode(block, header)
    return block, decode(planes, header), header, planes


def compared(
    logits: Float64, here: Float64, k: int, encoding: Encoding, eta: float = 4e-6, divergence: float = 0.0
) -> Agreement:
    """The agreement of a store that was dumped with some logits with those of here."""
    _, block, header, planes = stored(logits, k, encoding)
    ranges = ranges_of(split_planes(planes, header), encoding)
    rows = np.ones(len(logits))
    return agreement(block, ranges, here, Rounding(eta * rows, divergence * rows))


@given(st.integers(0, 2**32), st.integers(1, 30), ENCODING, st.floats(0.1, 12))
def test_what_a_teacher_said_is_within_the_ranges_of_its_record(
    seed: int, k: int, encoding: Encoding, sharpness: float
) -> None:
    block, _, header, planes = stored(logits_of(seed, sharpness=sharpness), k, encoding)
    ranges = ranges_of(split_planes(planes, header), encoding)
    assert (ranges.low <= block.probs).all()
    assert (block.probs <= ranges.high).all()
    assert (ranges.low_rest <= block.residual).all()
    assert (block.residual <= ranges.high_rest).all()


@given(st.integers(0, 2**32), st.integers(1, 30), ENCODING, st.floats(0.1, 12))
def test_the_same_answer_is_within_all_bounds(seed: int, k: int, encoding: Encoding, sharpness: float) -> None:
    logits = logits_of(seed, rows=40, sharpness=sharpness)
    found = compared(logits, logits, k, encoding)
    assert found.same_best.all()
    assert not found.wrong.any()
    assert found.divergence.mean() <= found.divergence_bound


@given(st.integers(0, 2**32), st.integers(1, 30), ENCODING, st.floats(1e-6, 2))
def test_whatever_rounding_of_that_size_does_is_within_the_bounds(
    seed: int, k: int, encoding: Encoding, eta: float
) -> None:
    logits = logits_of(seed)
    noise = np.random.default_rng(seed + 1).uniform(-eta, eta, logits.shape)
    assert not compared(logits, logits + noise, k, encoding, eta).wrong.any()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_class_that_is_twice_as_probable_is_found(encoding: Encoding) -> None:
    logits = logits_of(3)
    changed = logits.copy()
    changed[2, logits[2].argsort()[-2]] += np.log(2)
    found = compared(logits, changed, 10, encoding)
    assert np.flatnonzero(found.wrong).tolist() == [2]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_another_best_class_is_found_unless_rounding_can_have_swapped_both(encoding: Encoding) -> None:
    logits = logits_of(4)
    rows = np.arange(len(logits))
    first, second = logits.argsort(axis=1)[:, -1], logits.argsort(axis=1)[:, -2]
    logits[rows, second] = logits[rows, first] - 1e-3
    swapped = logits.copy()
    swapped[rows, first], swapped[rows, second] = logits[rows, second], logits[rows, first]
    near, far = compared(logits, swapped, 10, encoding, eta=1e-2), compared(logits, swapped, 10, encoding, eta=1e-6)
    assert near.near_tie.all()
    assert not near.wrong.any()
    assert not far.near_tie.any()
    assert far.wrong.all()


def test_a_class_that_should_have_been_kept_is_found() -> None:
    logits = logits_of(5)
    changed = logits.copy()
    left_out = logits.argsort(axis=1)[:, 3]
    rows = np.arange(len(logits))
    changed[rows, left_out] = np.sort(logits, axis=1)[:, -2]
    assert compared(logits, changed, 5, "exact").missing.all()
    assert not compared(logits, logits, 5, "exact").missing.any()


def test_a_temperature_that_each_bound_lets_through_shows_in_the_mean_divergence() -> None:
    logits = logits_of(6, rows=400, classes=200, sharpness=2)
    found = compared(logits, logits / 1.15, 50, "compact", eta=0.5)
    assert not found.wrong.any()
    assert found.divergence.mean() > found.divergence_bound


def test_the_mean_divergence_of_the_encoding_alone_is_what_is_expected_of_it() -> None:
    logits = logits_of(7, rows=400, classes=200, sharpness=2)
    found = compared(logits, logits, 50, "compact")
    assert found.divergence.mean() == pytest.approx(found.by_encoding.mean(), rel=0.1)


@given(st.floats(0, 1), st.floats(0, 3))
def test_widened_odds_contain_the_range_and_stay_probabilities(p: float, eta: float) -> None:
    low, high = odds_range(np.array([p]), np.array([p]), np.array([eta]))
    assert 0 <= low[0] <= p * (1 + 1e-12)
    assert p * (1 - 1e-12) <= high[0] <= 1


def test_rounding_is_measured_from_the_difference_of_two_precisions() -> None:
    logits = logits_of(8, rows=5, classes=1000)
    noise = np.random.default_rng(9).normal(0, 0.01, logits.shape)
    pair = ("float32", "bfloat16")
    same = rounding(logits, logits + noise, pair, "bfloat16", tf32=False)
    assert same.logits == pytest.approx(0.08 * np.ones(5), rel=0.1)
    shifted = rounding(logits, logits + noise + 7, pair, "bfloat16", tf32=False)
    assert shifted.logits == pytest.approx(same.logits), "a shift of all logits changes no answer"
    finer = rounding(logits, logits + noise, pair, "float16", tf32=False)
    assert finer.logits == pytest.approx(same.logits / 8, rel=0.1)
    exact = rounding(logits, logits + noise, pair, "float32", tf32=False)
    assert (exact.logits < same.logits / 1000).all()
    assert (rounding(logits, logits + noise, pair, "float32", tf32=True).logits > 100 * exact.logits).all()


@pytest.mark.parametrize("stored", ROUNDOFF)
@pytest.mark.parametrize("here", ROUNDOFF)
def test_what_rounding_does_is_measured_between_two_precisions_of_which_one_is_the_store_s(
    here: str, stored: str
) -> None:
    other = other_precision(here, stored)
    assert other != here
    assert stored in (here, other)
