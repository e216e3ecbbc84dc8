"""A sample of blocks has the wanted size, is spread over the store, and follows from its seed."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvit_kd.analysis.records.block_sample import VIEWS_TOGETHER, choose_blocks, parse_sample, tasks_of
from tinyvit_kd.errors import ConfigError

stores = st.lists(st.integers(0, 20), min_size=1, max_size=12).map(
    lambda views: [(shard, view) for shard, count in enumerate(views) for view in range(count)]
)
Blocks = list[tuple[int, int]]


@given(stores, st.integers(1, 200), st.integers(0, 5))
def test_a_sample_holds_so_many_different_blocks_in_the_stores_order(blocks: Blocks, wanted: int, seed: int) -> None:
    chosen = list(choose_blocks(blocks, wanted, seed))
    assert set(chosen) <= set(blocks)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(wanted, len(blocks))
    assert chosen == list(choose_blocks(blocks, wanted, seed))


def test_a_sample_takes_its_pairs_from_shards_at_equal_distances() -> None:
    blocks = [(shard, view) for shard in range(100) for view in range(4)]
    per_shard = Counter(shard for shard, _ in choose_blocks(blocks, 40, seed=1))
    assert set(per_shard.values()) == {2}
    shards = sorted(per_shard)
    assert {b - a for a, b in pairwise(shards)} == {5}


def test_all_views_are_drawn_from() -> None:
    blocks = [(shard, view) for shard in range(200) for view in range(4)]
    per_view = Counter(view for _, view in choose_blocks(blocks, 200, seed=1))
    assert all(30 < per_view[view] < 70 for view in range(4))


def test_another_seed_gives_another_sample() -> None:
    blocks = [(shard, view) for shard in range(50) for view in range(8)]
    assert choose_blocks(blocks, 20, seed=1) != choose_blocks(blocks, 20, seed=2)


def test_a_fraction_is_of_the_blocks_that_are_there() -> None:
    blocks = [(shard, view) for shard in range(50) for view in range(8)]
    assert len(choose_blocks(blocks, 0.1, seed=0)) == 40
    assert list(choose_blocks(blocks, 1.0, seed=0)) == blocks
    assert list(choose_blocks(blocks, None, seed=0)) == blocks


@given(stores)
def test_tasks_hold_each_block_once_and_say_which_is_the_first_of_its_shard(blocks: Blocks) -> None:
    tasks = tasks_of(blocks)
    assert [(task.shard, view) for task in tasks for view in task.views] == blocks
    assert [task.shard for task in tasks if task.first] == sorted({shard for shard, _ in blocks})
    assert all(len(task.views) <= VIEWS_TOGETHER + 1 for task in tasks)
    several = Counter(shard for shard, _ in blocks)
    assert all(len(task.views) > 1 for task in tasks if several[task.shard] > 1)


@pytest.mark.parametrize(("text", "asked"), [("64", 64), ("0.05", 0.05), ("5%", 0.05), ("100%", 1.0), ("1", 1)])
def test_a_sample_is_a_number_or_a_fraction(text: str, asked: float) -> None:
    assert parse_sample(text) == pytest.approx(asked)
    assert type(parse_sample(text)) is type(asked)


@pytest.mark.parametrize("text", ["", "0", "-3", "some", "0%", "101%", "1.5", "nan%", "1e3", "%"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no such sample"):
        parse_sample(text)
