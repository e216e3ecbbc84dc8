"""A cache of shards: one copy for all processes, within its limit, and nothing that is in use is removed."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fault_injection.disk import small_disk
from tests.processes import wait_until
from tinyvit_kd.data.caching.room import FETCHED, RESERVED
from tinyvit_kd.data.caching.shard_cache import ShardCache, Want
from tinyvit_kd.data.caching.source import fetch_shard
from tinyvit_kd.errors import DiskSpaceError, ShardError
from tinyvit_kd.runtime.shared_disks import LOCKS
from tinyvit_kd.storage.base import FileInfo
from tinyvit_kd.storage.local import LocalStorage

KIB = 1 << 10
FORK = multiprocessing.get_context("fork")
SIZE = 10 * KIB  # of a tar of zeros, which is an empty one


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    """Paths of six shards of one size."""
    folder = tmp_path / "far"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.tar").write_bytes(bytes(512) + bytes([number]) * (SIZE - 512))
    return [str(folder / f"{number}.tar") for number in range(6)]


def cache_of(tmp_path: Path, shards: int | None = None) -> ShardCache:
    """A cache with room for so many shards."""
    return ShardCache(tmp_path / "cache", None if shards is None else shards * SIZE, copies_paths=True)


def in_a_process(target: Any, *arguments: Any) -> None:
    """Call a function in a process of its own, which must not fail."""
    process = FORK.Process(target=target, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0


def kept(cache: ShardCache) -> set[str]:
    """The names of the shards whose copies are there."""
    return {path.name.partition("-")[2] for path in cache.folder.glob("*.tar")}


def test_a_copy_is_made_once_and_has_the_same_bytes(tmp_path: Path, sources: list[str]) -> None:
    cache = cache_of(tmp_path)
    copy = cache.local_path(sources[3])
    assert copy.read_bytes() == Path(sources[3]).read_bytes()
    Path(sources[3]).unlink()
    assert cache.local_path(sources[3]) == copy
    assert pickle.loads(pickle.dumps(cache)).local_path(sources[3]) == copy
    assert cache.counts.total()[:2] == (1, 1)


def test_without_a_limit_nothing_is_removed(tmp_path: Path, sources: list[str]) -> None:
    cache = cache_of(tmp_path)
    for source in sources:
        cache.local_path(source)
    assert len(kept(cache)) == 6
    assert cache.counts.total().evicted == 0


def test_the_copy_that_was_used_longest_ago_makes_room(tmp_path: Path, sources: list[str]) -> None:
    cache = cache_of(tmp_path, 2)
    for number in (0, 1, 0, 2):
        cache.local_path(sources[number])
    assert kept(cache) == {"0.tar", "2.tar"}
    assert cache.counts.total().evicted == SIZE
    assert cache.counts.total().fetched == 3 * SIZE


def _hold(cache: ShardCache, source: str, ready: Any) -> None:
    cache.hold(source)
    ready.set()
    time.sleep(600)


@pytest.mark.parametrize("locks", ["on", "off"])
def test_a_held_copy_is_not_removed_whoever_holds_it(
    tmp_path: Path, sources: list[str], monkeypatch: pytest.MonkeyPatch, locks: str
) -> None:
    monkeypatch.setenv(LOCKS, locks)  # for shared disks: the cache is on one of this machine
    cache = cache_of(tmp_path, 2)
    cache.local_path(sources[0])
    ready = FORK.Event()
    holder = FORK.Process(target=_hold, args=(cache, sources[0], ready))
    holder.start()
    assert ready.wait(60)
    cache.hold(sources[1])
    for number in (1, 2, 3):
        cache.local_path(sources[number])
    # There is no room for a third one beside the two that are held; it is fetched, as it is asked for.
    assert kept(cache) == {"0.tar", "1.tar", "3.tar"}
    holder.kill()
    holder.join()
    cache.local_path(sources[4])
    assert kept(cache) == {"1.tar", "4.tar"}


def test_a_shard_that_is_fetched_ahead_takes_no_room_from_those_that_are_needed_before(
    tmp_path: Path, sources: list[str]
) -> None:
    cache = cache_of(tmp_path, 2)
    steps = {cache.name(source): float(number) for number, source in enumerate(sources)}
    for number in (1, 4):
        cache.local_path(sources[number])
    assert not cache.fetch_ahead(sources[5], Want(steps.__getitem__, 5))
    assert kept(cache) == {"1.tar", "4.tar"}
    assert cache.fetch_ahead(sources[2], Want(steps.__getitem__, 2))
    assert kept(cache) == {"1.tar", "2.tar"}
    assert cache.fetch_ahead(sources[5], Want(steps.__getitem__))
    assert "5.tar" in kept(cache)


def test_an_open_copy_can_be_read_to_its_end_after_it_was_removed(tmp_path: Path, sources: list[str]) -> None:
    cache = cache_of(tmp_path, 1)
    with cache.local_path(sources[0]).open("rb") as file:
        cache.local_path(sources[1])
        assert kept(cache) == {"1.tar"}
        assert file.read() == Path(sources[0]).read_bytes()


def test_other_files_in_the_folder_are_neither_counted_nor_removed(tmp_path: Path, sources: list[str]) -> None:
    cache = cache_of(tmp_path, 1)
    cache.folder.mkdir()
    (cache.folder / "mine.tar").write_bytes(bytes(5 * SIZE))
    for number in (0, 1):
        cache.local_path(sources[number])
    assert kept(cache) >= {"1.tar"}
    assert (cache.folder / "mine.tar").exists()


def test_a_shard_that_has_been_replaced_is_copied_again(tmp_path: Path, sources: list[str]) -> None:
    cache = cache_of(tmp_path)
    cache.local_path(sources[0])
    time.sleep(0.02)
    Path(sources[0]).write_bytes(bytes(SIZE))
    status = os.stat(sources[0])
    copy = cache.local_path(sources[0], FileInfo(status.st_size, status.st_mtime_ns))
    assert copy.read_bytes() == bytes(SIZE)
    assert cache.counts.total().waits == 2


def test_a_copy_that_comes_back_has_the_time_that_its_index_knows(tmp_path: Path, sources: list[str]) -> None:
    """Of a command nobody knows the time of what it gives."""
    cache = cache_of(tmp_path, 1)
    copy = cache.local_path(f"pipe:cat {sources[0]}")
    time_of_copy = copy.stat().st_mtime_ns
    copy.with_name(copy.name + ".idx.npz").write_bytes(b"")
    time.sleep(0.02)
    cache.local_path(sources[1])
    assert not copy.exists()
    assert cache.local_path(f"pipe:cat {sources[0]}").stat().st_mtime_ns == time_of_copy
    assert kept(cache) == {"0.tar"}


def _open_all(cache: ShardCache, sources: list[str]) -> None:
    for source in sources:
        assert cache.local_path(source).stat().st_size == SIZE


def test_processes_that_want_a_shard_at_once_fetch_it_once(tmp_path: Path, sources: list[str]) -> None:
    cache = cache_of(tmp_path)
    log = tmp_path / "log"
    urls = [f"pipe:echo {number} >> {log}; sleep 0.1; cat {source}" for number, source in enumerate(sources)]
    processes = [FORK.Process(target=_open_all, args=(cache, urls)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert sorted(log.read_text().split()) == list("012345")
    assert cache.counts.total().fetched == 6 * SIZE


def test_when_the_process_that_fetches_is_killed_another_one_goes_on(tmp_path: Path, sources: list[str]) -> None:
    cache = cache_of(tmp_path, 3)
    hanging = tmp_path / "hanging"
    hanging.touch()
    url = f"pipe:head -c 5000 {sources[0]}; while [ -e {hanging} ]; do sleep 0.05; done; tail -c +5001 {sources[0]}"
    process = FORK.Process(target=_open_all, args=(cache, [url]))
    process.start()
    wait_until(lambda: list(cache.folder.glob(f".*{FETCHED}*")), "nothing is fetched")
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert list(cache.folder.glob(f".*{RESERVED}"))
    hanging.unlink()
    cache.local_path(sources[1])  # looks for what others have left
    assert not [path for path in cache.folder.iterdir() if FETCHED in path.name or RESERVED in path.name]
    assert cache.local_path(url).read_bytes() == Path(sources[0]).read_bytes()


def test_a_full_disk_is_told_in_a_paragraph_and_leaves_nothing_behind(tmp_path: Path, sources: list[str]) -> None:
    large = tmp_path / "large.tar"
    with large.open("wb") as file:
        file.truncate(1 << 30)
    with small_disk(tmp_path / "small") as disk:
        if not disk.kind.startswith("a tmpfs"):
            pytest.skip("no file system may be mounted here")
        in_a_process(_fill_the_disk, tmp_path / "small", str(large), sources[0])


def _fill_the_disk(folder: Path, large: str, small: str) -> None:
    cache = ShardCache(folder, copies_paths=True)
    with pytest.raises(DiskSpaceError, match="cache of shards is full") as told:
        cache.local_path(large)
    assert "shards.cache_gib" in told.value.fix
    assert [path.name for path in cache.folder.iterdir()] == [".locks"]
    assert cache.local_path(small).exists()


def test_on_a_disk_that_is_fuller_than_the_limit_says_copies_make_room(
    tmp_path: Path, sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_of(tmp_path, 100)
    cache.local_path(sources[0])
    tried = []

    def full_once(location: str, path: Path) -> None:
        tried.append(location)
        if len(tried) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        fetch_shard(location, path)

    monkeypatch.setattr("tinyvit_kd.data.caching.shard_cache.fetch_shard", full_once)
    cache.local_path(sources[1])
    assert kept(cache) == {"1.tar"}


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="missing"):
        cache_of(tmp_path).local_path(str(tmp_path / "none.tar"))


def test_without_locks_two_that_fetch_the_same_shard_both_end_well(
    tmp_path: Path, sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    def slowly(self: LocalStorage, *where: Any, really: Any = LocalStorage.read_range) -> bytes:
        time.sleep(0.1)
        found: bytes = really(self, *where)
        return found

    monkeypatch.setattr("tinyvit_kd.runtime.range_locks.fcntl.lockf", refuse)
    monkeypatch.setattr(LocalStorage, "read_range", slowly)
    both = [FORK.Process(target=fetch_after, args=(cache_of(tmp_path, 4), sources[0], wait)) for wait in (0.0, 0.05)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert cache_of(tmp_path, 4).path(sources[0]).read_bytes() == Path(sources[0]).read_bytes()


def fetch_after(cache: ShardCache, source: str, seconds: float) -> None:
    """Wait, and ask for a shard."""
    time.sleep(seconds)
    cache.local_path(source)


@pytest.mark.parametrize("shards", [4, None])
def test_a_cache_that_somebody_has_removed_is_made_anew(tmp_path: Path, sources: list[str], shards: int | None) -> None:
    cache = cache_of(tmp_path, shards)
    cache.local_path(sources[0])
    shutil.rmtree(cache.folder)
    assert cache.local_path(sources[0]).is_file()
