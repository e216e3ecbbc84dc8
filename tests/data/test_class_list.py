"""Class lists and the maps between them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinyvit_kd.data.class_list import ClassList, class_map, load_class_list
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


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="imagenet22k"):
        load_class_list("imagenet23k")


def test_reading_shards_and_lists_loads_neither_torch_nor_timm() -> None:
    code = "import sys, tinyvit_kd.data.check, tinyvit_kd.data.build, tinyvit_kd.data.class_list as labels;"
    code += "labels.load_class_list('imagenet'); assert not {'torch', 'timm', 'webdataset'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
