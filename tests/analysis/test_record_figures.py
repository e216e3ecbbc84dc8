"""Figures of sparse records equal those of distributions over all classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.analysis import dense
from tests.store.blocks import random_block
from tinyvit_kd.analysis.records.record_figures import (
    Answers,
    divergence,
    entropy,
    kept_mass,
    label_probability,
    label_ranks,
)
from tinyvit_kd.store.records import Block

SIZES = st.tuples(st.integers(1, 12), st.integers(0, 20)).map(lambda each: (each[0], each[0] + each[1]))  # K, C
seeds = st.integers(0, 10_000)


def answers(block: Block) -> Answers:
    return Answers(block.indices, block.probs, block.residual)


def a_block(size: tuple[int, int], seed: int, length: int = 9) -> Block:
    return random_block(length, *size, seed=seed, holes=0)


@given(SIZES, seeds)
def test_entropy_is_that_of_the_distribution_that_a_student_learns(size: tuple[int, int], seed: int) -> None:
    block = a_block(size, seed)
    expected = dense.entropy(dense.dense(block, size[1]))
    assert entropy(block.probs, block.residual, size[1]) == pytest.approx(expected, abs=1e-6)


@given(SIZES, seeds, seeds, st.sampled_from([1, 9, 64, 65, 130]))
def test_divergence_is_that_of_the_whole_distributions(
    size: tuple[int, int], seed: int, other: int, length: int
) -> None:
    first, second = a_block(size, seed, length), a_block(size, other, length)
    expected = dense.divergence(dense.dense(first, size[1]), dense.dense(second, size[1]))
    assert divergence(answers(first), answers(second), size[1]) == pytest.approx(expected, abs=1e-6)


@given(SIZES, seeds)
def test_what_says_the_same_does_not_diverge(size: tuple[int, int], seed: int) -> None:
    block = a_block(size, seed)
    assert divergence(answers(block), answers(block), size[1]) == pytest.approx(np.zeros(len(block)), abs=1e-7)


def test_what_has_nothing_in_common_diverges_by_ln_2() -> None:
    one = Answers(*(np.array(each, kind) for each, kind in (([[0, 1]], "i4"), ([[0.5, 0.5]], "f4"), ([0], "f4"))))
    other = one._replace(indices=np.array([[2, 3]], np.int32))
    assert divergence(one, other, 4) == pytest.approx([np.log(2)])


@given(SIZES, seeds)
def test_the_kept_mass_of_k_is_that_of_the_k_largest(size: tuple[int, int], seed: int) -> None:
    block = a_block(size, seed)
    largest = np.sort(block.probs.astype(np.float64), axis=1)[:, ::-1]
    expected = [largest[:, :k].sum() for k in range(1, size[0] + 1)]
    assert kept_mass(block.probs) == pytest.approx(expected, rel=1e-6)


@given(SIZES, seeds, st.booleans())
def test_the_place_of_a_label_is_that_in_a_stable_order(size: tuple[int, int], seed: int, tied: bool) -> None:
    topk, classes = size
    block = a_block(size, seed)
    probs = np.round(block.probs, 1) if tied else block.probs
    labels = np.random.default_rng(seed).integers(-1, classes, len(block))
    order = np.argsort(-probs, axis=1, kind="stable")
    ranked = np.take_along_axis(block.indices, order, axis=1).tolist()
    expected = [row.index(label) if label in row else topk for row, label in zip(ranked, labels.tolist(), strict=True)]
    assert label_ranks(block.indices, probs, labels).tolist() == expected


@given(SIZES, seeds)
def test_the_probability_of_a_label_is_that_of_the_distribution_that_a_student_learns(
    size: tuple[int, int], seed: int
) -> None:
    block = a_block(size, seed)
    labels = np.random.default_rng(seed).integers(0, size[1], len(block))
    expected = dense.dense(block, size[1])[np.arange(len(block)), labels]
    found = label_probability(block.indices, block.probs, block.residual, labels, size[1])
    assert found == pytest.approx(expected, rel=1e-6)
