"""A sample's label is found in every plain spelling, and what is no label is described."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.tars import sample, write_tar
from tinyvit_kd.data.indexing.index_file import load_index
from tinyvit_kd.data.shards import ShardSet

BOM = b"\xef\xbb\xbf"
CLASSES = "n01440764\ttench, Tinca tinca\nn01443537\tgoldfish\nn02088094\tGroßer Hund\nn02123045\ttabby cat\n"


def labels_of(folder: Path, *samples: dict[str, bytes], classes: str | None = None, **options: Any) -> list[int]:
    return list(opened(folder, *samples, classes=classes, **options).index(0).labels.tolist())


def opened(folder: Path, *samples: dict[str, bytes], classes: str | None = None, **options: Any) -> ShardSet:
    members = []
    for number, files in enumerate(samples):
        members += [(f"{number}.jpg", b"x"), *((f"{number}.{suffix}", each) for suffix, each in files.items())]
    write_tar(folder / "a.tar", members)
    if classes is not None:
        (folder / "classes.txt").write_text(classes, encoding="utf-8")
    return ShardSet.load(folder / "a.tar", **options)


def as_json(tree: Any) -> dict[str, bytes]:
    return {"json": json.dumps(tree).encode()}


@pytest.mark.parametrize(
    "content",
    [
        *(b"3", b"3.0", b"3.", b"+3", b"003", b" 3\r\n", b"\t3 ", BOM + b"3", b"3\0", b'"3"', b"[3]"),
        *("3".encode("utf-16"), "3\n".encode("utf-16"), "3 ".encode("utf-16-le"), " 3".encode("utf-16-be")),
    ],
    ids=repr,
)
@pytest.mark.parametrize("suffix", ["cls", "label", "txt"])
def test_a_number_counts_in_any_plain_spelling(tmp_path: Path, suffix: str, content: bytes) -> None:
    assert labels_of(tmp_path, {suffix: content}) == [3]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"-1",
        b"3.5",
        b"1e3",
        b"nan",
        b"3 4",
        b"3\n4",
        b"0x3",
        b"\xff3",
        b"9" * 20,
        b"1\0\0\0",
        b"1\0\0\0\0\0\0\0",
    ],
    ids=repr,
)
def test_what_is_no_whole_number_is_none(tmp_path: Path, content: bytes) -> None:
    assert labels_of(tmp_path, {"cls": content}) == [-1]


@pytest.mark.parametrize("value", [3, 3.0, "3", "3.0", " +3", [3], ["3"], [[3.0]]], ids=repr)
@pytest.mark.parametrize("name", ["label", "Label", "class_id", "class_index", "target", "cls", "class", "category_id"])
def test_json_has_its_label_under_any_usual_name(tmp_path: Path, name: str, value: Any) -> None:
    assert labels_of(tmp_path, as_json({"caption": "4", name: value, "width": 20})) == [3]


@pytest.mark.parametrize(
    ("tree", "label"),
    [
        ({"label": 3, "class_id": 5, "target": 7}, 3),
        ({"label": None, "class_id": 3}, 3),
        ({"label": "tench", "class_index": 3}, 3),
        ({"class_id": 3, "target": 3.0}, 3),
        ({"class_id": 3, "target": 5}, -1),
        ({"meta": {"label": 3}}, 3),
        ({"label": {"id": 3, "name": "tabby cat"}}, 3),
        ({"target": {"value": {"x": 1}}, "meta": {"info": {"cls": [3]}}}, 3),
        ({"class": "x", "meta": {"label": 3}}, -1),
        ({"id": 3, "name": "x"}, -1),
        ({"label": True}, -1),
        ({"label": -3}, -1),
        ({"label": 3.5}, -1),
        ({"label": float("nan")}, -1),
        ({"label": 2**63}, -1),
        ({"label": [3, 4]}, -1),
        ({"labels": [{"label": 3}]}, -1),
        (3, 3),
        ([], -1),
        (None, -1),
    ],
    ids=repr,
)
def test_of_several_fields_the_outer_ones_and_numbers_come_first_and_contradictions_are_none(
    tmp_path: Path, tree: Any, label: int
) -> None:
    assert labels_of(tmp_path, as_json(tree)) == [label]


def test_json_may_have_a_mark_a_nul_and_any_depth(tmp_path: Path) -> None:
    plain = json.dumps({"label": 3})
    contents = [BOM + plain.encode(), plain.encode() + b"\0", plain.encode("utf-16"), b'{"a":' * 5000, b"[" * 5000]
    assert labels_of(tmp_path, *({"json": content} for content in contents)) == [3, 3, 3, -1, -1]


@pytest.mark.parametrize(
    ("key", "label"),
    [("mine", 3), ("meta.mine", 4), ("a.b", 5), ("list.1", 6), ("none", -1), ("list.9", -1), ("mine.x", -1)],
)
def test_the_field_that_is_named_is_the_only_one_that_counts(tmp_path: Path, key: str, label: int) -> None:
    tree = {"label": 1, "mine": "3", "meta": {"mine": 4}, "a.b": 5, "a": {"b": 9}, "list": [0, 6]}
    assert labels_of(tmp_path, as_json(tree) | {"cls": b"2"}, label_key=key) == [label]


def test_an_index_holds_for_the_field_that_it_was_made_for(tmp_path: Path) -> None:
    shards = opened(tmp_path, as_json({"label": 1, "mine": 3}))
    assert load_index(tmp_path / "a.tar").labels.tolist() == [1]
    assert load_index(tmp_path / "a.tar", label_key="mine").labels.tolist() == [3]
    assert shards.index(0).labels.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("n01443537", 1),
        (" n02088094\n", 2),
        ("goldfish", 1),
        ("Goldfish", 1),
        ("tench", 0),
        ("Tinca_tinca", 0),
        ("tench, Tinca tinca", 0),
        ("Großer Hund", 2),
        ("großer hund", 2),
        ("tabby_cat", 3),
        ("cat", -1),
        ("a photo of a tabby cat", -1),
    ],
)
@pytest.mark.parametrize("form", ["cls", "txt", "label", "json"])
def test_names_and_ids_are_looked_up_in_the_class_list(tmp_path: Path, form: str, text: str, label: int) -> None:
    files = as_json({"class": text}) if form == "json" else {form: text.encode()}
    assert labels_of(tmp_path, files, classes=CLASSES) == [label]
    (tmp_path / "classes.txt").unlink()
    assert ShardSet.load(tmp_path / "a.tar").index(0).labels.tolist() == [-1]


def test_a_name_is_found_in_both_forms_of_unicode(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert labels_of(tmp_path, {"cls": decomposed.encode()}, classes=f"tea\n{composed}\n") == [1]


def test_names_are_looked_up_in_a_list_that_becomes_known_after_the_index_was_made(tmp_path: Path) -> None:
    shards = opened(tmp_path, {"cls": b"dog"}, {"cls": b"2"}, {}, {"cls": b"cat"}, {"cls": b"bird"})
    assert shards.index(0).labels.tolist() == [-1, 2, -1, -1, -1]
    (tmp_path / "list.txt").write_text("cat\ndog\nfish\n")
    made = (tmp_path / "a.tar.idx.npz").stat().st_mtime_ns
    named = ShardSet.load(tmp_path / "a.tar", class_list=str(tmp_path / "list.txt"))
    assert named.index(0).labels.tolist() == [1, 2, -1, 0, -1]
    assert named.reader().labels(0, np.array([3, 0])).tolist() == [0, 1]
    assert (tmp_path / "a.tar.idx.npz").stat().st_mtime_ns == made


def test_wordnet_names_are_known_for_a_list_of_wordnet_ids(tmp_path: Path) -> None:
    texts = (b"tench", b"goldfish, Carassius auratus", b"n01443537", b"crane")  # a bird and a machine
    assert labels_of(tmp_path, *({"cls": text} for text in texts), class_list="imagenet") == [0, 1, 1, -1]


def test_labels_that_count_from_one_are_shifted_when_told(tmp_path: Path) -> None:
    numbers = [{"cls": b"1"}, {"cls": b"3"}, {"cls": b"0"}, {"cls": b"tabby cat"}]
    assert labels_of(tmp_path, *numbers, classes=CLASSES, first_label=1) == [0, 2, -1, 3]


@pytest.mark.parametrize(
    ("files", "options", "expected"),
    [
        ({}, {}, "its only file is .jpg: no .cls, .json, .label or .txt"),
        ({"cls": b"2"}, {"label_key": "mine"}, "its files are .cls, .jpg: no .json"),
        ({"cls": b"\xff\x00"}, {}, ".cls is no text, it begins with the bytes ff 00"),
        ({"cls": b"-1"}, {}, ".cls is '-1'"),
        (as_json({"a": 1, "b": 2}), {}, ".json has the fields a, b"),
        (as_json({"a": 1, "mine": None}), {"label_key": "mine"}, ".json has the fields a, mine; mine is null"),
        (as_json({"a": 1}), {"label_key": "mine"}, ".json has the field a; mine is not there"),
        (as_json({"class_id": 1, "target": 2}), {}, "class_id is 1; target is 2: which of them is the label?"),
        (
            as_json({"a": 1, "label": "dog"}),
            {},
            ".json has the fields a, label; label is 'dog'; no class list is known in which to look it up",
        ),
        ({"cls": b"dog"}, {"classes": "cat\nbird\n"}, ".cls is 'dog'; it is none of the 2 classes in the list classes"),
        ({"cls": b"0"}, {"first_label": 1}, "its label is 0, and the first class is number 1"),
        ({"json": b"{"}, {}, ".json is no JSON"),
        ({"txt": b"x" * 2000}, {}, ".txt has 2,000 bytes"),
    ],
)
def test_what_is_found_in_place_of_a_label_is_said(
    tmp_path: Path, files: dict[str, bytes], options: dict[str, Any], expected: str
) -> None:
    labelled = as_json({"mine": 1}) if "label_key" in options else {"cls": b"1"}
    found = opened(tmp_path, labelled, files, **options).first_unlabelled()
    assert found.startswith("a.tar:1: ")
    assert expected in found


def test_labels_of_tidy_sets_keep_their_hash(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [part for number in range(3) for part in sample(str(number), number)])
    shards = ShardSet.load(tmp_path / "a.tar")
    assert shards.label_hashes() == [9202807598501862493]  # as before texts could be labels
    assert shards.label_counts() == (3, 0, 0, 2)
    assert shards.first_unlabelled() == ""
