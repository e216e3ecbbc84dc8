"""Labels of a store come from its shards, given or named by its dump's results, else from those that it keeps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.analysis.labelled_stores import TOPK, labelled_shards, store_of
from tests.store.blocks import random_block
from tinyvit_kd.analysis.records.store_labels import find_labels, open_stored_shards
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ManifestMismatchError
from tinyvit_kd.runs.run_files import RESULTS, beside_store
from tinyvit_kd.store.label_sample import write_label_sample
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of labelled shards."""
    path = tmp_path_factory.mktemp("shards")
    labelled_shards(path)
    return path / "shards"


@pytest.fixture
def shards(folder: Path) -> ShardSet:
    return ShardSet.load(folder, "train")


def anything(shards: ShardSet, shard: int, view: int) -> Block:
    return random_block(int(shards.lengths[shard]), TOPK, 24, 10 * shard + view)


@pytest.fixture
def store(tmp_path: Path, shards: ShardSet) -> LogitStore:
    return store_of(tmp_path / "store", shards, anything)


def results_of(store: LogitStore, part: tuple[int, int] = (1, 1)) -> Path:
    path = beside_store(store.where, RESULTS, part)
    assert path is not None
    return path


def name_shards(store: LogitStore, part: tuple[int, int] = (1, 1), **recipe: object) -> None:
    results_of(store, part).write_text(json.dumps({"recipe": {"shards": recipe}}))


def test_given_shards_label_every_sample(store: LogitStore, shards: ShardSet) -> None:
    labels = find_labels(store, shards)
    assert labels.kind == "shards"
    assert [len(labels.of_shard(shard)) for shard in range(3)] == [40, 40, 16]


@pytest.mark.parametrize("part", [(1, 1), (2, 3)], ids=["whole", "a part"])
def test_the_shards_of_the_dumps_results_are_found(store: LogitStore, folder: Path, part: tuple[int, int]) -> None:
    name_shards(store, part, path=str(folder), split="train")
    labels = find_labels(store)
    assert labels.kind == "shards"
    assert labels.source == "of the shards that the dump names, shards"


@pytest.mark.parametrize("path", ["/nowhere", "pipe:touch {mark}", "https://example.invalid/{{0..3}}.tar", "{shards}x"])
def test_results_that_name_other_places_are_passed_over(
    store: LogitStore, folder: Path, tmp_path: Path, path: str
) -> None:
    name_shards(store, path=path.format(mark=tmp_path / "mark", shards=folder), split="train")
    assert find_labels(store).kind == "none"
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"recipe": {"shards": 3}}', b"\xff", b'{"recipe": null}'])
def test_damaged_results_are_passed_over(store: LogitStore, content: bytes) -> None:
    results_of(store).write_bytes(content)
    assert find_labels(store).kind == "none"


def test_shards_that_have_changed_since_are_passed_over_where_they_were_not_asked_for(
    tmp_path: Path, shards: ShardSet, folder: Path
) -> None:
    store = store_of(tmp_path / "store", shards, anything, key_hashes=(1, 2, 3))
    name_shards(store, path=str(folder), split="train")
    assert find_labels(store).kind == "none"
    with pytest.raises(ManifestMismatchError):
        open_stored_shards(store, str(folder), "train")


def test_the_labels_that_the_store_keeps_are_used_without_shards(store: LogitStore) -> None:
    write_label_sample(store.storage, {1: np.arange(10)})
    labels = find_labels(store)
    assert labels.kind == "sample"
    assert labels.of_shard(1).tolist() == list(range(10))
    assert len(labels.of_shard(0)) == 0
    assert "some samples" in labels.source


def test_labels_whose_class_list_is_not_known_are_not_used(store: LogitStore, folder: Path, tmp_path: Path) -> None:
    without = tmp_path / "without"
    without.mkdir()
    for each in folder.iterdir():
        if each.name != "classes.txt":
            (without / each.name).symlink_to(each)
    labels = find_labels(store, open_stored_shards(store, str(without), "train"))
    assert labels.kind == "none"
    assert "--class-list" in labels.source


def test_without_any_labels_it_is_said_why(store: LogitStore) -> None:
    labels = find_labels(store)
    assert labels.kind == "none"
    assert "--shards" in labels.source
    assert len(labels.of_shard(0)) == 0
