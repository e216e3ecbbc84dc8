"""A further teacher must have seen what the first one saw."""

from __future__ import annotations

import pytest

from benchmarks.tiny_world import World
from tests.runs.holes import rewrite, with_hole
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ReplayError
from tinyvit_kd.runs.second_teacher import FirstTeacher, other_classes
from tinyvit_kd.store.store import LogitStore


def test_classes_that_are_not_the_first_teachers_are_told_of(world: World) -> None:
    names = tuple(f"class {number}" for number in range(LogitStore.open(world.store).manifest.num_classes))
    own = ClassList("own", names)
    manifest = LogitStore.open(world.store).manifest
    same = manifest.model_copy(update={"class_list": own.name, "class_list_hash": own.hash})
    first = LogitStore.create(world.folder / "named", same)
    said = {
        "same": other_classes(first, len(names), ClassList("theirs", names)),
        "order": other_classes(first, len(names), ClassList("theirs", names[::-1])),
        "number": other_classes(first, len(names) - 1, ClassList("theirs", names[1:])),
        "none": other_classes(first, len(names), None),
    }
    assert said.pop("same") is None
    assert all(told is not None and "pretrain does not take both stores" in told for told in said.values())
    assert "theirs, which differs from own, if only in its order" in str(said["order"])


@pytest.mark.parametrize("of_the_first", [True, False], ids=["of the first", "of the second"])
def test_a_hole_of_one_teacher_alone_is_found_by_name(world: World, of_the_first: bool) -> None:
    """Also where the view that the other teacher saw has digest 0, which is what a hole has."""
    store = LogitStore.open(world.store)
    reader = ShardSet.load(world.shards, "train").reader()
    first_teacher = FirstTeacher(store, reader)
    view, hole = store.read_block(1, 0), with_hole(store.read_block(1, 0), 7)
    view.digests[7] = 0
    stored, made = (hole, view) if of_the_first else (view, hole)
    rewrite(store, 1, 0, stored)
    first_teacher.require_same(1, 0, stored)
    with pytest.raises(ReplayError, match=f"sample {reader.key(1, 7)} of shard") as caught:
        first_teacher.require_same(1, 0, made)
    told = [caught.value.expected.partition(",")[0], caught.value.found]
    assert told == (["a hole", "digest 00000000"] if of_the_first else ["digest 00000000", "a hole"])
