"""The statistics of a store equal those of all its records over all classes, however the work is shared."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.local_files import block_file
from tests.analysis import dense
from tests.analysis.small_stores import LENGTHS, MIXED, random_labels, random_store
from tests.damage import flip
from tests.store.blocks import random_block
from tinyvit_kd.analysis.records import store_blocks
from tinyvit_kd.analysis.records.class_figures import wilson
from tinyvit_kd.analysis.records.store_blocks import BlockSummer, Task
from tinyvit_kd.analysis.records.store_figures import percentile
from tinyvit_kd.analysis.records.store_labels import StoreLabels
from tinyvit_kd.analysis.records.store_statistics import store_statistics
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.errors import StoreError
from tinyvit_kd.runs.known_labels import view_labels
from tinyvit_kd.store.codec import field_planes
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore

BLOCKS = [(shard, view) for shard, length in enumerate(LENGTHS) if length for view in range(4)]
Labels = dict[int, np.ndarray[Any, np.dtype[np.int64]]]
Tree = dict[str, Any]


def figures(store: LogitStore, labels: Labels, blocks: list[tuple[int, int]], processes: int = 1) -> Tree:
    return store_statistics(store, StoreLabels("of a test", sample=labels), blocks, processes).as_dict()


class Reference:
    """All records of a store, one by one."""

    def __init__(self, store: LogitStore, labels: Labels) -> None:
        classes = store.manifest.num_classes
        self.blocks: dict[tuple[int, int], Block] = {place: store.read_block(*place) for place in BLOCKS}
        self.whole = np.concatenate([dense.dense(block, classes) for block in self.blocks.values()])
        self.stored = np.concatenate([block.probs[block.valid] for block in self.blocks.values()])
        self.residual = np.concatenate([block.residual[block.valid] for block in self.blocks.values()])
        self.views = np.concatenate([np.full(block.valid.sum(), view) for (_, view), block in self.blocks.items()])
        spec = ViewSpec.model_validate(store.manifest.view_spec)
        of_views = [
            view_labels(labels[shard], np.arange(len(block)), shard, view, len(block), spec, store.manifest.seed, 128)
            for (shard, view), block in self.blocks.items()
        ]
        each = zip(of_views, self.blocks.values(), strict=True)
        self.labels = np.concatenate([found[block.valid] for found, block in each])
        self.best = np.concatenate(
            [
                block.indices[block.valid, :][np.arange(n), block.probs[block.valid].argmax(axis=1)]
                for block in self.blocks.values()
                for n in [block.valid.sum()]
            ]
        )
        self.top5 = np.concatenate([block.indices[block.valid] for block in self.blocks.values()])  # K is 5

    def agreement(self, rows: np.ndarray[Any, Any]) -> Tree:
        rows = rows & (self.labels >= 0)
        labels = self.labels[rows]
        return {
            "top1": pytest.approx((self.best[rows] == labels).mean()),
            "top5": pytest.approx((self.top5[rows] == labels[:, None]).any(axis=1).mean()),
            "label_probability": pytest.approx(self.whole[rows, labels].mean(), rel=1e-5),
            "views": len(labels),
        }


@pytest.fixture(params=["exact", "compact", "mixed"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> LogitStore:
    spec = MIXED if request.param == "mixed" else {"size": 16}
    encoding = "exact" if request.param == "exact" else "compact"
    return random_store(tmp_path / "store", encoding=encoding, view_spec=spec)


def test_all_figures_are_those_of_the_records_over_all_classes(store: LogitStore) -> None:
    labels = random_labels(store)
    found, expected = figures(store, labels, BLOCKS), Reference(store, labels)
    everything = np.ones(len(expected.labels), bool)
    assert found["read"]["records"] == len(expected.whole)
    assert found["agreement"] == expected.agreement(everything)
    assert found["confidence"]["mean"] == pytest.approx(expected.stored.max(axis=1).mean(), rel=1e-6)
    assert found["entropy"]["mean"] == pytest.approx(dense.entropy(expected.whole).mean(), rel=1e-6)
    assert found["residual"]["mean"] == pytest.approx(expected.residual.mean(), rel=1e-5)
    largest = -np.sort(-expected.stored.astype(np.float64), axis=1)
    assert found["kept_mass"] == [
        {"k": k, "mass": pytest.approx(largest[:, :k].sum(axis=1).mean(), rel=1e-6)} for k in (1, 5)
    ]
    for told in found["by_view"]:
        rows = expected.views == told["view"]
        assert told["records"] == rows.sum()
        assert told["agreement"] == expected.agreement(rows)
        assert told["entropy"] == pytest.approx(dense.entropy(expected.whole[rows]).mean(), rel=1e-6)


def test_figures_by_class_are_counts_of_records(store: LogitStore) -> None:
    labels = random_labels(store)
    found, expected = figures(store, labels, BLOCKS)["classes"], Reference(store, labels)
    known = expected.labels >= 0
    for number in range(12):
        of_class = known & (expected.labels == number)
        assert found["counts"]["labelled"][number] == of_class.sum()
        assert found["counts"]["right"][number] == (expected.best[of_class] == number).sum()
        assert found["counts"]["best"][number] == (expected.best == number).sum()
        assert found["counts"]["stored"][number] == (expected.top5 == number).sum()
    assert found["never_best"]["classes"] == 12 - len(np.unique(expected.best))


def test_views_of_a_sample_are_compared_pair_by_pair(store: LogitStore) -> None:
    found = figures(store, {}, BLOCKS)["between_views"]
    blocks = {place: store.read_block(*place) for place in BLOCKS}
    same, divergences = [], []
    for shard in {shard for shard, _ in BLOCKS}:
        for first, second in combinations(range(4), 2):
            one, other = blocks[shard, first], blocks[shard, second]
            best = [each.indices[np.arange(len(each)), each.probs.argmax(axis=1)] for each in (one, other)]
            same += (best[0] == best[1])[one.valid].tolist()
            if second == first + 1:
                divergences += dense.divergence(dense.dense(one, 12), dense.dense(other, 12)).tolist()
    assert found["pairs"] == len(same)
    assert found["same_best"] == pytest.approx(np.mean(same))
    assert found["compared_pairs"] == len(divergences)
    assert found["js_divergence"] == pytest.approx(np.mean(divergences), abs=1e-6)


def test_calibration_counts_labelled_views_by_how_sure_the_teacher_is(store: LogitStore) -> None:
    labels = random_labels(store)
    found, expected = figures(store, labels, BLOCKS)["calibration"], Reference(store, labels)
    known = expected.labels >= 0
    confidence, right = expected.stored.max(axis=1)[known], (expected.best == expected.labels)[known]
    error = 0.0
    for told in found["bins"]:
        rows = (confidence >= told["from"]) & ((confidence < told["to"]) | (told["to"] == 1))
        assert told["views"] == rows.sum()
        if rows.any():
            assert told["top1"] == pytest.approx(right[rows].mean())
            error += rows.mean() * abs(right[rows].mean() - confidence[rows].mean())
    assert found["expected_error"] == pytest.approx(error, rel=1e-5)


def test_holes_are_counted_once_a_sample_and_are_in_no_figure(store: LogitStore) -> None:
    found = figures(store, {}, BLOCKS)
    holes = Counter("truncated" for shard in (0, 2, 3) for each in store.read_block(shard, 0).status if each)
    assert found["holes"] == {"samples": sum(LENGTHS), "holes": holes["truncated"], "reasons": dict(holes)}
    assert found["read"]["records"] == 4 * (sum(LENGTHS) - holes["truncated"])


def test_the_bytes_of_all_fields_are_those_of_a_block(store: LogitStore) -> None:
    found = figures(store, {}, BLOCKS)
    planes = [store.read_planes(shard, 0) for shard in (0, 2, 3)]  # the first block of each shard is measured
    assert found["bytes"]["measured_blocks"] == 3
    raw = sum(each["raw"] for each in found["bytes"]["fields"])
    assert raw * sum(LENGTHS) == pytest.approx(sum(each.size for each in planes))
    files = sum(block_file(store, shard, 0).stat().st_size for shard in (0, 2, 3))
    assert found["bytes"]["per_record"] * sum(LENGTHS) == pytest.approx(files)
    assert found["bytes"]["read_bytes"] == sum(block_file(store, *place).stat().st_size for place in BLOCKS)


@pytest.mark.parametrize("encoding", ["exact", "compact"])
@pytest.mark.parametrize("classes", [12, 300, 70_000])
def test_fields_are_cut_at_their_borders(tmp_path: Path, encoding: str, classes: int) -> None:
    store = random_store(tmp_path / "store", views=1, encoding=encoding, num_classes=classes)
    planes, header, block = store.read_planes(2, 0), store.header(2, 0), store.read_block(2, 0)
    fields = field_planes(planes, header)
    assert (np.concatenate(list(fields.values())) == planes).all()
    assert (fields["status"][0] == block.status).all()
    assert (fields["seeds"].T.copy().view("<u4")[:, 0] == block.seeds).all()
    assert (fields["digests"].T.copy().view("<u4")[:, 0] == block.digests).all()
    low = fields["classes" if classes <= 256 else "classes, byte 1"]
    assert (low[0] == block.indices[:, 0] % 256).all()


@pytest.mark.slow
def test_figures_do_not_depend_on_the_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_blocks, "WORTH_PROCESSES", 0)
    store = random_store(tmp_path / "store", view_spec=MIXED)
    labels = random_labels(store)
    assert figures(store, labels, BLOCKS, processes=2) == figures(store, labels, BLOCKS)


def test_another_process_is_given_all_that_it_needs(store: LogitStore) -> None:
    labels = StoreLabels("of a test", sample=random_labels(store))
    summer = BlockSummer(store, labels, ViewSpec.model_validate(store.manifest.view_spec))
    task = Task(2, (0, 1, 3), first=True)
    here, there = (each(task) for each in (summer, pickle.loads(pickle.dumps(summer))))
    assert str(here) == str(there)


def test_figures_of_many_views_are_those_of_the_parts_they_are_read_in(tmp_path: Path) -> None:
    store = random_store(tmp_path / "store", views=19)
    found = figures(store, {}, list(store.present_blocks([])))
    assert found["holes"]["samples"] == sum(LENGTHS)
    assert len(found["by_view"]) == 19
    records = found["by_view"][0]["records"]
    assert found["between_views"]["pairs"] == records * (28 + 28 + 3)  # of 8, 8 and 3 views
    assert found["between_views"]["compared_pairs"] == records * (7 + 7 + 2)


def test_a_damaged_block_is_named_and_left_out(store: LogitStore) -> None:
    sound = figures(store, {}, [block for block in BLOCKS if block != (2, 1)])
    flip(block_file(store, 2, 1), 20)
    found = figures(store, {}, BLOCKS)
    assert found["read"]["unread_blocks"] == 1
    assert found["read"]["unread"][0]["block"] == store.block_location(2, 1)
    assert found["confidence"] == sound["confidence"]
    assert found["read"]["blocks"] == len(BLOCKS) - 1


def test_a_block_that_was_removed_meanwhile_is_left_out(store: LogitStore) -> None:
    block_file(store, 0, 0).unlink()
    found = figures(store, {}, BLOCKS)
    assert found["read"]["unread_blocks"] == 1
    assert found["read"]["total_blocks"] - found["read"]["present_blocks"] == 1
    assert found["holes"]["samples"] == sum(LENGTHS)


def test_a_store_of_which_no_block_can_be_read_is_an_error(store: LogitStore) -> None:
    for place in BLOCKS:
        flip(block_file(store, *place), 20)
    with pytest.raises(StoreError, match="no block of the store can be read"):
        figures(store, {}, BLOCKS)


def test_records_that_no_teacher_can_have_given_are_left_out(tmp_path: Path) -> None:
    """Their checksum is right: a stranger made them."""
    store = random_store(tmp_path / "store", encoding="exact")
    block = random_block(17, 5, 12, holes=0)
    block.probs[3] = 7.0
    store.write_block(2, 1, block)
    found = figures(store, {}, BLOCKS)
    assert found["read"]["unread_blocks"] == 1
    assert "do not sum to 1" in found["read"]["unread"][0]["what"]


def test_without_labels_nothing_is_said_of_agreement(store: LogitStore) -> None:
    found = figures(store, {}, BLOCKS)
    assert found["agreement"] is None
    assert found["calibration"] is None
    assert found["classes"]["worst"] == []


def test_without_two_views_of_a_shard_nothing_is_said_of_their_agreement(store: LogitStore) -> None:
    assert figures(store, {}, [(0, 0), (2, 1)])["between_views"] is None


def test_a_view_spec_of_a_later_version_leaves_labels_unknown(tmp_path: Path) -> None:
    store = random_store(tmp_path / "store", view_spec={"size": 16, "mixes_in_another_way": 1})
    found = figures(store, random_labels(store), BLOCKS)
    assert found["agreement"] is None
    assert found["labels"]["mixed"] is None


def test_all_figures_are_plain_json(store: LogitStore) -> None:
    found = figures(store, random_labels(store), BLOCKS)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_store_of_all_classes_keeps_everything(tmp_path: Path) -> None:
    store = random_store(tmp_path / "store", topk=12)
    found = figures(store, random_labels(store), BLOCKS)
    assert found["kept_mass"][-1] == {"k": 12, "mass": pytest.approx(1)}
    assert found["entropy"]["mean"] <= found["entropy"]["largest"]
    assert found["classes"]["never_stored"]["classes"] == 0


@settings(max_examples=30)
@given(st.lists(st.floats(0, 0.999), min_size=1, max_size=200), st.sampled_from([0.1, 0.5, 0.9]))
def test_a_percentile_is_right_within_a_bin(values: list[float], fraction: float) -> None:
    counts = np.bincount((np.array(values) * 200).astype(np.int64), minlength=200)
    expected = np.quantile(values, fraction, method="inverted_cdf")
    assert percentile(counts, fraction) == pytest.approx(expected, abs=1 / 200 + 1e-9)


def test_a_class_with_one_view_is_not_the_worst_by_chance() -> None:
    right, count = np.array([0, 5]), np.array([1, 100])
    assert wilson(right, count, 1)[1] < wilson(right, count, 1)[0]
    assert wilson(np.array([8]), np.array([10]), -1) == pytest.approx([0.490], abs=1e-3)  # Wilson's own form
