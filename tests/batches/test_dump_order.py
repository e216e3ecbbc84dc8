"""A dump may complete view after view: the same groups of blocks in another order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.fault_injection.compare import store_differences
from benchmarks.tiny_world import World
from tinyvit_kd.batches.dump_tasks import Groups
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits


@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 5))
def test_of_a_new_store_a_group_of_views_is_complete_before_the_next_begins(
    shards: int, views: int, together: int
) -> None:
    missing = np.ones((shards, views), bool)
    made = [group.views for group in Groups(missing, [3] * shards, together, order="views")]
    assert made == [
        tuple(range(first, min(first + together, views))) for first in range(0, views, together) for _ in range(shards)
    ]


def test_blocks_are_the_same_in_any_order(dumped: Path, tmp_path: Path) -> None:
    store = {"path": str(tmp_path / "store"), "topk": 5, "views": 2}
    dump_logits(World(dumped).dump(store=store, block_order="views", views_per_decode=1), solo_job())
    assert store_differences(tmp_path / "store", dumped / "store") == []
    for path in (tmp_path / "store").rglob("c.*"):
        assert path.read_bytes() == (dumped / "store" / path.relative_to(tmp_path / "store")).read_bytes()
