"""``shards build`` from lists: the images that they name, with the labels and keys that stand beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.data.source_trees import JPEG, classes, write_tree
from tests.stages.built import build, built, labels_by_image, refused

ROWS = [("a/1.jpg", "cat", "one"), ("a/2.jpg", "dog", "two"), ("b/3.jpg", "cat", "three")]
IDS = {"cat": 0, "dog": 1}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "images", [path for path, _, _ in ROWS])


def content(images: Path, path: str) -> bytes:
    return (images / path).read_bytes()


def as_text(path: Path, names: tuple[str, str, str], rows: list[tuple[str, str, str]]) -> Path:
    if path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        lines = [mark.join(row) for row in (names, *rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_a_list_names_images_with_classes_and_keys(
    suffix: str, images: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    source = as_text(images / f"list.{suffix}", ("path", "label", "key"), ROWS)
    build(command_line, source, tmp_path / "out")
    found = built(tmp_path / "out")
    assert found.keys() == {"one", "two", "three"}
    for path, label, key in ROWS:
        assert found[key].image == content(images, path)
        assert (found[key].label, found[key].said["class_name"]) == (IDS[label], label)
        assert found[key].said["filename"] == path
    assert (tmp_path / "out" / "classes.txt").read_text() == "cat\ndog\n"


def test_columns_and_the_root_of_paths_can_be_named(images: Path, tmp_path: Path, command_line: CommandLine) -> None:
    source = as_text(tmp_path / "list.csv", ("Where", "What", "id"), ROWS)
    named = ("--image-column", "Where", "--label-column", "What", "--key-column", "", "--root", str(images))
    build(command_line, source, tmp_path / "out", *named)
    assert built(tmp_path / "out").keys() == {"000000000", "000000001", "000000002"}
    assert labels_by_image(tmp_path / "out") == {content(images, path): IDS[label] for path, label, _ in ROWS}


def test_numbers_are_labels_as_they_are(images: Path, tmp_path: Path, command_line: CommandLine) -> None:
    rows = [(path, str(number), "") for (path, _, _), number in zip(ROWS, (1, 3, 1), strict=True)]
    source = as_text(images / "list.csv", ("path", "label", "other"), rows)
    ended = build(command_line, source, tmp_path / "out")
    assert set(labels_by_image(tmp_path / "out").values()) == {1, 3}
    assert (tmp_path / "out" / "classes.txt").read_text() == "0\n1\n2\n3\n"
    assert "images of 2 of 4 classes of the numbers up to the highest label; none of 0, 2" in ended.err
    assert "--first-label 1" in ended.err
    build(command_line, source, tmp_path / "from1", "--first-label", "1")
    assert set(labels_by_image(tmp_path / "from1").values()) == {0, 2}
    assert (tmp_path / "from1" / "classes.txt").read_text() == "1\n2\n3\n"


def test_a_class_list_says_what_numbers_and_names_are(images: Path, tmp_path: Path, command_line: CommandLine) -> None:
    (tmp_path / "wordnet.txt").write_text("n01440764\ttench\nn02119789\tkit fox\nn02100735\tEnglish setter\n")
    listed = ("--class-list", str(tmp_path / "wordnet.txt"))
    numbers = as_text(images / "numbers.csv", ("path", "label", "other"), [("a/1.jpg", "1", ""), ("a/2.jpg", "2", "")])
    names = as_text(images / "names.csv", ("path", "label", "other"), [("b/3.jpg", "Kit Fox", "")])
    build(command_line, numbers, names, tmp_path / "out", *listed)
    expected = {"a/1.jpg": 1, "a/2.jpg": 2, "b/3.jpg": 1}
    assert labels_by_image(tmp_path / "out") == {content(images, path): label for path, label in expected.items()}
    assert (tmp_path / "out" / "classes.txt").read_text() == "n01440764\nn02119789\nn02100735\n"
    assert next(iter(built(tmp_path / "out").values())).said["wnid"].startswith("n0")
    too_high = as_text(images / "high.csv", ("path", "label", "other"), [("a/1.jpg", "3", "")])
    assert "Found: 3. Expected: 0 to 2" in refused(command_line, too_high, tmp_path / "other", *listed)
    unknown = as_text(images / "unknown.csv", ("path", "label", "other"), [("a/1.jpg", "okapi", "")])
    assert "'okapi'" in refused(command_line, unknown, tmp_path / "other", *listed)
    assert "other classes than the class list" in refused(
        command_line, numbers, tmp_path / "out", "--split", "val", "--class-list", "imagenet"
    )


def test_numbers_that_are_names_of_other_classes_have_to_be_told(
    images: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    rows = [("a/1.jpg", "1", ""), ("a/2.jpg", "2", "")]
    source = as_text(images / "list.csv", ("path", "label", "other"), rows)
    (tmp_path / "classes.txt").write_text("1\n2\n3\n")
    listed = ("--class-list", str(tmp_path / "classes.txt"))
    told = refused(command_line, source, tmp_path / "out", *listed)
    assert "a/1.jpg. Found: label 1: as a number it is class '2', as a name it is class '1', whose number is 0" in told
    assert "--labels-are numbers, which count from 0, or --labels-are names" in told
    build(command_line, source, tmp_path / "out", *listed, "--labels-are", "names")
    assert labels_by_image(tmp_path / "out") == {content(images, "a/1.jpg"): 0, content(images, "a/2.jpg"): 1}
    assert "another build" in refused(command_line, source, tmp_path / "out", *listed, "--labels-are", "numbers")
    build(command_line, source, tmp_path / "numbers", *listed, "--labels-are", "numbers")
    assert labels_by_image(tmp_path / "numbers") == {content(images, "a/1.jpg"): 1, content(images, "a/2.jpg"): 2}
    build(command_line, source, tmp_path / "same", *listed, "--first-label", "1")
    assert set(labels_by_image(tmp_path / "same").values()) == {0, 1}


def test_names_that_are_numbers_keep_their_spelling(images: Path, tmp_path: Path, command_line: CommandLine) -> None:
    folders = write_tree(tmp_path / "folders", classes("001", "010"))
    build(command_line, folders, tmp_path / "out")
    rows = [("a/1.jpg", "010", ""), ("a/2.jpg", "001", "")]
    source = as_text(images / "list.csv", ("path", "label", "other"), rows)
    val = ("--split", "val")
    assert "label 1: as a number it is class '010'" in refused(command_line, source, tmp_path / "out", *val)
    build(command_line, source, tmp_path / "out", *val, "--labels-are", "names")
    expected = {content(images, "a/1.jpg"): 1, content(images, "a/2.jpg"): 0}
    assert labels_by_image(tmp_path / "out", "val") == expected
    build(command_line, source, folders, tmp_path / "merged", "--labels-are", "names")
    assert (tmp_path / "merged" / "classes.txt").read_text() == "001\n010\n"


def test_what_is_no_label_is_shown(images: Path, tmp_path: Path, command_line: CommandLine) -> None:
    out = tmp_path / "out"
    rows = [("a/1.jpg", "-1", ""), ("a/2.jpg", "1e1", ""), ("b/3.jpg", "nan", "")]
    source = as_text(images / "a.csv", ("path", "label", "x"), rows)
    told = refused(command_line, source, out)
    assert "Found: 3 of 3: a/1.jpg ('-1'), a/2.jpg ('1e1'), b/3.jpg ('nan'). " in told
    (images / "a.jsonl").write_text('{"path": "a/1.jpg", "label": true}\n{"path": "a/2.jpg", "label": null}\n')
    assert "2 of 2: a/1.jpg (true), a/2.jpg. " in refused(command_line, images / "a.jsonl", out)
    (images / "nul.csv").write_bytes(b"path,label\na/1.jpg,ca\0t\n")
    assert "a/1.jpg ('ca\\x00t')" in refused(command_line, images / "nul.csv", out)
    mixed = as_text(images / "mixed.csv", ("path", "label", "x"), [("a/1.jpg", "1", ""), ("a/2.jpg", "cat", "")])
    told = refused(command_line, mixed, out, "--labels-are", "numbers")
    assert "1 of 2: a/2.jpg ('cat')" in told
    build(command_line, source, out, "--labels-are", "names")
    assert (out / "classes.txt").read_text() == "-1\n1e1\nnan\n"


def test_what_a_list_says_twice_or_in_two_ways_is_told(images: Path, tmp_path: Path, command_line: CommandLine) -> None:
    tidy = as_text(images / "tidy.csv", ("path", "label", "x"), ROWS)
    assert "listed more than once" not in build(command_line, tidy, tmp_path / "tidy").err
    rows = [*ROWS, ("a/1.jpg", "dog", ""), ("a/../a/1.jpg", "cat", ""), ("b/3.jpg", "cat", "")]
    twice = as_text(images / "twice.csv", ("path", "label", "x"), rows)
    ended = build(command_line, twice, tmp_path / "twice")
    assert "2 images are listed more than once, 1 of them with different labels; each row is a sample" in ended.err
    assert len(built(tmp_path / "twice")) == len(rows)
    ended = build(command_line, twice, tmp_path / "unlabelled", "--unlabelled")
    assert "2 images are listed more than once; each row is a sample" in ended.err
    rows = [("a/1.jpg", "0", ""), ("a/2.jpg", "cat", ""), ("b/3.jpg", "1", "")]
    mixed = as_text(images / "mixed.csv", ("path", "label", "x"), rows)
    ended = build(command_line, mixed, tmp_path / "mixed")
    assert "labels are taken as names, although those of 2 of 3 rows are numbers: 0, 1" in ended.err
    assert "although" not in build(command_line, mixed, tmp_path / "names", "--labels-are", "names").err


def test_a_later_split_keeps_the_classes(images: Path, tmp_path: Path, command_line: CommandLine) -> None:
    build(command_line, as_text(images / "list.csv", ("path", "label", "key"), ROWS), tmp_path / "out")
    val = as_text(images / "val.csv", ("path", "label", "key"), [("a/2.jpg", "DOG", "x")])
    build(command_line, val, tmp_path / "out", "--split", "val")
    assert set(labels_by_image(tmp_path / "out", "val").values()) == {1}


def test_what_a_list_lacks_is_named(images: Path, tmp_path: Path, command_line: CommandLine) -> None:
    out = tmp_path / "out"

    def told(name: str, text: str, *options: str) -> str:
        (images / name).write_text(text)
        return refused(command_line, images / name, out, *options)

    no_label = told("a.csv", "path,kind\na/1.jpg,cat\n")
    assert "no column of a table is known to hold labels" in no_label
    assert "Found: the columns path, kind. " in no_label
    assert "--label-column" in no_label
    assert "--unlabelled" in no_label
    assert "Expected: the column breed" in told("a.csv", "path,label\na/1.jpg,cat\n", "--label-column", "breed")
    no_path = told("a.csv", "where;label\na/1.jpg;cat\n")
    assert "Found: the columns where, label. " in no_path
    assert "--image-column" in no_path
    assert "row 1" in told("a.csv", "path,label\nb/1.jpg,cat\n")
    assert "--root" in told("a.csv", "path,label\nb/1.jpg,cat\n")
    assert "1 of 2: a/2.jpg" in told("a.csv", "path,label\na/1.jpg,cat\na/2.jpg,\n")
    assert "has no rows" in told("a.csv", "path,label\n")
    assert "line 2" in told("a.jsonl", '{"path": "a/1.jpg", "label": 1}\n[1]\n')
    (images / "b.csv").write_bytes(b"path,label\na/1.jpg,\xff\xfe\n")
    assert "text in UTF-8" in refused(command_line, images / "b.csv", out)
    twice = told("a.csv", "path,label,id\na/1.jpg,cat,7\na/2.jpg,dog,7\n")
    assert "samples would share their keys" in twice
    assert "--key-column ''" in twice
    assert "has no key" in told("a.csv", "path,label,id\na/1.jpg,cat,\n")
    assert "leave most numbers out" in told("a.csv", "path,label\na/1.jpg,999999\n")
    assert "no folders that could be splits" in told("a.csv", "path,label\na/1.jpg,cat\n", "--split-from-folders")


def test_columns_of_one_name_are_refused_where_they_are_used(
    images: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    twice = images / "twice.csv"
    twice.write_text("path,label,note,note,label\na/1.jpg,x,1,2,cat\nb/3.jpg,x,1,2,dog\n")
    told = refused(command_line, twice, tmp_path / "out")
    assert "several columns of a table have the same name" in told
    assert "Found: 2 columns label. " in told
    twice.write_text("path,label,note,note\na/1.jpg,cat,1,2\nb/3.jpg,dog,1,2\n")
    build(command_line, twice, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--label-column", "breed"), "--label-column"),
        (("--first-label", "1"), "--first-label"),
        (("--labels-are", "names"), "--labels-are"),
        (("--source-split", "val"), "--source-split"),
    ],
    ids=["columns", "numbers", "kind of labels", "split"],
)
def test_options_that_no_source_has_a_use_for_are_refused(
    options: tuple[str, str], named: str, tmp_path: Path, command_line: CommandLine
) -> None:
    source = write_tree(tmp_path / "source", classes("cat", "dog"))
    told = refused(command_line, source, tmp_path / "out", *options)
    assert "an option fits none of the sources" in told
    assert named in told


def test_labels_are_those_of_no_list(images: Path, tmp_path: Path, command_line: CommandLine) -> None:
    source = as_text(images / "list.csv", ("path", "label", "key"), ROWS)
    assert "ImageNet's validation images among" in refused(command_line, source, tmp_path / "out", "--labels", source)


def test_a_row_that_names_no_image_is_left_out_and_told(
    images: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    (images / "notes.txt").write_text("text")
    source = as_text(
        images / "a.csv", ("path", "label", "x"), [*ROWS, ("notes.txt", "cat", ""), ("", "cat", ""), (".", "cat", "")]
    )
    ended = build(command_line, source, tmp_path / "out")
    counts = json.loads(ended.out.splitlines()[-1])
    assert counts["left_out"] == {"not_an_image": 1, "row_without_image": 1, "row_names_a_folder": 1}
    assert "rows of a table that name a folder (1): . (row 6)" in ended.err
    assert counts["left_out_by_suffix"] == {".txt": 1}


def test_labels_beside_images_are_pointed_out(tmp_path: Path, command_line: CommandLine) -> None:
    source = write_tree(tmp_path / "images", ["train/1.jpg", "train/2.jpg"])
    (source / "train" / "metadata.csv").write_text("file_name,label\n1.jpg,cat\n2.jpg,dog\n")
    advice = f"if {source}/train/metadata.csv has the labels, give it as the source"
    assert advice in refused(command_line, source, tmp_path / "out")
    told = refused(command_line, source / "train", tmp_path / "out")
    assert advice in told
    assert "give the folder above; for ImageNet's validation images" in told
    build(command_line, source / "train" / "metadata.csv", tmp_path / "out")


def test_sources_are_merged_by_the_names_of_classes(images: Path, tmp_path: Path, command_line: CommandLine) -> None:
    listed = as_text(images / "list.csv", ("path", "label", "x"), ROWS)
    folders = write_tree(tmp_path / "folders", classes("dog", "eel"), JPEG + b"2")
    build(command_line, listed, folders, tmp_path / "out")
    assert (tmp_path / "out" / "classes.txt").read_text() == "cat\ndog\neel\n"
    labels = labels_by_image(tmp_path / "out")
    assert labels[content(images, "a/2.jpg")] == labels[(folders / "dog" / "0.jpg").read_bytes()] == 1
    assert sorted(labels.values(), key=str) == [0, 0, 1, 1, 1, 2, 2]
    numbers = as_text(images / "numbers.csv", ("path", "label", "x"), [("a/1.jpg", "0", "")])
    clash = refused(command_line, numbers, folders, tmp_path / "other")
    assert "numbers.csv: numbers; folders: names of folders or archives" in clash
    assert "--class-list" in clash


def test_a_build_of_a_list_is_the_same_again_and_goes_on(
    images: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    source = as_text(images / "list.csv", ("path", "label", "key"), ROWS)
    size = ("--samples-per-shard", "1")
    build(command_line, source, tmp_path / "out", *size)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.tar")}
    (tmp_path / "out" / "train-000001.tar").unlink()
    build(command_line, source, tmp_path / "out", *size)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.tar")} == before
    other = as_text(images / "other.csv", ("path", "label", "key"), [ROWS[0], ROWS[1], (*ROWS[2][:2], "other")])
    assert "another build" in refused(command_line, other, tmp_path / "out", *size)
