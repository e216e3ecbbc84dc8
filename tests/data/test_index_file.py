"""An index is kept, is not used for a changed tar, and is made again if it is missing or damaged."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tests.data.tars import sample, write_samples, write_tar
from tinyvit_kd.data.indexing.index_file import load_index
from tinyvit_kd.errors import ShardError


def test_an_index_is_kept_beside_its_tar_and_read_back(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "a.tar", 0, 5)
    made = load_index(path)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["a.tar", "a.tar.idx.npz"]
    kept = load_index(path)
    for name in ("offsets", "sizes", "labels", "key_bytes", "key_ends"):
        assert np.array_equal(getattr(made, name), getattr(kept, name))
    assert made.key_hash == kept.key_hash


def test_an_index_is_made_again_when_its_tar_changes(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "a.tar", 0, 5)
    first = load_index(path)
    write_samples(path, 5, 5)  # the same size, other keys
    second = load_index(path)
    assert [second.key(number) for number in range(5)] == [f"{n:09d}" for n in range(5, 10)]
    assert first.key_hash != second.key_hash


def test_a_label_that_was_corrected_in_the_midst_of_a_tar_is_seen(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "a.tar", 0, 60)
    os.utime(path, (0, 0))  # the clock of a file system may be too coarse for this test
    before = load_index(path)
    content = path.read_bytes()
    write_tar(path, [part for n in range(60) for part in sample(f"{n:09d}", 77 if n == 33 else n)])
    changed = path.read_bytes()
    ends = 1 << 14  # the bytes at each end that a fingerprint covers
    assert (len(changed), changed[:ends], changed[-ends:]) == (len(content), content[:ends], content[-ends:])
    after = load_index(path)
    assert (int(before.labels[33]), int(after.labels[33])) == (33, 77)


@pytest.mark.parametrize("damage", [b"", b"junk", b"PK\x03\x04" + bytes(200)], ids=["empty", "junk", "zip head"])
def test_a_damaged_index_is_made_again(tmp_path: Path, damage: bytes) -> None:
    path = write_samples(tmp_path / "a.tar", 0, 5)
    load_index(path)
    (tmp_path / "a.tar.idx.npz").write_bytes(damage)
    assert len(load_index(path)) == 5
    assert len(np.load(tmp_path / "a.tar.idx.npz")["offsets"]) == 5


def test_shards_of_one_name_share_an_index_folder(tmp_path: Path) -> None:
    for folder, first in (("x", 0), ("y", 50)):
        (tmp_path / folder).mkdir()
        path = write_samples(tmp_path / folder / "a.tar", first, 3)
        load_index(path, tmp_path / "indexes")
        assert not path.with_name("a.tar.idx.npz").exists()
    assert len(list((tmp_path / "indexes").iterdir())) == 2


def test_without_a_place_to_write_the_index_stays_in_memory(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "a.tar", 0, 5)
    (tmp_path / "a.tar.idx.npz").mkdir()  # cannot be written, not even by root
    assert len(load_index(path)) == 5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar", "a.tar.idx.npz"]


def test_an_index_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "a.tar", 0, 5)
    (tmp_path / "file").touch()
    with pytest.raises(ShardError, match="index_dir"):
        load_index(path, tmp_path / "file" / "indexes")
