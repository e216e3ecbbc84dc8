"""Shards are fetched in the order in which they are needed, held while they are read, and let go after that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.data.test_caching import SIZE, cache_of, kept, sources
from tests.processes import wait_until
from tinyvit_kd.batches.dump_tasks import Group
from tinyvit_kd.batches.shard_uses import uses_of
from tinyvit_kd.batches.shards_ahead import following, groups_with_shards
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.caching import shard_cache
from tinyvit_kd.data.caching.ahead import FetchAhead, Use
from tinyvit_kd.data.caching.room import use_of
from tinyvit_kd.data.caching.shard_cache import ShardCache
from tinyvit_kd.data.caching.source import source_info
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.storage.base import FileInfo

__all__ = ["sources"]

ALONE = RuntimeConfig(workers=0)


def is_held(cache: ShardCache, source: str) -> bool:
    with cache._locks.unless_held(use_of(cache.name(source))) as is_free:
        return not is_free


def test_the_next_shards_are_there_before_they_are_needed(tmp_path: Path, sources: list[str]) -> None:
    cache = cache_of(tmp_path)
    with FetchAhead(cache) as ahead:
        tasks = iter(following(ahead, range(60), uses_of(sources[task // 10] for task in range(60)), ALONE))
        next(tasks)
        wait_until(lambda: kept(cache) == {"0.tar", "1.tar", "2.tar"}, "nothing is fetched ahead")
        for _ in range(10):
            next(tasks)
        wait_until(lambda: len(kept(cache)) == 4, "nothing is fetched ahead")
    assert cache.counts.total().fetched == 4 * SIZE


def test_tasks_are_the_same_with_a_cache(tmp_path: Path, sources: list[str]) -> None:
    uses = list(uses_of(sources))
    with FetchAhead(cache_of(tmp_path)) as ahead:
        assert list(following(ahead, range(6), uses, ALONE)) == list(range(6))
    assert list(following(None, range(6), uses, ALONE)) == list(range(6))


def test_within_a_limit_shards_follow_each_other(tmp_path: Path, sources: list[str]) -> None:
    """With room for two shards, one is read and one is fetched, and their sum never exceeds the limit."""
    cache = cache_of(tmp_path, 2)
    largest = 0
    with FetchAhead(cache) as ahead:
        for task in following(ahead, range(60), uses_of(sources[task // 10] for task in range(60)), ALONE):
            source = sources[task // 10]
            assert cache.local_path(source).read_bytes() == Path(source).read_bytes()
            assert is_held(cache, source)
            largest = max(largest, len(kept(cache)) * SIZE)
    assert largest <= 2 * SIZE
    assert not any(is_held(cache, source) for source in sources)
    assert cache.counts.total().fetched == 6 * SIZE


def test_the_note_of_a_copy_stays_while_somebody_lists_the_folder(tmp_path: Path) -> None:
    """Who lists it would otherwise see neither the note nor the copy, and take its room."""
    room, name = cache_of(tmp_path, 2)._room, f"{0:016x}-a.tar"
    assert room.reserve(name, SIZE, lambda _: 0)
    with room._locks.exclusive("room"):
        thread = threading.Thread(target=room.release, args=(name,))
        thread.start()
        thread.join(0.2)
        assert room._reserved(name).exists()
    thread.join()
    assert not room._reserved(name).exists()


def test_shards_whose_readers_were_faster_are_not_fetched_again(tmp_path: Path, sources: list[str]) -> None:
    cache = cache_of(tmp_path, 2)
    ahead = FetchAhead(cache)
    for number in range(4):
        ahead.expect(Use(number, number, sources[number]))
    for number in range(4):
        ahead.reached(number, done=number - 1)
        cache.local_path(sources[number])
    with ahead:
        ahead.start()
        time.sleep(0.2)  # what its threads would do, they would do at once
        assert len(kept(cache)) == 2
    assert cache.counts.total().fetched == 4 * SIZE


def test_a_thread_that_was_overtaken_makes_no_room(
    tmp_path: Path, sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has taken a use, and stands still until all that have room are being read; its shard is needed no more."""
    cache = cache_of(tmp_path, 2)
    asks, goes_on = threading.Event(), threading.Event()

    def slow(location: str, really: Callable[[str], FileInfo | None] = source_info) -> FileInfo | None:
        if threading.current_thread() is not threading.main_thread():
            asks.set()
            goes_on.wait()
        return really(location)

    monkeypatch.setattr(shard_cache, "source_info", slow)
    ahead = FetchAhead(cache, threads=1)
    for number in range(3):
        ahead.expect(Use(number, number, sources[number]))
    ahead.reached(0, done=-1)
    ahead.start()
    asks.wait()
    for number in range(3):
        ahead.reached(number, done=max(1, number - 1))
        cache.local_path(sources[number])
    goes_on.set()
    ahead.close()
    assert kept(cache) == {"1.tar", "2.tar"}
    assert cache.counts.total().fetched == 3 * SIZE


def test_a_later_shard_does_not_take_the_room_of_one_that_is_about_to_be_fetched(
    tmp_path: Path, sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_of(tmp_path, 2)
    cache.local_path(sources[0])

    def slow(location: str, really: Callable[[str], FileInfo | None] = source_info) -> FileInfo | None:
        if threading.current_thread() is threading.main_thread():
            time.sleep(0.1)
        return really(location)

    monkeypatch.setattr(shard_cache, "source_info", slow)
    ahead = FetchAhead(cache)
    for number in range(3):
        ahead.expect(Use(10 * number, 10 * number + 9, sources[number]))
    ahead.reached(0, done=-1)
    timer = threading.Timer(0.02, ahead.start)
    timer.start()
    cache.local_path(sources[1])
    timer.join()
    time.sleep(0.1)
    ahead.close()
    assert kept(cache) == {"0.tar", "1.tar"}
    assert cache.counts.total().fetched == 2 * SIZE


def test_a_shard_is_held_while_any_of_its_uses_lasts(tmp_path: Path, sources: list[str]) -> None:
    cache = cache_of(tmp_path)
    with FetchAhead(cache) as ahead:
        for use in (Use(0, 5, sources[0]), Use(3, 9, sources[0])):
            ahead.expect(use)
        for step, held in ((0, True), (7, True), (10, False)):
            ahead.reached(step, done=step)
            assert is_held(cache, sources[0]) is held


def test_what_cannot_be_fetched_is_left_to_its_reader(tmp_path: Path, sources: list[str]) -> None:
    cache = cache_of(tmp_path)
    Path(sources[0]).unlink()
    with FetchAhead(cache) as ahead:
        for number, source in enumerate(sources):
            ahead.expect(Use(number, number, source))
        ahead.start()
        wait_until(lambda: len(kept(cache)) == 5, "the others are not fetched")


@pytest.mark.parametrize("samples", [3, 100])
@pytest.mark.usefixtures("sources")
def test_a_dump_claims_one_group_more_and_makes_all(tmp_path: Path, samples: int) -> None:
    shards = ShardSet.load(
        f"{tmp_path}/far/{{0..5}}.tar", cache_dir=tmp_path / "cache", cache_bytes=2 * SIZE, cache_local=True
    )
    groups = [Group(shard, (view,), samples) for shard in range(6) for view in range(3)]
    claimed: list[Group] = []

    def claims() -> Iterator[Group]:
        for group in groups:
            claimed.append(group)
            yield group

    with groups_with_shards(shards, claims(), ALONE, 10) as here:
        for number, group in enumerate(here):
            assert group == groups[number]
            assert len(claimed) <= number + 2
    assert claimed == groups
