"""The missing blocks of a store are divided into groups, which are made one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinyvit_kd.batches.dump_tasks import Groups

tables = st.tuples(st.integers(1, 6), st.integers(1, 9)).flatmap(lambda shape: arrays(np.bool_, shape))


@pytest.mark.parametrize("order", ["shards", "views"])
@given(missing=tables, size=st.integers(1, 4), mixed=st.booleans())
def test_every_missing_block_is_in_one_group_and_no_other_block_is(
    order: str, missing: np.ndarray, size: int, mixed: bool
) -> None:
    lengths = list(range(3, 3 + len(missing)))
    groups = Groups(missing, lengths, size, 0 if mixed else None, "views" if order == "views" else "shards")
    found = [(group.shard, view) for group in groups for view in group.views]
    assert sorted(found) == [tuple(each) for each in np.argwhere(missing).tolist()]
    assert all(len(group.views) <= (1 if mixed else size) for group in groups)
    assert all(group.samples == lengths[group.shard] for group in groups)
    assert groups.views == sum(len(group.views) * group.samples for group in groups)
    by = [(group.views[0], group.shard) if order == "views" else (group.shard, group.views) for group in groups]
    assert by == sorted(by)
