"""Which of a teacher's classes a user's are: read from class lists and mappings, found by id or name, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinyvit_kd.data.labels.class_groups import load_class_groups
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.errors import ConfigError

KNOWN = ClassList(
    "animals",
    ("n1", "n2", "n3", "n4", "n5"),
    (("tabby, tabby cat",), ("tiger cat",), ("beagle",), ("crane",), ("crane", "wader")),
)
MAPPINGS = {
    "m.csv": "teacher,class\nn3,dog\nn1,cat\nn2,cat\n",
    "bare.csv": "n3, dog\nn1, cat\n\nn2, cat\n",
    "quoted.csv": '"beagle","dog"\n"tabby, tabby cat","cat"\n"tiger cat","cat"\n',
    "swapped.csv": "class,teacher\ndog,n3\ncat,n1\ncat,n2\n",
    "m.tsv": "teacher\tclass\nn3\tdog\nn1\tcat\nn2\tcat\n",
    "m.jsonl": '{"teacher": "n3", "class": "dog"}\n'
    '{"teacher": "n1", "class": "cat"}\n{"class": "cat", "teacher": "n2"}\n',
}


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize("name", MAPPINGS)
def test_a_mapping_gives_several_classes_of_the_teacher_to_one(name: str, tmp_path: Path) -> None:
    groups = load_class_groups(written(tmp_path, name, MAPPINGS[name]), "here")
    assert groups.classes.ids == ("dog", "cat")
    assert groups.positions(KNOWN, "here") == ((2,), (0, 1))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "beagle\ntiger cat\nn1\n"),
        ("l.tsv", "x1\tbeagle\nn2\tanother name\nx3\ttabby\n"),
        ("l.csv", "n3\nn2\ntabby\n"),
        ("l.json", '["Beagle", "n2", "tabby"]'),
    ],
)
def test_a_class_list_is_found_by_id_before_name(name: str, text: str, tmp_path: Path) -> None:
    groups = load_class_groups(written(tmp_path, name, text), "here")
    assert groups.positions(KNOWN, "here") == ((2,), (1,), (0,))


def test_one_of_timms_lists_is_known_by_name_and_its_classes_by_theirs(tmp_path: Path) -> None:
    assert load_class_groups("imagenet", "here").classes.ids[0] == "n01440764"
    groups = load_class_groups(written(tmp_path, "fish.txt", "goldfish\ntench\n"), "here")
    assert groups.positions(load_class_groups("imagenet", "here").classes, "here") == ((1,), (0,))


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("l.txt", "beagel\nn1\ncrane\n", ["lacks 2 of the 3 classes", "beagel, near beagle; crane", "animals"]),
        ("m.csv", "n1,cat\nbeagel,dog\n", ["lacks 1 of the 2", "beagel (for dog), near beagle"]),
        (
            "m.csv",
            "n1,cat\ntabby,pet\n",
            ["named twice", "n1 for cat, tabby for pet: both are class 0 of animals"],
        ),
        ("m.csv", "teacher;class\nn1;cat\nn2;dog\n", ["lacks 3 of the 3", "put commas between them", "semicolons"]),
        ("m.csv", "cat,n1\ndog,n2\n", ["lacks 2 of the 2", "for they seem swapped"]),
        ("m.tsv", "x1\tcat\nx2\tdog\n", ["lacks 2 of the 2", "begin it with the header teacher and class"]),
        ("m.csv", "n1,cat\nn1,cat\nn2,dog\n", ["named twice", "n1 for cat, n1 for cat"]),
    ],
)
def test_classes_that_the_teacher_has_not_or_would_count_twice_are_named(
    name: str, text: str, words: list[str], tmp_path: Path
) -> None:
    groups = load_class_groups(written(tmp_path, name, text), "here")
    with pytest.raises(ConfigError) as caught:
        groups.positions(KNOWN, f"here: {name}")
    for word in (*words, f"here: {name}"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.csv", b"n1,cat,pet\n", "3 cells in line 1: n1, cat, pet"),
        ("m.csv", b"teacher,class\nn1,cat\nn2,\n", "1 cells in line 3: n2"),
        ("m.csv", b"teacher,class\n", "no line"),
        ("m.csv", b"\xff\xfe\x00", "no text"),
        ("m.jsonl", b"", "no line"),
        ("m.jsonl", b'{"teacher": "n1"}', 'line 1: {"teacher": "n1"}'),
        ("m.jsonl", b'{"teacher": "n1", "class": 3}', "line 1"),
        ("m.jsonl", b"n1,cat", "line 1: n1,cat"),
        ("m.csv", b"n1,cat\nn2,cat\n", "two classes or more"),
        ("l.txt", b"n1\n", "two classes or more"),
        ("l.txt", b"n1\nn1\n", "repeated lines: n1"),
    ],
)
def test_what_is_neither_is_refused(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_class_groups(str(tmp_path / name), "here")
    assert words in str(caught.value)
    assert name in str(caught.value)


def test_a_list_that_is_not_there_is_told_with_the_field(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such class list") as caught:
        load_class_groups(str(tmp_path / "none.csv"), "teacher.restrict_to")
    assert "teacher.restrict_to" in str(caught.value)
