"""Class lists and the maps between them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyvit_kd.data.labels.class_list import ClassList, class_map, load_class_list, parse_class_list
from tinyvit_kd.errors import ConfigError


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("imagenet", 1000),
        ("imagenet22k", 21841),
        ("imagenet21k_goog", 21843),
        ("imagenet22k_ms", 21842),
        ("imagenet12k", 11821),
    ],
)
def test_lists_of_timm_are_known_by_name(name: str, count: int) -> None:
    classes = load_class_list(name)
    assert (classes.name, len(classes.ids)) == (name, count)


def test_the_22k_classes_lack_exactly_one_1k_class() -> None:
    source, target = load_class_list("imagenet22k"), load_class_list("imagenet")
    positions = class_map(source, target)
    assert positions.dtype == np.int64
    assert np.flatnonzero(positions < 0).tolist() == [850]
    assert target.ids[850] == "n04399382"
    assert all(source.ids[p] == target.ids[i] for i, p in enumerate(positions.tolist()) if p >= 0)


def test_a_list_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "pets.txt").write_text("tabby cat\ndog\n\n")
    classes = load_class_list(str(tmp_path / "pets.txt"))
    assert classes == ClassList("pets", ("tabby cat", "dog"))
    assert class_map(classes, ClassList("x", ("dog", "bird"))).tolist() == [1, -1]


@pytest.mark.parametrize(
    ("source", "target", "positions"),
    [
        pytest.param(("dog", "caf\u00e9"), ("cafe\u0301", "dog"), [1, 0], id="composed-decomposed"),
        pytest.param(("dog", "cafe\u0301"), ("caf\u00e9", "dog"), [1, 0], id="decomposed-composed"),
        pytest.param(("caf\u00e9", "cafe\u0301"), ("cafe\u0301", "caf\u00e9"), [1, 0], id="both-forms-in-both"),
        pytest.param(("caf\u00e9",), ("cafe\u0301", "caf\u00e9"), [-1, 0], id="both-forms-in-target"),
        pytest.param(("cafe\u0301", "caf\u00e9"), ("caf\u00e9",), [1], id="both-forms-in-source"),
        pytest.param(("cafe",), ("caf\u00e9",), [-1], id="another-letter"),
    ],
)
def test_classes_whose_ids_differ_in_their_form_of_unicode_are_the_same(
    source: tuple[str, ...], target: tuple[str, ...], positions: list[int]
) -> None:
    assert class_map(ClassList("a", source), ClassList("b", target)).tolist() == positions


def test_the_hash_follows_from_the_ids_alone() -> None:
    assert ClassList("a", ("x", "y")).hash == ClassList("b", ("x", "y")).hash
    assert ClassList("a", ("x", "y")).hash != ClassList("a", ("y", "x")).hash
    assert len(ClassList("a", ("x",)).hash) == 16


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"a\n\nb\n", "empty line"),
        (b"a\nb\na\n", "repeated lines: a"),
        (b"\xff\xfe\x00", "cannot read"),
    ],
)
def test_what_is_not_a_list_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_class_list(str(tmp_path / "list.txt"))


PLAIN = b"n01440764\nn01443537\n"


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        b"\xef\xbb\xbf" + PLAIN,
        PLAIN.replace(b"\n", b"\r\n"),
        PLAIN.replace(b"\n", b"\r"),
        PLAIN.decode().encode("utf-16"),
        PLAIN.decode().encode("utf-16-be"),
        PLAIN + b"\0",
        b"n01440764\ttench, Tinca tinca\nn01443537\tgoldfish\n",
        b"n01440764\ttench\ta fish\nn01443537\n",
        b"n01440764 tench, Tinca tinca\nn01443537 goldfish\n",
        b"1\tn01443537\tgoldfish\n0\tn01440764\ttench\n",
        b'{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}',
        b'\xef\xbb\xbf {"1": "n01443537", "0": "n01440764"}',
        b'["n01440764", "n01443537"]',
        b'[["n01440764", "tench"], ["n01443537"]]',
        b'{"n01443537": 1, "n01440764": 0}',
    ],
    ids=repr,
)
def test_lists_are_read_in_the_forms_in_which_they_are_passed_around(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    classes = load_class_list(str(tmp_path / "list.txt"))
    assert classes == ClassList("list", ("n01440764", "n01443537"))
    assert classes.hash == "73e1cb8df39273b7"
    assert classes.find("tench") == 0
    assert pickle.loads(pickle.dumps(classes)).find("tench") == 0


@pytest.mark.parametrize(
    "lines",
    [
        "tabby cat\ndog\n",
        "0\n1\n10\n2\n",
        "n01440764 tench\ndog\n",
        "0 tench\n1 dog\n",
        " a \n b, c\n",
        "[unknown]\ncat\n{x}\n",
        "é\ne\u0301\n",
    ],
    ids=repr,
)
def test_plain_lists_are_their_stripped_lines_as_ever(tmp_path: Path, lines: str) -> None:
    (tmp_path / "list.txt").write_text(lines, encoding="utf-8")
    ids = tuple(line.strip() for line in lines.splitlines())
    assert load_class_list(str(tmp_path / "list.txt")) == parse_class_list("list", lines, "") == ClassList("list", ids)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"caf\xe9\n", r"no text in UTF-8 or UTF-16.*byte 0xe9 at 3.*save it as plain text"),
        (b"a\0b\n", "a NUL"),
        (b"a\nb\nb\na\n", r"repeated lines: a \(lines 1 and 4\), b \(lines 2 and 3\)"),
        (b"a\tx\na\ty\n", "repeated lines: a"),
        (b"a\tx\n\nb\n", "an empty line, at line 2"),
        (b"1\ta\n2\tb\n", "class numbers from 1 to 2.*from 0 to 1"),
        (b"0\ta\n2\tb\n", "no class number 1, and the largest is 2.*from 0 to 1 for 2 classes"),
        (b"0\ta\n0\tb\n", "class number 0 more than once"),
        (b'{"0": "a", "0": "b"}', "class number 0 more than once"),
        (b'{"0": "a", "3": "b"}', "no class number 1, and the largest is 3"),
        (b'{"a": 1, "b": 2}', "class numbers from 1 to 2"),
        (b'{"a": 0, "b": 0}', "class number 0 more than once"),
        (b'{"a": "x"}', "fields such as a, of which neither names nor values are the classes' numbers"),
        (b'["a", "a"]', r"repeated names: a \(names 1 and 2\)"),
        (b'["a", 3]', "the value 3 where a class's name should be"),
        (b"{}", "an empty file"),
        (b"{0: 'tench'}", "text that begins like JSON, but is not JSON"),
        (b"[" * 9999, "is not JSON"),
    ],
    ids=repr,
)
def test_what_is_no_list_is_refused_by_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_class_list(str(tmp_path / "list.txt"))
    assert str(tmp_path / "list.txt") in str(caught.value)


def test_names_that_two_classes_have_find_neither() -> None:
    classes = ClassList("birds", ("n1", "n2", "n3"), (("crane",), ("crane, derrick",), ("Crane fly",)))
    assert [classes.find(text) for text in ("crane", "derrick", "crane fly", "N2", "fly", "")] == [0, 1, 2, 1, -1, -1]
    assert ClassList("x", ("a", "A")).find("A") == 1
    assert ClassList("x", ("aB", "AB")).find("ab") == -1


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="imagenet22k"):
        load_class_list("imagenet23k")


def test_reading_shards_and_lists_loads_neither_torch_nor_timm() -> None:
    code = "import sys, tinyvit_kd.data.check, tinyvit_kd.data.building.build;"
    code += "import tinyvit_kd.data.labels.class_list as labels;"
    code += "labels.load_class_list('imagenet'); assert not {'torch', 'timm', 'webdataset'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
