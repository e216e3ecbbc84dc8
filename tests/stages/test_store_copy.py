"""``store copy``: parts taken from stores and put together are, byte for byte, the store that one dump makes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.local_files import block_file
from benchmarks.tiny_world import World, make_teacher
from tests.conftest import CommandLine, Ended
from tests.damage import flip
from tests.processes import nobody, readonly_copy, wait_until
from tests.runs.growing_stores import add, begin
from tests.storage.memory import MemoryStorage
from tests.storage.s3 import BUCKET, S3Server, every
from tinyvit_kd.errors import ConfigError, DiskSpaceError, StoreError
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.store.check import check
from tinyvit_kd.stages.store.copy import copy
from tinyvit_kd.storage.local import LocalStorage
from tinyvit_kd.storage.open import BACKENDS
from tinyvit_kd.store.store import LogitStore

VIEWS = 4
Copy = Callable[..., Ended]


@pytest.fixture(scope="module")
def four(dumped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of four views of three shards. Tests must not change it."""
    path = tmp_path_factory.mktemp("four") / "store"
    store = {"path": str(path), "topk": 5, "views": VIEWS}
    dump_logits(World(dumped).dump(store=store), solo_job())
    return path


@pytest.fixture
def run(command_line: CommandLine) -> Copy:
    """The command: its exit code, what it printed, and what it complained of."""

    def command(*arguments: str | Path) -> Ended:
        return command_line("store", "copy", *arguments)

    return command


def files(store: Path) -> dict[str, bytes]:
    """Content of all files of a store by name."""
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def block_names(store: Path) -> set[str]:
    return {name for name in files(store) if "/c." in name}


def test_a_copy_has_the_bytes_of_the_store_and_may_be_copied_again(four: Path, tmp_path: Path, run: Copy) -> None:
    code, out, _ = run(four, tmp_path / "b")
    assert (code, out.splitlines()) == (
        0,
        [out.splitlines()[0], f"{tmp_path / 'b'} has all of 12 blocks"],
    )
    assert out.startswith("copied 12 blocks, ")
    run(tmp_path / "b", tmp_path / "c")
    assert files(tmp_path / "c") == files(tmp_path / "b") == files(four)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    owners=st.lists(st.sets(st.integers(0, 2), min_size=1), min_size=12, max_size=12),
    order=st.permutations([0, 1, 2]),
    together=st.booleans(),
)
def test_parts_put_together_in_any_order_are_the_whole(
    owners: list[set[int]], order: list[int], together: bool, four: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    blocks = sorted(LogitStore.open(four).present_blocks([]))
    for part in range(3):
        begin(four, folder / str(part))
        add(four, folder / str(part), [block for block, who in zip(blocks, owners, strict=True) if part in who])
    sources = [str(folder / str(part)) for part in order]
    if together:
        copy(sources, str(folder / "b"), threads=2)
    else:
        for source in sources:
            copy([source], str(folder / "b"), threads=2)
    assert files(folder / "b") == files(four)
    shutil.rmtree(folder)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    views=st.sets(st.integers(0, VIEWS - 1), min_size=1),
    shards=st.sets(st.integers(0, 2), min_size=1),
)
def test_the_chosen_parts_and_no_others_are_copied(
    views: set[int], shards: set[int], four: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = tmp_path_factory.mktemp("chosen") / "b"
    numbers = [",".join(map(str, each)) for each in (views, shards)]
    copy([str(four)], str(target), views=numbers[0], shards=numbers[1], threads=2)
    assert block_names(target) == {f"s{shard:06d}/c.{view}.0.0" for shard in shards for view in views}
    assert LogitStore.open(target).manifest.views == max(views) + 1
    report = check(target, 1)
    assert report.sound
    assert report.undamaged == len(views) * len(shards)
    shutil.rmtree(target)


def test_the_first_views_are_a_store_of_so_many_views_as_a_dump_of_them_would_be(
    four: Path, dumped: Path, tmp_path: Path
) -> None:
    copy([str(four)], str(tmp_path / "b"), views="0-1")
    assert files(tmp_path / "b") == files(dumped / "store")
    copy([str(four)], str(tmp_path / "b"), views="2-3")  # and grows as that would
    assert files(tmp_path / "b") == files(four)


def test_zarr_reads_a_copy(four: Path, tmp_path: Path) -> None:
    copy([str(four)], str(tmp_path / "b"))
    for name in ("s000000", "s000002"):
        ours, theirs = (np.asarray(zarr.open_array(path / name, mode="r")[:]) for path in (tmp_path / "b", four))
        assert np.array_equal(ours, theirs)


def test_parts_of_a_dump_that_come_together_are_the_store_of_one_dump(world: World) -> None:
    parts = []
    for number in (1, 2):
        store = {"path": str(world.folder / f"part{number}"), "topk": 5, "views": 2}
        dump_logits(world.dump(store=store), solo_job(), (number, 2))
        parts.append(store["path"])
    copy([str(path) for path in parts], str(world.folder / "whole"))
    assert files(world.folder / "whole") == files(world.store)


@pytest.mark.parametrize("spec", ["train-000001.tar", "*1.tar", "1", "1-1", "train-00000[1].tar"])
def test_shards_are_named_by_number_or_name(spec: str, four: Path, tmp_path: Path) -> None:
    copy([str(four)], str(tmp_path / "b"), shards=spec)
    assert {name.partition("/")[0] for name in block_names(tmp_path / "b")} == {"s000001"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--views", "4"), "no such views. Where: --views. Found: 4. Expected: numbers from 0 to 3"),
        (("--views", "3-0"), "no such views"),
        (("--views", "one"), "no such views"),
        (("--views", ""), "no such views"),
        (("--views", "9" * 5000), "no such views"),
        (("--shards", "3"), "no such shards. Where: --shards. Found: 3. Expected: numbers from 0 to 2"),
        (("--shards", "val-*"), "no such shards"),
        (("--shards", "0,\x1b[2J"), "\\x1b[2J"),
    ],
    ids=lambda value: " ".join(value)[:20] if isinstance(value, tuple) else "",
)
def test_parts_that_the_store_does_not_have_are_refused(
    options: tuple[str, str], said: str, four: Path, tmp_path: Path, run: Copy
) -> None:
    code, _, err = run(four, tmp_path / "b", *options)
    assert code == 2
    assert said in err
    assert not (tmp_path / "b").exists()


def test_a_store_is_not_copied_into_itself(four: Path, tmp_path: Path, run: Copy) -> None:
    (tmp_path / "link").symlink_to(four)
    for target in (four, four / ".", tmp_path / "link", four / "inner"):
        code, _, err = run(four, target)
        assert code == 2
        assert "cannot be copied into itself" in err
    assert not (four / "inner").exists()


def test_parts_of_different_stores_are_refused_and_what_differs_is_named(four: Path, world: World, run: Copy) -> None:
    teacher = {"checkpoint": str(make_teacher(world.folder / "second", seed=2))}
    other = str(world.folder / "other")
    dump_logits(world.dump(teacher=teacher, store={"path": other, "topk": 5, "views": 2}), solo_job())
    before = files(Path(other))
    for arguments in ((four, other), (four, other, world.folder / "b")):
        code, _, err = run(*arguments)
        assert code == 2
        assert "teacher.weights_hash" in err
    assert files(Path(other)) == before
    assert not (world.folder / "b").exists()


def test_damaged_blocks_are_named_and_left_out_and_taken_from_another_source(
    four: Path, tmp_path: Path, run: Copy
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(four, broken)
    flip(broken / "s000001" / "c.2.0.0")
    shutil.copyfile(four / "s000001" / "c.0.0.0", broken / "s000001" / "c.1.0.0")
    code, out, _ = run(broken, tmp_path / "b")
    assert code == 1
    assert "damaged in the source, and not copied: 2" in out
    assert f"{broken / 's000001' / 'c.2.0.0'}: a block is damaged" in out
    assert f"{tmp_path / 'b'} has 10 of 12 blocks" in out
    assert run(broken, four, tmp_path / "b").code == 1  # the source is as it was
    assert files(tmp_path / "b") == files(four)


def test_blocks_of_the_target_that_differ_are_kept_and_named_unless_they_are_to_be_replaced(
    four: Path, tmp_path: Path, run: Copy
) -> None:
    target = tmp_path / "b"
    shutil.copytree(four, target)
    flip(target / "s000000" / "c.0.0.0", -1)  # in its checksum
    (target / "s000001" / "c.1.0.0").write_bytes(b"short")
    before = files(target)
    code, out, _ = run(four, target)
    assert code == 1
    assert "--replace writes the source's: 2" in out
    assert files(target) == before
    code, out, _ = run(four, target, "--replace")
    assert code == 0
    assert "copied 2 blocks" in out
    assert "2 of them in place of others; 10 were there already" in out
    assert files(target) == files(four)


def test_damage_inside_a_block_of_the_target_is_found_where_all_is_read_back(
    four: Path, tmp_path: Path, run: Copy
) -> None:
    target = tmp_path / "b"
    shutil.copytree(four, target)
    flip(target / "s000000" / "c.0.0.0", 20)
    assert run(four, target).code == 0  # by size and checksum it is the same
    assert run(four, target, "--verify").code == 1
    assert run(four, target, "--verify", "--replace").code == 0
    assert files(target) == files(four)


class Forgetful(LocalStorage):
    """A disk that loses a bit of each block that it is given."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Forgetful, (self.root,)

    def write(self, name: str, content: bytes | memoryview, durable: bool = False) -> None:
        super().write(name, bytes([content[0] ^ 1]) + bytes(content)[1:] if "/c." in name else content, durable)


def test_what_a_target_does_not_give_back_is_named_with_verify(
    four: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Copy
) -> None:
    monkeypatch.setitem(BACKENDS, "forgetful", lambda url: Forgetful(str(tmp_path / url.partition("://")[2])))
    assert run(four, "forgetful://one").code == 0
    code, out, _ = run(four, "forgetful://two", "--verify")
    assert code == 1
    assert "not given back as they were written: 12" in out


def test_a_read_only_source_will_do_and_a_read_only_target_will_not(four: Path, tmp_path: Path) -> None:
    with readonly_copy(four) as source, readonly_copy(four, "c.1.0.0") as locked:
        copy([str(source)], str(tmp_path / "b"))
        with nobody(), pytest.raises(StoreError, match="a block cannot be written"):
            copy([str(source)], str(locked))
    assert files(tmp_path / "b") == files(four)


def test_a_full_disk_is_found_before_anything_is_copied(
    four: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(DiskSpaceError):
        copy([str(four)], str(tmp_path / "b"))
    assert block_names(tmp_path / "b") == set()


def test_what_a_running_dump_has_is_copied_and_the_rest_by_the_next_copy(four: Path, tmp_path: Path, run: Copy) -> None:
    blocks = list(LogitStore.open(four).present_blocks([]))
    begin(four, tmp_path / "a")
    add(four, tmp_path / "a", blocks[:5])
    (tmp_path / "a" / "s000001" / ".c.3.0.0.0123456789abcdef.partial").write_bytes(b"half")
    code, out, _ = run(tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert "in no source: 7 blocks" in out
    add(four, tmp_path / "a", blocks[5:])
    code, out, _ = run(tmp_path / "a", tmp_path / "b", "--json")
    figures = json.loads(out)
    assert code == 0
    assert (figures["copied"], figures["there"], figures["missing"], figures["faults"]) == (7, 5, 0, [])
    assert files(tmp_path / "b") == files(four)


def test_a_block_that_vanishes_while_it_is_copied_is_no_fault(
    four: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(four, tmp_path / "a")
    read = LogitStore.read_file

    def vanishing(self: LogitStore, shard: int, view: int) -> bytes:
        if (shard, view) == (1, 1):
            block_file(self, 1, 1).unlink(missing_ok=True)
        return read(self, shard, view)

    monkeypatch.setattr(LogitStore, "read_file", vanishing)
    report = copy([str(tmp_path / "a")], str(tmp_path / "b"))
    assert (report.faults, report.nowhere, report.present) == ([], 1, 11)


def test_an_object_store_may_be_source_and_target(four: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "memory", MemoryStorage)
    url = f"memory://{tmp_path}"
    copy([str(four)], url, verify=True)
    assert {name: content for name, (content, _) in MemoryStorage(url).objects.items()} == files(four)
    copy([url], str(tmp_path / "b"))
    assert files(tmp_path / "b") == files(four)
    with pytest.raises(ConfigError, match="into itself"):
        copy([url], url)


def test_a_class_list_that_is_damaged_is_named_and_not_copied(four: Path, tmp_path: Path, run: Copy) -> None:
    shutil.copytree(four, tmp_path / "a")
    (tmp_path / "a" / "classes.txt").write_text("one\ntwo\n")
    code, out, _ = run(tmp_path / "a", tmp_path / "b")
    assert code == 1
    assert "classes.txt" in out
    assert not (tmp_path / "b" / "classes.txt").exists()


@pytest.mark.parametrize("arguments", [(), ("one",)], ids=["nothing", "one path"])
def test_a_source_and_a_target_are_needed(arguments: tuple[str, ...], run: Copy) -> None:
    assert run(*arguments).code == 2


def test_a_source_that_is_no_store_is_refused(tmp_path: Path, run: Copy) -> None:
    code, _, err = run(tmp_path, tmp_path / "b")
    assert code == 2
    assert "there is no store here" in err


SLOW_WRITES = """
import os, time
from tinyvit_kd import cli
replace = os.replace
def slowly(*arguments):
    time.sleep(0.05)
    return replace(*arguments)
os.replace = slowly
cli.main()
"""


def has_blocks(store: Path, more_than: int) -> bool:
    return len(list(store.glob("s*/c.*.0.0"))) > more_than


@pytest.mark.slow
def test_a_copy_that_is_killed_again_and_again_ends_as_one_that_was_not(dumped: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    dump_logits(World(dumped).dump(store={"path": str(source), "topk": 5, "views": 40}), solo_job())
    (tmp_path / "slow.py").write_text(SLOW_WRITES)
    script, arguments = tmp_path / "slow.py", ("store", "copy", source, target, "--threads", "3")
    program = [sys.executable, *map(str, (script, *arguments))]
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, REQUEUE_EXIT_CODE)):
        before = len(list(target.glob("s*/c.*.0.0")))
        process = subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(partial(has_blocks, target, before + 20), "nothing is copied")
        process.send_signal(number)
        assert process.wait(30) == code
    assert 40 < len(list(target.glob("s*/c.*.0.0"))) < 120
    subprocess.run(program, check=True, capture_output=True)
    found = {name: content for name, content in files(target).items() if not name.endswith(".partial")}
    assert found == files(source)


@pytest.mark.slow
def test_a_store_goes_to_a_bucket_that_refuses_now_and_then_and_comes_back(
    four: Path, tmp_path: Path, s3: S3Server
) -> None:
    s3.faults.choose = every(s503=7, s500=11, cut=13)
    url = f"s3://{BUCKET}/{tmp_path.name}"
    assert copy([str(four)], url, verify=True).faults == []
    assert copy([url], str(tmp_path / "b")).present == 12
    assert copy([url], str(tmp_path / "b")).outcomes == {"there": 12}
    assert files(tmp_path / "b") == files(four)
    assert s3.faults.made
