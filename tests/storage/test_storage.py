"""What every storage does, checked on the local disk and on a storage without folders."""

from __future__ import annotations

import io
import os
import pickle
import resource
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.tars import write_samples
from tests.storage.memory import MemoryStorage
from tests.store.blocks import block_for, manifest_of, same
from tinyvit_kd.errors import ConfigError, DiskSpaceError
from tinyvit_kd.storage.base import Entry, RangeReader, Storage
from tinyvit_kd.storage.local import LocalStorage
from tinyvit_kd.storage.open import BACKENDS, open_storage
from tinyvit_kd.store.check import check_root, check_shard, remove_faults
from tinyvit_kd.store.statistics import statistics
from tinyvit_kd.store.store import LogitStore

Make = Callable[[Path], Storage]
KINDS: dict[str, Make] = {
    "local": lambda folder: LocalStorage(str(folder / "root")),
    "memory": lambda folder: MemoryStorage(f"memory://{folder}"),
}


@pytest.fixture(params=KINDS.values(), ids=list(KINDS))
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    made: Storage = request.param(tmp_path)
    return made


def test_what_is_written_is_read_back_in_parts_and_replaced(storage: Storage) -> None:
    storage.write("a/b.bin", b"0123456789")
    assert storage.read("a/b.bin") == b"0123456789"
    assert storage.read_range("a/b.bin", 3, 4) == b"3456"
    assert storage.read_range("a/b.bin", 8, 4) == b"89"
    assert storage.read_range("a/b.bin", 80, 4) == b""
    storage.write("a/b.bin", memoryview(b"new"), durable=True)
    assert storage.read("a/b.bin") == b"new"


def test_size_and_time_are_those_of_the_file(storage: Storage) -> None:
    before = time.time_ns() - 20_000_000  # clocks of file systems go in steps
    storage.write("a.bin", b"12345")
    info = storage.info("a.bin")
    assert info is not None
    assert info.size == 5
    assert before <= info.modified_ns <= time.time_ns() + 20_000_000


def test_what_is_not_there_is_told_apart_from_what_is(storage: Storage) -> None:
    storage.write("a/b.bin", b"")
    assert storage.info("nothing") is storage.info("a") is storage.info("a/b.bin/c") is None
    assert storage.list("nothing") == storage.list("a/b.bin") == []
    for read in (storage.read, lambda name: storage.read_range(name, 0, 1)):
        with pytest.raises(FileNotFoundError):
            read("nothing")


def test_a_listing_names_what_lies_directly_in_a_folder(storage: Storage) -> None:
    for name in ("b.txt", "a/1.bin", "a/2.bin", "a/deep/3.bin"):
        storage.write(name, b"x")
    assert storage.list() == [Entry("a", "folder"), Entry("b.txt", "file")]
    assert storage.list("a") == [Entry("a/1.bin", "file"), Entry("a/2.bin", "file"), Entry("a/deep", "folder")]
    assert [entry.base for entry in storage.list("a")] == ["1.bin", "2.bin", "deep"]


def test_what_is_removed_is_gone_and_removing_it_again_is_no_fault(storage: Storage) -> None:
    storage.write("a/1.bin", b"x")
    assert storage.remove("a/1.bin")
    assert storage.remove("a/1.bin")
    assert storage.info("a/1.bin") is None


def test_a_copy_in_another_process_reads_the_same(storage: Storage) -> None:
    storage.write("a.bin", b"12345")
    storage.read_range("a.bin", 0, 1)
    assert pickle.loads(pickle.dumps(storage)).read_range("a.bin", 1, 2) == b"23"


def test_a_file_can_be_walked_through_as_a_stream(storage: Storage, tmp_path: Path) -> None:
    content = write_samples(tmp_path / "a.tar", 0, 3).read_bytes()
    storage.write("a.tar", content)
    stream = io.BufferedReader(RangeReader(lambda *span: storage.read_range("a.tar", *span), len(content)))
    with tarfile.open(fileobj=stream, mode="r:") as tar, tarfile.open(tmp_path / "a.tar") as expected:
        assert tar.getnames() == expected.getnames()
    assert stream.seek(-5, io.SEEK_END) == len(content) - 5
    assert stream.read() == content[-5:]


def test_a_store_lives_on_any_storage(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, growth, damage, repair and figures work with the same code as on the local disk."""
    monkeypatch.setitem(BACKENDS, "memory", MemoryStorage)
    store = LogitStore.create(storage.locate(), manifest_of())
    for shard, view in store.missing_blocks():
        store.write_block(shard, view, block_for(store.manifest, shard, view))
    opened = LogitStore.open(storage.locate())
    assert opened.missing_blocks() == []
    assert same(opened.read_block(1, 2), block_for(store.manifest, 1, 2))
    assert LogitStore.create(storage.locate(), manifest_of(views=6)).complete_views() == 4
    assert statistics(opened).blocks == 12
    content = storage.read("s000001/c.2.0.0")
    storage.write("s000001/c.2.0.0", content[:-1] + bytes([content[-1] ^ 1]))
    storage.write("notes.txt", b"")
    report = check_root(opened)
    for shard in range(3):
        report.add(check_shard(opened, shard))
    assert {(fault.kind, fault.name) for fault in report.faults} == {
        ("damaged", "s000001/c.2.0.0"),
        ("foreign", "notes.txt"),
    }
    removed, left = remove_faults(opened, report)
    assert [fault.block for fault in removed] == [(1, 2)]
    assert [fault.name for fault in left] == ["notes.txt"]
    assert opened.missing_blocks() == [(1, 2)]


def test_a_path_and_a_file_url_mean_the_local_disk(tmp_path: Path) -> None:
    for root in (tmp_path, str(tmp_path), f"file://{tmp_path}"):
        assert open_storage(root).is_same(LocalStorage(str(tmp_path)))


def test_a_scheme_without_a_storage_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"Found: gopher://\. Expected: a path, or a URL with one of file://"):
        open_storage("gopher://somewhere/store")


def test_the_local_storage_tells_links_devices_and_folders_apart(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "linked").symlink_to(tmp_path / "folder")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe")
    found = {entry.name: (entry.kind, entry.is_link) for entry in LocalStorage(str(tmp_path)).list()}
    assert found == {
        "folder": ("folder", False),
        "file": ("file", False),
        "link": ("file", True),
        "linked": ("folder", True),
        "nowhere": ("other", True),
        "pipe": ("other", False),
    }


def test_the_local_storage_removes_nothing_that_it_was_not_asked_for(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path / "root"))
    storage.write("folder/precious", b"x")
    (tmp_path / "root" / "empty").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "root" / "folder")
    assert not storage.remove("folder")
    assert not storage.remove("link")
    assert storage.remove("empty")
    assert [entry.name for entry in storage.list()] == ["folder", "link"]
    assert storage.owns("folder/precious")
    assert not LocalStorage(str(tmp_path / "root" / "empty")).owns("../folder/precious")


def test_a_low_limit_of_open_files_costs_time_alone(tmp_path: Path) -> None:
    storage = LocalStorage(str(tmp_path))
    for number in range(40):
        storage.write(f"{number}.bin", bytes([number]))
    used = len(os.listdir("/proc/self/fd"))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, limits[1]))
    try:
        for _ in range(2):
            assert [storage.read_range(f"{number}.bin", 0, 9)[0] for number in range(40)] == list(range(40))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        storage.close()


def test_the_local_storage_knows_its_room(tmp_path: Path) -> None:
    LocalStorage(str(tmp_path)).require_free_space(1)
    with pytest.raises(DiskSpaceError):
        LocalStorage(str(tmp_path)).require_free_space(1 << 60)
