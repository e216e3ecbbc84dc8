"""A manifest reads back as it was, and refuses what it does not match."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import xxhash

from tests.store.blocks import manifest_of
from tinyvit_kd.errors import FieldDifference, FormatVersionError, ManifestMismatchError, StoreError
from tinyvit_kd.storage.local import LocalStorage
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.names import MANIFEST
from tinyvit_kd.store.records import FORMAT_VERSION


def saved(folder: Path, **changes: Any) -> Path:
    """A folder with a manifest whose JSON has these changes; None removes a field."""
    manifest_of().save(LocalStorage(str(folder)))
    tree = json.loads((folder / MANIFEST).read_bytes()) | changes
    (folder / MANIFEST).write_text(json.dumps({name: value for name, value in tree.items() if value is not None}))
    return folder


def test_a_manifest_reads_back_as_it_was(tmp_path: Path) -> None:
    manifest = manifest_of(class_list=None, class_list_hash=None)
    manifest.save(LocalStorage(str(tmp_path)))
    assert Manifest.load(LocalStorage(str(tmp_path))) == manifest
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]


def test_a_manifests_bytes_and_hash_are_those_of_stores_that_were_made_before(tmp_path: Path) -> None:
    manifest = manifest_of()
    manifest.save(LocalStorage(str(tmp_path)))
    assert (xxhash.xxh3_64_hexdigest((tmp_path / MANIFEST).read_bytes()), manifest.hash) == (
        "b5b66b8f16d9b772",
        "7211fabbbed13029",
    )


def test_the_same_manifest_is_the_same(tmp_path: Path) -> None:
    manifest_of().save(LocalStorage(str(tmp_path)))
    Manifest.load(LocalStorage(str(tmp_path))).require_same(manifest_of().identity)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"topk": 10}, ["topk is 5 in the store and 10 in this run"]),
        ({"class_list": None}, ["class_list is imagenet in the store and None in this run"]),
        ({"key_hashes": (2**63, 1, 2**63 + 2)}, [f"key_hashes[1] is {2**63 + 1} in the store and 1 in this run"]),
        ({"shard_lengths": (30, 30)}, ["shard_lengths has 3 entries in the store and 2 in this run"]),
        (
            {"view_spec": {"size": 192, "crop_scale": [0.08, 1.0]}},
            ["view_spec.size is 224 in the store and 192 in this run"],
        ),
        ({"topk": 6, "seed": 8}, ["topk is 5", "seed is 7"]),
        (
            {"teacher": manifest_of().teacher.model_copy(update={"weights_hash": "cd"})},
            [f"teacher.weights_hash is {'ab' * 16} in the store and cd in this run"],
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_mismatch_names_each_field_with_both_values(change: dict[str, Any], words: list[str]) -> None:
    expected = manifest_of().identity | change
    with pytest.raises(ManifestMismatchError) as caught:
        manifest_of().require_same(expected, "some/store")
    assert all(word in str(caught.value) for word in [*words, *change, "some/store"])
    assert "; " not in caught.value.found or len(words) > 1


def test_a_mismatch_carries_the_fields_that_differ_with_both_whole_values() -> None:
    manifest = manifest_of()
    teacher = manifest.teacher.model_copy(update={"image_size": 384, "precision": "bfloat16"})
    changes = {"key_hashes": (1, 2), "view_spec": {"size": 192}, "teacher": teacher, "topk": 10}
    with pytest.raises(ManifestMismatchError) as caught:
        manifest.require_same(changes)
    assert caught.value.differences == (
        FieldDifference("key_hashes", manifest.key_hashes, (1, 2)),
        FieldDifference("view_spec.crop_scale", [0.08, 1.0], None),
        FieldDifference("view_spec.size", 224, 192),
        FieldDifference("teacher.image_size", 224, 384),
        FieldDifference("teacher.precision", "float32", "bfloat16"),
        FieldDifference("topk", 5, 10),
    )


def test_a_mismatch_says_what_the_store_was_compared_with_and_what_to_do() -> None:
    with pytest.raises(ManifestMismatchError) as caught:
        manifest_of().require_same({"seed": 8, "topk": 5}, other="the first teacher's", fix="dump it again")
    assert str(caught.value) == (
        "the store differs from the first teacher's in seed. "
        "Found: seed is 7 in the store and 8 in the first teacher's. To do: dump it again."
    )


def test_more_views_and_newer_libraries_do_not_change_the_hash() -> None:
    assert manifest_of().hash == manifest_of(views=90, versions={"numpy": "3"}, shard_set="moved").hash
    assert manifest_of().hash != manifest_of(seed=8).hash


def test_another_format_is_refused_with_both_versions(tmp_path: Path) -> None:
    with pytest.raises(FormatVersionError, match="99") as caught:
        Manifest.load(LocalStorage(str(saved(tmp_path, format_version=99, a_field_of_the_future=1))))
    assert caught.value.expected == str(FORMAT_VERSION)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"topk": None}, "topk"),
        ({"topk": "five"}, "topk"),
        ({"topk": "5"}, "topk"),
        ({"seed": 1.5}, "seed"),
        ({"shard_names": "train-000000.tar"}, "shard_names"),
        ({"shard_lengths": [30]}, "shard_lengths"),
        ({"encoding": "zip"}, "encoding"),
        ({"teacher": {"name": "toy"}}, "teacher.weights_hash"),
        ({"format_version": None}, "format_version"),
        ({"unknown": 1}, "unknown"),
    ],
    ids=str,
)
def test_a_damaged_manifest_is_refused_with_path_and_field(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    with pytest.raises(StoreError, match=field) as caught:
        Manifest.load(LocalStorage(str(saved(tmp_path, **change))))
    assert str(tmp_path / MANIFEST) in str(caught.value)


@pytest.mark.parametrize("change", [{"views": 2 * 10**9}, {"views": -1}], ids=str)
def test_numbers_that_no_store_has_are_refused_in_our_own_words(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="views") as caught:
        Manifest.load(LocalStorage(str(saved(tmp_path, **change))))
    assert caught.value.found[0] not in ": "
    assert "Value error" not in caught.value.found
    assert "dump again" in caught.value.fix


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"1", b"\xff\xfe"])
def test_bytes_that_are_no_manifest_are_refused_with_the_path(tmp_path: Path, data: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(data)
    with pytest.raises(StoreError, match="manifest") as caught:
        Manifest.load(LocalStorage(str(tmp_path)))
    assert str(tmp_path / MANIFEST) in str(caught.value)


def test_a_folder_without_a_manifest_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store") as caught:
        Manifest.load(LocalStorage(str(tmp_path)))
    assert str(tmp_path) in str(caught.value)
