"""What is read ahead is what is there, in any order, and only a few parts are in memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.tars import write_samples
from tests.storage.memory import MemoryStorage
from tinyvit_kd.data import read_ahead
from tinyvit_kd.data.indexing.index import scan_tar
from tinyvit_kd.data.read_ahead import reading_ahead
from tinyvit_kd.data.shard_files import ShardFiles
from tinyvit_kd.storage.open import BACKENDS, open_storage

URL = "memory://read-ahead/a.tar"


@pytest.fixture(autouse=True, scope="module")
def small_parts() -> object:
    """Parts of a hundred bytes, of objects in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKENDS, "memory", MemoryStorage)
        patch.setattr(read_ahead, "PART", 100)
        yield


def _put(content: bytes) -> None:
    open_storage("memory://read-ahead").write("a.tar", content)


@given(
    content=st.binary(max_size=1500),
    reads=st.lists(st.tuples(st.integers(0, 1600), st.integers(0, 400)), max_size=12),
)
def test_any_reads_give_what_is_there(content: bytes, reads: list[tuple[int, int]]) -> None:
    _put(content)
    with ShardFiles() as files, reading_ahead(files, URL) as ahead:
        for offset, size in reads:
            assert ahead.read_at_most(URL, offset, size) == content[offset : offset + size]


def test_each_byte_is_asked_for_once_by_who_reads_from_front_to_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_samples(tmp_path / "a.tar", 0, 50)
    _put(path.read_bytes())
    asked: list[tuple[int, int]] = []
    read_range = MemoryStorage.read_range

    def counted(storage: MemoryStorage, name: str, offset: int, size: int) -> bytes:
        asked.append((offset, size))
        return read_range(storage, name, offset, size)

    monkeypatch.setattr(MemoryStorage, "read_range", counted)
    monkeypatch.setattr(read_ahead, "PART", 1 << 15)
    with ShardFiles() as files, reading_ahead(files, URL) as ahead:
        index = scan_tar(URL, ahead)
    assert index.key_hash == scan_tar(path).key_hash
    assert sum(size for _, size in asked) == path.stat().st_size
    assert len(set(asked)) == len(asked)


def test_memory_does_not_grow_with_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "PART", 1 << 18)
    _put(bytes(40 << 18))
    with ShardFiles() as files, reading_ahead(files, URL) as ahead:
        tracemalloc.start()
        for offset in range(0, 40 << 18, 1 << 14):
            ahead.read_at_most(URL, offset, 1 << 14)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 9 << 18
