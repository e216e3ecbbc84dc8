"""Samples are named by place or key, or drawn; the same seed draws the same ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvit_kd.analysis.samples.sample_choice import named_places, random_places
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError


@pytest.fixture(scope="module")
def shards(dumped: Path) -> ShardSet:
    return ShardSet.load(dumped / "shards", "train")


def test_a_sample_is_named_by_its_shard_s_number_by_its_tar_or_by_its_key(shards: ShardSet) -> None:
    key = shards.index(2).key(7)
    assert named_places(shards, ["2:7", "train-000002.tar:7", "train-000002:7", key]) == [(2, 7)] * 4


def test_every_key_leads_to_its_sample(shards: ShardSet) -> None:
    for shard in range(len(shards.names)):
        index = shards.index(shard)
        assert named_places(shards, [index.key(each) for each in range(0, len(index), 9)]) == [
            (shard, each) for each in range(0, len(index), 9)
        ]


@pytest.mark.parametrize("name", ["3:0", "0:40", "0:-1", "none", "", ":", "0:1:2", "²:1"])
def test_what_names_no_sample_is_refused(shards: ShardSet, name: str) -> None:
    with pytest.raises(ConfigError, match="no such sample"):
        named_places(shards, [name])


def test_part_of_a_key_is_no_key(shards: ShardSet) -> None:
    with pytest.raises(ConfigError, match="no such sample"):
        named_places(shards, [shards.index(0).key(3)[:-1]])


@given(st.lists(st.integers(0, 5), max_size=6), st.integers(0, 12), st.integers(0, 3))
def test_drawn_samples_exist_differ_and_follow_from_the_seed(lengths: list[int], count: int, seed: int) -> None:
    places = random_places(lengths, count, seed)
    assert len(set(places)) == len(places) == min(count, sum(lengths))
    assert all(0 <= index < lengths[shard] for shard, index in places)
    assert places == sorted(random_places(lengths, count, seed))


def test_another_seed_draws_others() -> None:
    assert random_places([1000], 5, 0) != random_places([1000], 5, 1)
