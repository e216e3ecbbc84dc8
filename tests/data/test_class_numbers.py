"""A class has one number, in all splits of a set; what would shift or mix numbers is refused, with both names shown."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from tests.data.source_trees import classes, write_tree
from tests.data.test_sources import build, class_names
from tinyvit_kd.data.building.build_report import BuildReport
from tinyvit_kd.data.building.class_numbers import class_order
from tinyvit_kd.data.building.left_out import Cause
from tinyvit_kd.data.building.source_rules import SourceRules
from tinyvit_kd.errors import ShardError

COMPOSED = unicodedata.normalize("NFC", "café")
DECOMPOSED = unicodedata.normalize("NFD", "café")


def splits(tmp_path: Path, first: list[str], second: list[str]) -> BuildReport:
    """Build two splits, one after the other; returns the report of the second."""
    build(write_tree(tmp_path / "first", classes(*first)))
    return build(write_tree(tmp_path / "second", classes(*second)), split="val")


def labels_by_name(report: BuildReport) -> dict[str, int]:
    """The label of each class in a set, looked up in its samples."""
    shards = report.sets[0]
    labels = shards.reader().labels(0, np.arange(shards.total)).tolist()
    return {class_names(shards)[label]: label for label in labels}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["10", "9", "0", "11"], ["0", "9", "10", "11"]),
        (["010", "009", "100"], ["009", "010", "100"]),
        (["10", "9", "x"], ["10", "9", "x"]),
        (["1.5", "10", "2"], ["1.5", "10", "2"]),
        (["-1", "0", "10", "2"], ["-1", "0", "10", "2"]),
        (["n02", "n10", "n01"], ["n01", "n02", "n10"]),
    ],
    ids=["numbers", "with zeros", "a word", "a fraction", "a sign", "ids"],
)
def test_numbers_have_their_own_order_and_words_that_of_text(names: list[str], expected: list[str]) -> None:
    assert class_order(names) == expected


def test_folders_named_by_numbers_have_these_labels(tmp_path: Path) -> None:
    report = build(write_tree(tmp_path / "source", classes(*map(str, range(12)))))
    assert labels_by_name(report) == {str(number): number for number in range(12)}
    assert report.notes == ("class names are numbers, and labels follow their order: 0, 1, 2, … 11",)


def test_a_set_of_numbers_that_was_built_in_the_order_of_text_keeps_it_and_says_so(tmp_path: Path) -> None:
    names = sorted(map(str, range(12)))
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "classes.txt").write_text("\n".join(names) + "\n")
    report = build(write_tree(tmp_path / "source", classes(*names)))
    assert labels_by_name(report) == {name: label for label, name in enumerate(names)}
    assert "another order: class 10 has the label 2" in report.notes[0]


def test_a_class_without_images_stops_the_first_build_lest_numbers_shift(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "source", [*classes("a", "c"), "b/notes.txt", "b/art.psd"], b"8BPS")
    (source / "d").mkdir()
    with pytest.raises(ShardError, match=r"without images.*2: 'b' \(with 2 things.*\), 'd'.*--empty-classes keep"):
        build(source)
    assert not (tmp_path / "shards" / "classes.txt").exists()


@pytest.mark.parametrize(
    ("rule", "expected", "left_out"), [("keep", ("a", "b", "c"), {}), ("leave-out", ("a", "c"), {Cause.EMPTY_CLASS: 1})]
)
def test_a_class_without_images_keeps_its_number_or_goes_when_told(
    rule: str, expected: tuple[str, ...], left_out: dict[str, int], tmp_path: Path
) -> None:
    source = write_tree(tmp_path / "source", [*classes("a", "c"), "b/"])
    report = build(source, SourceRules(empty_classes=rule))  # type: ignore[arg-type]
    assert class_names(report.sets[0]) == expected
    assert labels_by_name(report) == {"a": 0, "c": expected.index("c")}
    assert report.left_out.counts == left_out


def test_a_class_without_images_does_not_matter_to_a_later_split(tmp_path: Path) -> None:
    build(write_tree(tmp_path / "first", classes("a", "b", "c")))
    report = build(write_tree(tmp_path / "second", [*classes("a", "c"), "b/", "x/"]), split="val")
    assert labels_by_name(report) == {"a": 0, "c": 2}
    assert report.left_out.names == {Cause.EMPTY_CLASS: ["x"]}


def test_a_split_with_fewer_classes_keeps_the_numbers_of_the_first_and_says_so(tmp_path: Path) -> None:
    report = splits(tmp_path, ["a", "b", "c"], ["c"])
    assert labels_by_name(report) == {"c": 2}
    assert report.notes == ("split val has images of 1 of 3 classes of the first split; none of a, b",)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (["Tabby cat", "dog"], r"'Tabby cat' \(the set has 'tabby cat'\)"),
        (["tabby_cat", "dog"], r"'tabby_cat' \(the set has 'tabby cat'\)"),
        (["taby cat", "dog"], r"'taby cat' \(the set has 'tabby cat'\)"),
        (["ｄｏｇ", "tabby cat"], r"'\\uff44\\uff4f\\uff47' \(the set has 'dog'\)"),
        (["dоg", "tabby cat"], r"'d\\u043eg'"),  # with a Cyrillic letter
        (["zebra", "dog"], r"'zebra'\. Expected: the 2 classes"),
    ],
    ids=["case", "spelling", "a letter less", "wide letters", "a letter of another script", "another class"],
)
def test_a_class_that_the_first_split_lacks_is_refused_with_the_name_it_may_be(
    second: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ShardError, match=message):
        splits(tmp_path, ["tabby cat", "dog"], second)


@pytest.mark.parametrize(("first", "second"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_the_same_name_in_another_unicode_form_has_the_same_number(first: str, second: str, tmp_path: Path) -> None:
    report = splits(tmp_path, ["bar", first, "zoo"], [second, "zoo"])
    assert labels_by_name(report) == {first: 1, "zoo": 2}
    assert f"class {second!a} is taken for {first!a}" in report.notes[0]


def test_two_classes_of_the_same_name_are_refused_so_that_one_sees_the_difference(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"'cafe\\u0301' and 'caf\\xe9'"):
        build(write_tree(tmp_path / "source", classes(COMPOSED, DECOMPOSED)))


def test_two_classes_of_the_same_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"'01' and '1'"):
        build(write_tree(tmp_path / "source", classes("0", "1", "01")))


def test_classes_that_differ_in_case_alone_are_pointed_out(tmp_path: Path) -> None:
    report = build(write_tree(tmp_path / "source", classes("Cat", "cat", "dog")))
    assert class_names(report.sets[0]) == ("Cat", "cat", "dog")
    assert report.notes == ("two classes have names that differ in upper and lower case alone: 'Cat' and 'cat'",)


def test_names_that_look_like_an_id_and_a_definition_are_whole_names(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "source", classes("n01440764 tench", "n01443537 goldfish"))
    build(source)
    (tmp_path / "shards" / "train-000000.tar").unlink()
    assert labels_by_number(build(source)) == [0, 0, 1, 1]
    report = build(write_tree(tmp_path / "val", classes("n01443537 goldfish")), split="val")
    assert labels_by_number(report) == [1, 1]


def labels_by_number(report: BuildReport) -> list[int]:
    """All labels of a set."""
    shards = report.sets[0]
    return sorted(shards.reader().labels(0, np.arange(shards.total)).tolist())
