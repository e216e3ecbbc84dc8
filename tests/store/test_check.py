"""Whatever is wrong with a store is found and named; a repair removes what is damaged, and nothing else."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.local_files import block_file, store_folder
from tests.store.blocks import block_for, header_of, manifest_of, random_block, same
from tinyvit_kd.config.data import Encoding
from tinyvit_kd.errors import StoreArrayError, StoreError
from tinyvit_kd.storage.local import LocalStorage
from tinyvit_kd.store import codec
from tinyvit_kd.store.arrays import check_array
from tinyvit_kd.store.check import check_root, check_shard, remove_faults, shards_with_samples
from tinyvit_kd.store.codec import decode, encode
from tinyvit_kd.store.encodings import ENCODINGS, TOLERANCE
from tinyvit_kd.store.integrity import records_problem
from tinyvit_kd.store.records import Block, BlockHeader, RecordStatus
from tinyvit_kd.store.report import StoreReport
from tinyvit_kd.store.store import RECENT, LogitStore

HEX = "0123456789abcdef" * 2


def fill(store: LogitStore) -> LogitStore:
    for shard, view in store.missing_blocks():
        store.write_block(shard, view, block_for(store.manifest, shard, view))
    return store


@pytest.fixture
def store(tmp_path: Path) -> LogitStore:
    """A full toy store of 3 × 4 blocks; shards 0 and 1 are equally long."""
    return fill(LogitStore.create(tmp_path / "store", manifest_of()))


def check(store: LogitStore) -> StoreReport:
    return check_opened(LogitStore.open(store_folder(store)))


def check_opened(opened: LogitStore) -> StoreReport:
    report = check_root(opened)
    for shard in shards_with_samples(opened):
        report.add(check_shard(opened, shard))
    return report


def faults(store: LogitStore) -> set[tuple[str, str]]:
    """Kind and path of each fault, as seen from the store's folder."""
    return {(fault.kind, fault.name) for fault in check(store).faults}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def age(path: Path, seconds: float = 2 * RECENT) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_full_store_is_sound(tmp_path: Path, encoding: Encoding) -> None:
    store = fill(LogitStore.create(tmp_path / "store", manifest_of((30, 0, 17), encoding=encoding)))
    (store_folder(store) / "classes.txt").write_text("whatever; the stage looks into it\n")
    report = check(store)
    assert report.sound
    assert (report.present, report.missing, report.unchecked) == (8, 0, 0)
    assert report.bytes == sum(path.stat().st_size for path in store_folder(store).glob("s*/c.*"))


def test_an_unfinished_store_is_sound(tmp_path: Path) -> None:
    store = LogitStore.create(tmp_path / "store", manifest_of())
    store.write_block(1, 2, block_for(store.manifest, 1, 2))
    report = check(store)
    assert report.sound
    assert (report.present, report.missing) == (1, 11)


def flip(_store: LogitStore, path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def cut(_store: LogitStore, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def empty(_store: LogitStore, path: Path) -> None:
    path.write_bytes(b"")


def lengthen(_store: LogitStore, path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def another_view(store: LogitStore, path: Path) -> None:
    shutil.copy(block_file(store, 1, 3), path)


def another_shard(store: LogitStore, path: Path) -> None:
    shutil.copy(block_file(store, 0, 2), path)


def another_store(store: LogitStore, path: Path) -> None:
    other = fill(LogitStore.create(store_folder(store).parent / "other", manifest_of(seed=8)))
    shutil.copy(block_file(other, 1, 2), path)


def a_folder(_store: LogitStore, path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = [flip, cut, empty, lengthen, another_view, another_shard, another_store, a_folder]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_block_is_found_and_a_repair_removes_it_alone(
    store: LogitStore, damage: Callable[[LogitStore, Path], None]
) -> None:
    before, path = contents(store_folder(store)), block_file(store, 1, 2)
    damage(store, path)
    report = check(store)
    assert [(fault.kind, fault.where, fault.block) for fault in report.faults] == [("damaged", str(path), (1, 2))]
    assert report.present == 12
    removed, left = remove_faults(store, report)
    assert (removed, left) == (report.faults, [])
    assert store.missing_blocks() == [(1, 2)]
    assert contents(store_folder(store)) == {name: data for name, data in before.items() if name != str(path)}
    assert check(fill(store)).sound


def test_checking_changes_nothing(store: LogitStore) -> None:
    flip(store, block_file(store, 0, 0))
    (store_folder(store) / "s000001" / "zarr.json").write_text("{")
    before = contents(store_folder(store))
    assert not check(store).sound
    assert contents(store_folder(store)) == before


def changed(block: Block, **rows: Any) -> Block:
    """The block with other values in the first record that is not a hole."""
    arrays = {name: array.copy() for name, array in vars(block).items()}
    row = int(block.valid.argmax())
    for name, value in rows.items():
        arrays[name][row] = value
    return Block(**arrays)


GOOD = random_block(50, 5, 1000)
HALF = np.full(5, 0.1, np.float32)
PROBLEMS: dict[str, tuple[dict[str, Any], str]] = {
    "descending": ({"indices": [1, 2, 3, 5, 4]}, "ascend"),
    "repeated": ({"indices": [1, 2, 3, 4, 4]}, "ascend"),
    "negative class": ({"indices": [-1, 2, 3, 4, 5]}, "ascend"),
    "class C": ({"indices": [1, 2, 3, 4, 1000]}, "below 1000"),
    "no number": ({"probs": np.nan}, "finite"),
    "infinite": ({"probs": np.inf}, "finite"),
    "both infinities": ({"probs": [np.inf, -np.inf, 0, 0, 0]}, "finite"),
    "negative": ({"probs": [-0.1, 0.3, 0.1, 0.1, 0.1], "residual": 0.5}, "below 0"),
    "sum above 1": ({"probs": HALF, "residual": 0.6}, "sum to 1"),
    "sum below 1": ({"probs": HALF, "residual": 0.3}, "sum to 1"),
    "residual": ({"residual": np.nan}, "finite"),
    "full hole": ({"status": RecordStatus.TRUNCATED}, "not empty"),
    "status": ({"status": 4}, "unknown status"),
}


@pytest.mark.parametrize(("rows", "words"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_a_record_that_cannot_be_one_is_found(
    rows: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = header_of(GOOD, 1000, "exact")
    assert records_problem(encode(GOOD, header), header) == ""
    monkeypatch.setattr(codec, "_assert_encodable", lambda *_: None)
    problem = records_problem(encode(changed(GOOD, **rows), header), header)
    assert problem.startswith("1 of 50 records ")
    assert words in problem
    assert problem.endswith(f"index {GOOD.valid.argmax()}")


def problem_of_decoded(block: Block, num_classes: int) -> str:
    """What ``records_problem`` has to say, from decoded records."""
    valid = block.valid
    hole = ~valid
    with np.errstate(invalid="ignore"):  # the comparisons below find NaN and infinity
        mass = block.probs.sum(axis=1) + block.residual
    ascending = (block.indices[:, 1:] > block.indices[:, :-1]).all(axis=1)
    in_range = (block.indices[:, 0] >= 0) & (block.indices[:, -1] < num_classes)
    in_bounds = (block.probs.min(axis=1) >= 0) & (block.residual >= 0) & (abs(mass - 1) <= TOLERANCE)
    nonzero = block.indices.any(axis=1) | block.probs.any(axis=1) | (block.residual != 0)
    problems = {
        "have an unknown status": block.status > max(RecordStatus),
        f"have classes that do not ascend below {num_classes}": valid & ~(ascending & in_range),
        "have probabilities that are not finite, below 0, or do not sum to 1": valid & ~in_bounds,
        "are holes, but not empty": hole & nonzero,
    }
    for problem, rows in problems.items():
        if rows.any():
            return f"{rows.sum()} of {len(block)} records {problem}, the first at index {rows.argmax()}"
    return ""


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("num_classes", [7, 256, 257, 70_000, 1 << 25])
@given(draw=st.data())
def test_a_check_of_planes_finds_what_a_check_of_decoded_records_finds(
    encoding: Encoding, num_classes: int, draw: st.DataObject
) -> None:
    block = random_block(9, 3, num_classes)
    header = header_of(block, num_classes, encoding)
    planes = encode(block, header)
    for _ in range(draw.draw(st.integers(0, 3))):
        row = draw.draw(st.integers(8, len(planes) - 1))  # behind the header
        planes[row, draw.draw(st.integers(0, 8))] = draw.draw(st.integers(0, 255))
    with np.errstate(invalid="ignore", over="ignore"):
        expected = problem_of_decoded(decode(planes, header), num_classes)
    assert records_problem(planes, header) == expected


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_whole_block_with_impossible_records_is_damaged(tmp_path: Path, encoding: Encoding) -> None:
    store = fill(LogitStore.create(tmp_path / "store", manifest_of(encoding=encoding)))
    manifest, block = store.manifest, block_for(store.manifest, 0, 0)
    hashes = manifest.key_hashes[0], int(manifest.hash, 16)
    planes = encode(block, BlockHeader(encoding, 0, 0, 30, 5, 1000, *hashes))
    planes[-11:-9] = 0xFF  # residual: no number, in float16 and in the upper half of float32
    with zarr.config.set({"array.write_empty_chunks": True}):
        zarr.open_array(store_folder(store) / "s000000", mode="r+")[0] = planes
    store.read_block(0, 0)  # its checksum and header are right
    report = check(store)
    assert [(fault.kind, fault.block) for fault in report.faults] == [("damaged", (0, 0))]
    assert "finite" in report.faults[0].reason


class Refusing(LocalStorage):
    """A disk that fails wherever a file of one name is read."""

    def __init__(self, root: str, refused: str) -> None:
        super().__init__(root)
        self.refused = refused

    def read(self, name: str) -> bytes:
        if name.endswith(f"/{self.refused}"):
            raise OSError(errno.EIO, "Input/output error", self.locate(name))
        return super().read(name)


def on_a_disk_that_refuses(store: LogitStore, refused: str) -> LogitStore:
    return LogitStore(Refusing(store.where, refused), store.manifest, writable=True, fsync=False)


def test_a_disk_that_refuses_does_not_condemn_a_block(store: LogitStore) -> None:
    refused = on_a_disk_that_refuses(store, "c.2.0.0")
    report = check_opened(refused)
    assert {fault.kind for fault in report.faults} == {"unread"}
    assert [fault.where for fault in report.faults] == [store.block_location(shard, 2) for shard in range(3)]
    removed, left = remove_faults(refused, report)
    assert (removed, left) == ([], report.faults)
    assert store.missing_blocks() == []


def test_a_disk_that_refuses_an_array_does_not_condemn_it(store: LogitStore) -> None:
    report = check_opened(on_a_disk_that_refuses(store, "zarr.json"))
    assert {fault.kind for fault in report.faults} == {"unread"}
    assert report.unchecked == report.present == 12


def rewrite(store: LogitStore, **fields: Any) -> Path:
    path = store_folder(store) / "s000001" / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | fields))
    return path


BYTES, ZSTD, CRC = {"name": "bytes"}, {"name": "zstd", "configuration": {"level": 1}}, {"name": "crc32c"}
FOREIGN_ARRAYS: dict[str, dict[str, Any]] = {
    "gzip": {"codecs": [BYTES, {"name": "gzip", "configuration": {"level": 1}}, CRC]},
    "no checksum": {"codecs": [BYTES, ZSTD]},
    "no compression": {"codecs": [BYTES, CRC]},
    "checksum first": {"codecs": [BYTES, CRC, ZSTD]},
    "transposed": {"codecs": [{"name": "transpose", "configuration": {"order": [2, 1, 0]}}, BYTES, ZSTD, CRC]},
    "another type": {"data_type": "int8"},
    "another fill": {"fill_value": 1},
    "folders": {"chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}}},
    "names of format 2": {"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "."}}},
    "another shape": {"shape": [4, 40, 30]},
    "other chunks": {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 46, 30]}}},
}


@pytest.mark.parametrize("fields", FOREIGN_ARRAYS.values(), ids=FOREIGN_ARRAYS.keys())
def test_an_array_that_is_not_laid_out_as_ours_is_refused_and_made_again_with_its_blocks(
    store: LogitStore, fields: dict[str, Any]
) -> None:
    path = rewrite(store, **fields)
    with pytest.raises(StoreError, match="dump-logits") as caught:
        LogitStore.open(store_folder(store)).read_block(1, 0)
    assert type(caught.value) is StoreArrayError
    report = check(store)
    assert [(fault.kind, fault.where) for fault in report.faults] == [("array", str(path))]
    assert (report.present, report.unchecked) == (12, 4)
    assert remove_faults(store, report) == ([], report.faults)
    again = LogitStore.create(store_folder(store), manifest_of())
    assert check(again).sound
    assert same(again.read_block(1, 3), block_for(store.manifest, 1, 3))


@pytest.mark.parametrize("level", [0, 3, 19])
def test_blocks_may_be_compressed_at_any_level(store: LogitStore, level: int) -> None:
    rewrite(store, codecs=[BYTES, {"name": "zstd", "configuration": {"level": level, "checksum": True}}, CRC])
    writer = LogitStore.open(store_folder(store), writable=True)
    writer.write_block(1, 0, block_for(store.manifest, 1, 0))
    assert check(store).sound


def test_an_array_of_another_format_of_zarr_is_not_opened(store: LogitStore) -> None:
    folder, shape = store_folder(store) / "s000001", (4, 46, 30)
    (folder / "zarr.json").unlink()
    # Its chunks would be other files than those that count as blocks.
    zarr.create_array(
        store_folder(store), name="s000001", shape=shape, chunks=(1, 46, 30), dtype="uint8", zarr_format=2
    )
    with pytest.raises(StoreError, match="the description of a shard's array is missing"):
        check_array(store.storage, 1, shape)
    assert faults(store) >= {("array", "s000001/zarr.json"), ("foreign", "s000001/.zarray")}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", None], ids=str)
def test_a_damaged_or_missing_description_is_found_and_the_other_blocks_are_checked(
    store: LogitStore, text: str | None
) -> None:
    path = store_folder(store) / "s000001" / "zarr.json"
    path.unlink() if text is None else path.write_text(text)
    flip(store, block_file(store, 2, 1))
    flip(store, block_file(store, 1, 1))  # cannot be found without the description
    assert faults(store) == {("array", "s000001/zarr.json"), ("damaged", "s000002/c.1.0.0")}


def test_a_folder_in_place_of_a_description_is_named(store: LogitStore) -> None:
    a_folder(store, store_folder(store) / "s000001" / "zarr.json")
    (fault,) = check(store).faults
    assert fault.kind == "array"
    assert "remove it" in fault.reason


def test_a_shard_that_was_removed_is_missing_with_its_array(store: LogitStore) -> None:
    shutil.rmtree(store_folder(store) / "s000001")
    assert faults(store) == {("array", "s000001/zarr.json")}
    assert (check(store).present, check(store).missing) == (8, 4)


PARTIAL = [
    f"s000000/c.1.0.{HEX}.partial",
    "s000000/c.1.0.0123abcd.partial",
    f"s000000/c.1.0.0.{HEX}.partial",
    f"s000002/zarr.{HEX}.partial",
    ".manifest.json.0123abcd.partial",
    ".classes.txt.0123abcd.partial",
    f"zarr.{HEX}.partial",
]


def test_what_a_killed_writer_left_is_found_and_removed(store: LogitStore) -> None:
    before = contents(store_folder(store))
    for name in PARTIAL:
        (store_folder(store) / name).write_bytes(b"half")
        age(store_folder(store) / name)
    assert faults(store) == {("partial", name) for name in PARTIAL}
    removed, left = remove_faults(store, check(store))
    assert (len(removed), left) == (len(PARTIAL), [])
    assert contents(store_folder(store)) == before


def test_what_a_writer_may_be_writing_is_named_and_kept(store: LogitStore) -> None:
    for name in PARTIAL:
        (store_folder(store) / name).write_bytes(b"half")
    report = check(store)
    assert report.sound
    assert {Path(path).relative_to(store_folder(store)).as_posix() for path in report.recent_partials} == set(PARTIAL)
    assert remove_faults(store, report) == ([], [])
    assert all((store_folder(store) / name).exists() for name in PARTIAL)


def test_a_partial_file_that_came_to_life_again_is_kept(store: LogitStore) -> None:
    path = store_folder(store) / PARTIAL[0]
    path.write_bytes(b"half")
    age(path)
    report = check(store)
    path.write_bytes(b"more")
    assert remove_faults(store, report) == ([], [])
    assert path.exists()


FOREIGN = [
    "notes.txt",
    "s000003/zarr.json",
    "s000000/c.4.0.0",
    "s000000/c.01.0.0",
    "s000000/c.0.0.1",
    "s000001/c/0",
    "s000002/manifest.json",
    "movie.0123abcd.partial",
]


def test_what_does_not_belong_is_named_and_kept(store: LogitStore) -> None:
    for name in FOREIGN:
        path = store_folder(store) / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(block_file(store, 0, 0).read_bytes())
        age(path)
    named = {"s000003/zarr.json": "s000003", "s000001/c/0": "s000001/c"}
    assert faults(store) == {("foreign", named.get(name, name)) for name in FOREIGN}
    removed, left = remove_faults(store, check(store))
    assert (removed, len(left)) == ([], len(FOREIGN))
    assert all((store_folder(store) / name).exists() for name in FOREIGN)


def test_a_file_in_place_of_a_shard_is_named(store: LogitStore) -> None:
    shutil.rmtree(store_folder(store) / "s000001")
    (store_folder(store) / "s000001").write_text("")
    assert faults(store) == {("foreign", "s000001"), ("array", "s000001/zarr.json")}


def test_a_link_to_nothing_in_place_of_a_block_is_named_and_kept(store: LogitStore) -> None:
    block_file(store, 0, 0).unlink()
    block_file(store, 0, 0).symlink_to(store_folder(store) / "a disk that is not mounted")
    assert faults(store) == {("foreign", "s000000/c.0.0.0")}
    remove_faults(store, check(store))
    assert block_file(store, 0, 0).is_symlink()


def test_a_folder_with_something_in_it_is_not_removed(store: LogitStore) -> None:
    a_folder(store, block_file(store, 0, 0))
    (block_file(store, 0, 0) / "precious").write_text("")
    report = check(store)
    assert remove_faults(store, report) == ([], report.faults)
    assert (block_file(store, 0, 0) / "precious").exists()


def test_a_block_that_was_made_again_meanwhile_is_kept(store: LogitStore) -> None:
    for view in (0, 1):
        empty(store, block_file(store, 0, view))
    report = check(store)
    store.write_block(0, 0, block_for(store.manifest, 0, 0))
    block_file(store, 0, 1).unlink()
    assert remove_faults(store, report) == ([], [])
    assert store.missing_blocks() == [(0, 1)]


def test_a_repair_does_not_reach_through_a_link_into_another_store(store: LogitStore, tmp_path: Path) -> None:
    other = fill(LogitStore.create(tmp_path / "other", manifest_of(seed=8)))
    shutil.rmtree(store_folder(store) / "s000001")
    (store_folder(store) / "s000001").symlink_to(store_folder(other) / "s000001")
    report = check(store)
    assert {fault.kind for fault in report.faults} == {"damaged"}
    assert remove_faults(store, report) == ([], report.faults)
    assert other.missing_blocks() == []


def test_damage_of_every_kind_is_found_at_once_and_a_repair_removes_just_the_bad_blocks(store: LogitStore) -> None:
    for view, damage in enumerate([flip, cut, empty, a_folder]):
        damage(store, block_file(store, 0, view))
    block_file(store, 2, 3).unlink()
    (store_folder(store) / "s000001" / "zarr.json").write_text("")
    (store_folder(store) / "notes.txt").write_text("")
    report = check(store)
    bad = [(0, view) for view in range(4)]
    assert [fault.block for fault in report.faults if fault.kind == "damaged"] == bad
    assert (report.present, report.missing, report.unchecked) == (11, 1, 4)
    removed, left = remove_faults(store, report)
    assert [fault.block for fault in removed] == bad
    assert [fault.kind for fault in left] == ["foreign", "array"]
    assert store.missing_blocks() == [*bad, (2, 3)]


def test_reports_add_up() -> None:
    one = StoreReport(present=1, missing=2, unchecked=3, unlisted=5, undamaged=6, bytes=4)
    total = replace(one)
    total.add(one)
    assert total == StoreReport(present=2, missing=4, unchecked=6, unlisted=10, undamaged=12, bytes=8)
