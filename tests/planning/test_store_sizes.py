"""The size of a store follows from its encoding: TinyViT's published number and ours, and what was measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvit_kd.config.data import Encoding
from tinyvit_kd.planning.store_sizes import dense_record_bytes, raw_record_bytes, record_bytes, store_size
from tinyvit_kd.store.codec import row_bytes

GIB = 2**30
SAMPLES, VIEWS = 14_200_000, 90


def test_raw_records_of_the_paper_take_the_published_481_gib() -> None:
    assert raw_record_bytes(100) == 404
    assert round(SAMPLES * VIEWS * raw_record_bytes(100) / GIB) == 481


def test_ours_take_196_gib_at_164_and_a_half_bytes() -> None:
    size = store_size([5000] * (SAMPLES // 5000), VIEWS, "compact", 100, 21_841)
    assert size.record_bytes == pytest.approx(164.5)
    assert round(size.bytes / GIB) == 196
    assert round(size.raw_bytes / GIB) == 481
    assert not size.measured


@pytest.mark.parametrize(
    ("encoding", "topk", "classes", "measured"),
    [
        ("compact", 100, 21_841, 164.5),
        ("compact", 10, 1000, 26.8),
        ("compact", 10, 24, 23.6),
        ("exact", 100, 21_841, 509),
    ],
)
def test_the_estimate_is_within_a_tenth_of_what_was_measured(
    encoding: Encoding, topk: int, classes: int, measured: float
) -> None:
    assert record_bytes(encoding, topk, classes) == pytest.approx(measured, rel=0.1)


@given(st.sampled_from(["compact", "exact"]), st.integers(1, 500), st.integers(2, 100_000))
def test_an_estimate_is_never_more_than_the_record_before_compression(
    encoding: Encoding, topk: int, classes: int
) -> None:
    topk = min(topk, classes)
    assert 8 < record_bytes(encoding, topk, classes) <= row_bytes(encoding, topk, classes)


def test_blocks_that_are_there_say_more_than_an_estimate() -> None:
    size = store_size([10, 10], 2, "compact", 5, 12, measured=20.0)
    assert (size.measured, size.bytes) == (True, 800)


def test_a_store_has_a_file_per_block_and_one_per_shard() -> None:
    size = store_size([10, 0, 5], 4, "compact", 5, 12)
    assert (size.blocks, size.files) == (8, 8 + 3 + 4)


def test_dense_probabilities_would_be_float32_of_every_class() -> None:
    assert dense_record_bytes(23) == 96
