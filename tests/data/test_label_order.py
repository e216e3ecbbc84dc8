"""Labels that are sorted along the shards are told from labels in random order."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tinyvit_kd.data.labels.label_order import LabelOrder

RANDOM = np.random.default_rng(0)
EACH = np.repeat(np.arange(100), 50)  # 100 classes, 50 samples each


def order_of(*shards: np.ndarray) -> LabelOrder:
    total = LabelOrder()
    for labels in shards:
        total.add(LabelOrder.of(labels))
    return total


def test_shares_are_those_of_neighbours_and_of_random_pairs() -> None:
    shards = [RANDOM.integers(-1, 4, 40), RANDOM.integers(-1, 3, 30), np.empty(0, dtype=np.int64)]
    order = order_of(*shards)
    pairs = [pair for labels in shards for pair in pairwise(labels.tolist()) if min(pair) >= 0]
    assert order.share == pytest.approx(np.mean([first == second for first, second in pairs]))
    labels = [label for shard in shards for label in shard.tolist() if label >= 0]
    same = [labels[i] == labels[j] for i in range(len(labels)) for j in range(len(labels)) if i != j]
    assert order.share_in_random_order == pytest.approx(np.mean(same))


@pytest.mark.parametrize(
    ("shards", "is_sorted"),
    [
        ([EACH], True),
        (np.split(EACH, 10), True),
        (np.split(EACH, 100), True),
        ([RANDOM.permutation(part) for part in np.split(EACH, 20)], True),
        (np.split(np.repeat(RANDOM.permutation(np.repeat(np.arange(100), 10)), 5), 10), True),
        (np.split(RANDOM.permutation(EACH), 10), False),
        (np.split(np.tile(np.arange(100), 50), 10), False),
        ([RANDOM.permutation(np.repeat([0, 1], [4900, 100]))], False),
        ([np.zeros(1000, dtype=np.int64)], False),
        ([np.array([0, 0, 1, 1])], False),
        ([np.full(50, -1)], False),
        ([], False),
    ],
    ids=[
        *("one sorted shard", "sorted shards", "a class per shard", "five classes per shard, shuffled", "runs of five"),
        *("shuffled", "dealt out in turn", "a rare class", "one class", "too few to tell", "no labels", "no shards"),
    ],
)
def test_what_batches_would_suffer_from_is_sorted(shards: list[np.ndarray], is_sorted: bool) -> None:
    assert order_of(*shards).is_sorted == is_sorted


def test_chance_is_not_taken_for_order() -> None:
    small = [LabelOrder.of(RANDOM.integers(0, 2, 40)) for _ in range(2000)]
    assert not any(order.is_sorted for order in small)
