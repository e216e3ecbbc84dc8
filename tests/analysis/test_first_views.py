"""Which samples an audition takes."""

from __future__ import annotations

import numpy as np
import pytest

from tinyvit_kd.analysis.auditions.first_views import ChosenSamples, choose_samples
from tinyvit_kd.views.mixing import partners


def places(chosen: ChosenSamples) -> list[tuple[int, int]]:
    return [(shard, index) for shard, indexes in chosen.shards.items() for index in indexes.tolist()]


def test_samples_are_spread_over_shards_and_follow_from_the_seed() -> None:
    lengths = [50] * 100
    chosen = choose_samples(lengths, 400, None, seed=3)
    assert chosen.rows == len(set(places(chosen))) == 400
    assert 20 < len(chosen.shards) <= 32
    assert {shard // 25 for shard in chosen.shards} == {0, 1, 2, 3}
    assert places(chosen) == places(choose_samples(lengths, 400, None, seed=3))
    assert places(chosen) != places(choose_samples(lengths, 400, None, seed=4))
    assert all(0 <= index < 50 for _, index in places(chosen))


def test_a_fifth_is_held_out_at_random() -> None:
    chosen = choose_samples([1000], 500, None, seed=0)
    assert chosen.held_out.sum() == 100
    held_out = np.flatnonzero(chosen.held_out_rows)
    assert 180 < held_out.mean() < 320  # not the last ones


def test_of_few_samples_all_are_taken_and_empty_shards_are_passed_over() -> None:
    chosen = choose_samples([0, 3, 0, 2], 1000, None, seed=0)
    assert places(chosen) == [(1, 0), (1, 1), (1, 2), (3, 0), (3, 1)]


@pytest.mark.parametrize("lengths", [[10, 20], [7, 9]])
def test_of_mixed_views_both_of_a_pair_are_taken(lengths: list[int]) -> None:
    chosen = choose_samples(lengths, 8, pairs_seed=5, seed=1)
    taken = set(places(chosen))
    assert 7 <= len(taken) <= 8
    for shard, index in taken:
        partner = int(partners(5, shard, 0, lengths[shard])[index])
        assert partner < 0 or (shard, partner) in taken
    assert all(len({len(span.indexes) for span in task}) <= 2 for task in chosen.tasks(2))


def test_batches_hold_all_samples_in_their_order() -> None:
    chosen = choose_samples([30, 30], 25, None, seed=0)
    tasks = chosen.tasks(8)
    assert [sum(span.rows for span in task) for task in tasks] == [8, 8, 8, 1]
    assert [span for task in tasks for span in task] == list(chosen.spans)
