"""Suspects are those whose label most views contradict, with confidence, and none else."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.local_files import block_file
from tests.analysis.labelled_stores import TOPK, VIEWS, labelled_shards, store_of
from tests.analysis.small_stores import MIXED
from tests.damage import flip
from tests.store.blocks import random_block
from tinyvit_kd.analysis.records import store_blocks
from tinyvit_kd.analysis.records.store_labels import StoreLabels, find_labels
from tinyvit_kd.analysis.records.suspect_sums import LabelSums, best_other, bounded_probability, leading_class
from tinyvit_kd.analysis.records.suspects import Suspect, Thresholds, find_suspects
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runs.known_labels import own_weights
from tinyvit_kd.store.records import Block, RecordStatus
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.mixing import partners

MISTAKEN = {(0, 3): 7, (0, 30): 2, (2, 15): 11}  # samples whose label is wrong, and what their teacher sees
ANY = Thresholds(0.5, 0.3, 0.1)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return labelled_shards(tmp_path_factory.mktemp("shards"))


def seen(shards: ShardSet, shard: int, view: int) -> Block:
    """What a teacher says that is sure of every image, and right of all but the mistaken ones."""
    labels, classes = shards.index(shard).labels.copy(), 24
    for (where, index), number in MISTAKEN.items():
        if where == shard:
            labels[index] = number if labels[index] != number else number + 1
    others = (labels[:, None] + np.array([[3, 8, 13, 19]]) + view) % classes
    others = np.where(others == labels[:, None], (others + 1) % classes, others)
    indices = np.concatenate([labels[:, None], others], axis=1)
    order = np.argsort(indices, axis=1)
    probs = np.tile(np.array([0.8, 0.06, 0.04, 0.03, 0.02], np.float32), (len(labels), 1))
    empty = Block.empty(len(labels), TOPK)
    return Block(
        np.take_along_axis(indices, order, axis=1).astype(np.int32),
        np.take_along_axis(probs, order, axis=1),
        np.full(len(labels), 0.05, np.float32),
        empty.seeds,
        empty.digests,
        empty.status,
    )


def anything(shards: ShardSet, shard: int, view: int) -> Block:
    """Random records, some of them holes in all views."""
    length = int(shards.lengths[shard])
    block = random_block(length, TOPK, 24, 10 * shard + view, sharpness=1.5, holes=0)
    holes = random_block(length, 1, 2, seed=shard).status
    block.status[:] = holes
    for field in (block.indices, block.probs, block.residual):
        field[holes > 0] = 0
    return block


def found(store: LogitStore, shards: ShardSet, thresholds: Thresholds) -> list[Suspect]:
    return find_suspects(store, find_labels(store, shards), thresholds, processes=1).found


def one_by_one(store: LogitStore, shards: ShardSet, thresholds: Thresholds) -> list[Suspect]:
    """The straightforward way: sample by sample, view by view, class by class."""
    suspects = []
    spec = ViewSpec.model_validate(store.manifest.view_spec)
    for shard, length in enumerate(shards.lengths.tolist()):
        index = shards.index(shard)
        labels = index.labels.tolist()
        blocks = [store.read_block(shard, view) for view in range(VIEWS)]
        seed = store.manifest.seed
        weights = [own_weights(shard, view, length, spec, seed).tolist() for view in range(VIEWS)]
        for sample, label in enumerate(labels):
            of_label, others, contradicted, outside = [], [], 0, 0
            for view, block in enumerate(blocks):
                weight = weights[view][sample]
                partner = int(partners(seed, shard, view, length)[sample]) if weight < 1 else -1
                right = {label, labels[partner]} if partner >= 0 else {label}
                if weight < 0.5 or block.status[sample] != RecordStatus.VALID:
                    continue
                said = dict(zip(block.indices[sample].tolist(), block.probs[sample].tolist(), strict=True))
                bound = min(min(said.values()), float(block.residual[sample]))
                of_label.append(said.get(label, bound))
                outside += label not in said
                contradicted += max(said, key=lambda each: said[each]) not in right
                others.append(max((prob, -number) for number, prob in said.items() if number not in right))
            if len(of_label) < thresholds.views:
                continue
            times = Counter(-number for _, number in others)
            totals = {number: sum(prob for prob, each in others if -each == number) for number in times}
            teacher = max(times, key=lambda each: (times[each], totals[each]))
            means = np.mean(of_label), totals[teacher] / len(of_label)
            if (
                contradicted >= thresholds.contradicted * len(of_label)
                and means[0] <= thresholds.label_probability
                and means[1] >= thresholds.teacher_probability
            ):
                suspects.append(
                    Suspect(
                        *(shard, sample, index.key(sample), label, teacher, len(of_label), contradicted),
                        label_probability=float(means[0]),
                        label_not_stored=outside,
                        teacher_probability=means[1],
                    )
                )
    return suspects


def rounded(suspects: list[Suspect]) -> dict[tuple[int, int], Suspect]:
    """By place, with probabilities that sums in another order do not change."""
    return {
        (each.shard, each.index): replace(
            each,
            label_probability=round(each.label_probability, 5),
            teacher_probability=round(each.teacher_probability, 5),
        )
        for each in suspects
    }


@pytest.mark.parametrize("thresholds", [Thresholds(), ANY, Thresholds(0, 1, 0, 1)], ids=["usual", "more", "all"])
@pytest.mark.parametrize("spec", [{"size": 16}, MIXED], ids=["plain", "mixed"])
@pytest.mark.parametrize("encoding", ["exact", "compact"])
def test_suspects_are_those_that_are_found_one_by_one(
    tmp_path: Path, shards: ShardSet, encoding: str, spec: dict[str, float], thresholds: Thresholds
) -> None:
    store = store_of(tmp_path / "store", shards, anything, encoding=encoding, view_spec=spec)
    suspects = found(store, shards, thresholds)
    assert rounded(suspects) == rounded(one_by_one(store, shards, thresholds))
    assert len(suspects) > 0 or thresholds == Thresholds()


def test_labels_that_are_wrong_are_found_and_no_others(tmp_path: Path, shards: ShardSet) -> None:
    store = store_of(tmp_path / "store", shards, seen)
    suspects = found(store, shards, Thresholds())
    assert {(each.shard, each.index) for each in suspects} == set(MISTAKEN)
    for each in suspects:
        assert each.contradicted == each.views == VIEWS
        assert each.teacher_probability == pytest.approx(0.8)
        assert each.key == shards.index(each.shard).key(each.index)


def test_the_surest_ones_come_first(tmp_path: Path, shards: ShardSet) -> None:
    store = store_of(tmp_path / "store", shards, anything)
    sureness = [each.sureness for each in found(store, shards, ANY)]
    assert sureness == sorted(sureness, reverse=True)
    assert len(set(sureness)) > 3


def test_what_was_looked_at_is_counted(tmp_path: Path, shards: ShardSet) -> None:
    store = store_of(tmp_path / "store", shards, seen)
    block_file(store, 1, 2).unlink()
    flip(block_file(store, 0, 1), 20)
    result = find_suspects(store, find_labels(store, shards), Thresholds(), processes=1)
    assert (result.samples, result.unlabelled, result.blocks, result.missing) == (96, 0, 3 * VIEWS - 2, 1)
    assert [where for where, _ in result.unread] == [store.block_location(0, 1)]
    assert {(each.shard, each.index, each.views) for each in result.found} == {(0, 3, 3), (0, 30, 3), (2, 15, 4)}


def test_one_view_is_enough_only_where_the_store_has_no_more(tmp_path: Path, shards: ShardSet) -> None:
    single = store_of(tmp_path / "single", shards, seen, views=1)
    assert {(each.shard, each.index, each.views) for each in found(single, shards, Thresholds())} == {
        (*place, 1) for place in MISTAKEN
    }
    several = store_of(tmp_path / "several", shards, seen)
    for shard, view in [(2, 0), (2, 1), (2, 3)]:
        block_file(several, shard, view).unlink()
    assert {each.shard for each in found(several, shards, Thresholds())} == {0}
    assert {each.shard for each in found(several, shards, Thresholds(views=1))} == {0, 2}


def test_without_the_shards_there_are_no_suspects(tmp_path: Path, shards: ShardSet) -> None:
    store = store_of(tmp_path / "store", shards, seen)
    with pytest.raises(ConfigError, match="keys and labels"):
        find_suspects(store, StoreLabels("unknown"), Thresholds(), processes=1)


@pytest.mark.slow
def test_suspects_do_not_depend_on_the_number_of_processes(
    tmp_path: Path, shards: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_blocks, "WORTH_PROCESSES", 0)
    store = store_of(tmp_path / "store", shards, anything)
    labels = find_labels(store, shards)
    assert find_suspects(store, labels, ANY, 2) == find_suspects(store, labels, ANY, 1)


def test_labels_reach_other_processes(tmp_path: Path, shards: ShardSet) -> None:
    labels = find_labels(store_of(tmp_path / "store", shards, seen), shards)
    there = pickle.loads(pickle.dumps(labels))
    assert there.kind == "shards"
    assert there.of_shard(1).tolist() == labels.of_shard(1).tolist() == shards.index(1).labels.tolist()


@given(st.integers(1, 8), st.integers(0, 6), st.integers(0, 1000))
def test_the_bound_of_a_label_that_is_not_stored_holds_for_any_teacher(topk: int, absent: int, seed: int) -> None:
    """What is stored are the K best classes of a distribution: no other can have more than the bound."""
    rng = np.random.default_rng(seed)
    whole = rng.dirichlet(np.ones(topk + absent) * 0.5, 20).astype(np.float32)
    indices = np.sort(np.argsort(-whole, axis=1)[:, :topk], axis=1).astype(np.int32)
    probs = np.take_along_axis(whole, indices, axis=1)
    empty = Block.empty(20, topk)
    block = Block(indices, probs, 1 - probs.sum(axis=1), empty.seeds, empty.digests, empty.status)
    labels = rng.integers(0, topk + absent, 20)
    stored, bound = bounded_probability(block, labels)
    real = whole[np.arange(20), labels]
    assert (bound[stored] == real[stored]).all()
    assert (bound >= real - 1e-6).all()


def test_a_record_of_one_class_which_is_the_label_names_no_other() -> None:
    empty = Block.empty(1, 1)
    block = Block(np.array([[4]], np.int32), np.ones((1, 1), np.float32), *list(vars(empty).values())[2:])
    classes, probs = best_other(block, np.array([4]), np.array([-1]))
    assert (classes.tolist(), probs.tolist()) == ([-1], [0.0])


@pytest.mark.parametrize(
    ("classes", "probs", "leading"),
    [
        ([1, 1, 2], [0.1, 0.1, 0.9], (1, 0.2)),  # more often
        ([1, 2], [0.1, 0.9], (2, 0.9)),  # as often, but surer
        ([-1, 5, -1], [0.0, 0.5, 0.0], (5, 0.5)),
        ([-1, -1], [0.0, 0.0], (-1, 0.0)),
    ],
)
def test_the_teachers_class_is_the_one_it_names_most_often(
    classes: list[int], probs: list[float], leading: tuple[int, float]
) -> None:
    number, total = leading_class(np.array(classes, np.int32), np.array(probs, np.float32))
    assert number == leading[0]
    assert total == pytest.approx(leading[1])


def test_a_fraction_of_views_that_equals_the_threshold_meets_it() -> None:
    sums = LabelSums(np.array([3, 3], np.int64), views=50)
    sums.views[:], sums.contradicted[:] = 50, [7, 6]
    assert Thresholds(contradicted=0.14).contradict(sums, views=50).tolist() == [True, False]
