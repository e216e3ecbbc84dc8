"""``store check`` on a store that was dumped: what it says, its exit code, and what a dump makes of it afterwards."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.local_files import block_file, store_folder
from benchmarks.tiny_world import World, draw_shards, make_teacher
from tests.conftest import CommandLine, Ended
from tests.damage import flip
from tests.processes import nobody, readonly_copy
from tests.store.blocks import same
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.store.check import LISTED, check, describe_check, repair
from tinyvit_kd.storage.local import LocalStorage
from tinyvit_kd.store.check import check_shard
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.report import Fault, StoreReport
from tinyvit_kd.store.store import LogitStore

Check = Callable[..., Ended]


@pytest.fixture
def run(command_line: CommandLine) -> Check:
    """The command: its exit code, what it printed, and what it complained of."""

    def command(path: Path, *options: str) -> Ended:
        return command_line("store", "check", path, "--processes", "1", *options)

    return command


def blocks(store: LogitStore) -> dict[tuple[int, int], Block]:
    return {(shard, view): store.read_block(shard, view) for shard in range(3) for view in range(2)}


def test_a_dumped_store_is_sound(dumped: Path, run: Check) -> None:
    code, text, complaint = run(dumped / "store")
    assert (code, complaint) == (0, "")
    assert text.startswith("6 of 6 blocks are there; 6 of them, 0.0 MiB, are undamaged\n")
    assert text.endswith("\nsound\n")


def test_missing_blocks_are_counted_and_no_fault(world: World, run: Check) -> None:
    (world.folder / "store" / "s000001" / "c.1.0.0").unlink()
    code, text, _ = run(world.folder / "store")
    assert code == 0
    assert "5 of 6 blocks are there" in text
    assert "missing blocks: 1 (no damage: dump-logits makes them)" in text
    assert text.endswith("\nsound, and not complete\n")


def test_a_store_may_be_required_to_be_complete(world: World, run: Check) -> None:
    assert run(world.folder / "store", "--require-complete").code == 0
    (world.folder / "store" / "s000001" / "c.1.0.0").unlink()
    assert run(world.folder / "store", "--require-complete").code == 1


def test_a_repair_that_removes_blocks_leaves_a_store_that_is_not_complete(world: World, run: Check) -> None:
    flip(block_file(LogitStore.open(world.folder / "store"), 0, 1))
    code, text, _ = run(world.folder / "store", "--repair", "--require-complete")
    assert code == 1
    assert text.endswith("\nsound, and not complete\n")


def test_a_dump_after_a_repair_restores_the_records_that_were_damaged(world: World, run: Check) -> None:
    store = LogitStore.open(world.folder / "store")
    before = blocks(store)
    stale = store_folder(store) / "s000000" / "c.0.0.0123456789abcdef0123456789abcdef.partial"
    stale.write_bytes(b"half")
    os.utime(stale, (time.time() - 3600,) * 2)
    flip(block_file(store, 0, 1))
    shutil.copy(block_file(store, 1, 0), block_file(store, 1, 1))
    code, text, _ = run(store_folder(store))
    assert code == 1
    assert "damaged blocks: 2" in text
    assert f"  {block_file(store, 0, 1)}: a block is damaged: its checksum is wrong" in text
    assert f"  {block_file(store, 1, 1)}: a block is not the one it should be; found view 0; expected view 1" in text
    assert f"  {stale}\n" in text
    assert text.endswith("\nnot sound\n")
    code, text, _ = run(store_folder(store), "--repair")
    assert code == 0
    assert "removed: 3 (2 of them blocks: run dump-logits, which makes these again)" in text
    assert text.endswith("\nsound, and not complete\n")
    assert [line for line in text.splitlines() if line.startswith(("sound", "not sound"))] == [
        "sound, and not complete"
    ]
    assert store.missing_blocks() == [(0, 1), (1, 1)]
    assert dump_logits(world.dump(), solo_job())["views"] == 80
    after = blocks(LogitStore.open(store_folder(store)))
    assert all(same(after[key], before[key]) for key in before)
    assert run(store_folder(store))[0] == 0


@pytest.mark.parametrize("damage", ["changed", "missing", "empty", "folder"])
def test_a_class_list_that_is_not_the_teachers_is_found_and_a_dump_writes_it_again(
    world: World, run: Check, damage: str
) -> None:
    path = world.folder / "store" / "classes.txt"
    lines = path.read_text()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_text("" if damage == "empty" else "\n".join(reversed(lines.split())))
    code, text, _ = run(world.folder / "store", "--repair")
    assert code == 1
    assert "class list missing or not the teacher's: 1 (dump-logits writes it again)" in text
    assert str(path) in text
    if damage == "folder":
        path.rmdir()
    dump_logits(world.dump(), solo_job())
    assert path.read_text() == lines
    assert run(world.folder / "store")[0] == 0


def test_a_damaged_array_is_named_left_to_the_dump_and_its_blocks_are_kept(world: World, run: Check) -> None:
    store = LogitStore.open(world.folder / "store")
    before = blocks(store)
    path = store_folder(store) / "s000001" / "zarr.json"
    path.write_text("{")
    code, text, _ = run(store_folder(store), "--repair")
    assert code == 1
    assert "dump-logits makes them again and keeps the blocks" in text
    assert f"  {path}: " in text
    assert "not checked: 2 blocks" in text
    assert dump_logits(world.dump(), solo_job())["views"] == 0
    assert run(store_folder(store))[0] == 0
    after = blocks(LogitStore.open(store_folder(store)))
    assert all(same(after[key], before[key]) for key in before)


@pytest.mark.parametrize("damage", ["{", "[]", '{"format_version": 99}', '{"format_version": 1}', None], ids=str)
def test_a_damaged_manifest_is_one_paragraph(world: World, run: Check, damage: str | None) -> None:
    path = world.folder / "store" / "manifest.json"
    path.unlink() if damage is None else path.write_text(damage)
    code, text, complaint = run(world.folder / "store", "--repair")
    assert (code, text) == (2, "")
    assert str(path.parent) in complaint
    assert complaint.count("\n") == 1


def test_two_processes_find_what_one_finds(world: World) -> None:
    store = LogitStore.open(world.folder / "store")
    flip(block_file(store, 2, 1))
    (store_folder(store) / "s000000" / "zarr.json").write_text("{")
    (store_folder(store) / "notes.txt").write_text("")
    assert check(store_folder(store), 2) == check(store_folder(store), 1)


@pytest.mark.parametrize("parts", [2, 3])
def test_the_parts_of_a_shard_find_together_what_a_whole_check_finds(world: World, parts: int) -> None:
    store = LogitStore.open(world.folder / "store")
    flip(block_file(store, 0, 1))
    block_file(store, 1, 0).unlink()
    (store_folder(store) / "s000002" / "zarr.json").write_text("{")
    (store_folder(store) / "s000000" / "notes.txt").write_text("")
    for shard in range(3):
        found = StoreReport()
        for part in range(parts):
            found.add(check_shard(store, shard, part, parts))
        assert found == check_shard(store, shard)


def test_only_the_first_faults_of_a_kind_are_listed() -> None:
    report = StoreReport(
        faults=[
            Fault("foreign", name, f"/a/store/{name}")
            for name in (f"file-{number:03d}" for number in range(LISTED + 5))
        ]
    )
    text = describe_check(report)
    assert f"file-{LISTED - 1:03d}" in text
    assert f"file-{LISTED:03d}" not in text
    assert "… and 5 more" in text


def test_what_a_strangers_store_is_named_does_not_reach_the_terminal(world: World) -> None:
    (world.folder / "store" / "\x1b[2J\nsound").write_text("")
    text = describe_check(check(world.folder / "store", 1))
    assert "\x1b" not in text
    assert r"\x1b[2J\nsound" in text


def test_a_manifest_that_was_mixed_up_does_not_cost_the_blocks(world: World, run: Check) -> None:
    store = LogitStore.open(world.folder / "store")
    store.manifest.model_copy(update={"seed": 8}).save(LocalStorage(str(store_folder(store))))
    code, text, complaint = run(store_folder(store), "--repair")
    assert code == 2
    assert "damaged blocks: 6" in text
    assert f"nothing was removed. Where: {store_folder(store) / 'manifest.json'}" in complaint
    assert store.missing_blocks() == []


@pytest.fixture
def readonly(dumped: Path) -> Iterator[Path]:
    """A store that its reader may not write, where others may look."""
    with readonly_copy(dumped / "store") as store:
        yield store


def test_a_store_that_cannot_be_written_can_be_checked_and_is_not_repaired(readonly: Path, run: Check) -> None:
    with nobody():
        assert run(readonly)[0] == 0
        code, text, complaint = run(readonly, "--repair")
    assert (code, text) == (2, "")
    assert "read-only" in complaint
    assert complaint.count("\n") == 1


def test_a_block_that_may_not_be_read_is_not_damaged(readonly: Path, run: Check) -> None:
    (readonly / "s000000" / "c.0.0.0").chmod(0)
    (readonly / "s000001" / "zarr.json").chmod(0)
    (readonly / "s000002").chmod(0)
    with nobody():
        code, text, _ = run(readonly)
    assert code == 1
    assert "cannot be read: 3 (no damage" in text
    for name in ("s000000/c.0.0.0", "s000001/zarr.json", "s000002"):
        assert f"  {readonly / name}: " in text
    assert "Permission denied" in text
    assert "4 of 6 blocks" in text
    assert "not checked: 2 blocks" in text
    assert "not listed: 2 blocks" in text


def test_a_block_that_cannot_be_removed_is_one_paragraph(readonly: Path, run: Check) -> None:
    block = readonly / "s000000" / "c.0.0.0"
    block.chmod(0o644)
    flip(block)
    readonly.chmod(0o777)
    with nobody():
        code, text, complaint = run(readonly, "--repair")
    assert code == 2
    assert "damaged blocks: 1" in text
    assert str(block) in complaint
    assert complaint.count("\n") == 1
    assert block.exists()


def test_a_repair_of_a_sound_store_does_nothing(world: World) -> None:
    path = world.folder / "store"
    assert repair(path, check(path, 1)) == ("nothing to remove\nsound", True)


@pytest.mark.parametrize("options", [(), ("--holes",)], ids=["info", "holes"])
def test_what_a_strangers_shards_are_named_does_not_control_the_terminal(
    tmp_path: Path, command_line: CommandLine, options: tuple[str, ...]
) -> None:
    tar = draw_shards(tmp_path, 5, broken=[1]) / "train-000000.tar"
    make_teacher(tmp_path)
    evil = tmp_path / "\x1b[2Jset" / "\x1b[2Jshard.tar"
    evil.parent.mkdir()
    tar.rename(evil)
    world = World(tmp_path)
    dump_logits(world.dump(shards={"path": str(evil)}), solo_job())
    ended = command_line("store", "info", world.store, *options)
    assert ended.code == 0, ended.err
    assert "\x1b" not in ended.out + ended.err
    assert "\\x1b[2Js" in ended.out
