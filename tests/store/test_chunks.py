"""A block's file is what zarr writes, and a file that says that it holds more is refused before memory is spent."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import example, given
from hypothesis import strategies as st
from numcodecs import zstd
from packaging.version import Version

from benchmarks.local_files import block_file, store_folder
from tests.conftest import REPOSITORY
from tests.store.blocks import block_for, manifest_of, same
from tinyvit_kd.errors import BlockCorruptError, StoreArrayError, StoreError
from tinyvit_kd.storage.local import LocalStorage
from tinyvit_kd.store.chunks import largest_file, pack, unpack
from tinyvit_kd.store.manifest import MAX_BLOCKS, Manifest
from tinyvit_kd.store.store import LogitStore

NEW_ZARR = Version(zarr.__version__) >= Version("3.1")
FROM_ZARR_3_1 = pytest.mark.skipif(not NEW_ZARR, reason="this zarr writes descriptions with other fields")

SHAPE = (40, 30)
PLANES = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)


def checked(packed: bytes) -> bytes:
    """The bytes with the right checksum behind them, as whoever makes a file on purpose would have it."""
    return packed + int(google_crc32c.value(packed)).to_bytes(4, "little")


@FROM_ZARR_3_1
def test_files_and_descriptions_are_those_that_zarr_writes(tmp_path: Path) -> None:
    store = LogitStore.create(tmp_path / "store", manifest_of())
    for shard, view in store.missing_blocks():
        store.write_block(shard, view, block_for(store.manifest, shard, view))
    for shard in range(3):
        array = zarr.create_array(
            tmp_path / "zarr",
            name=f"s{shard:06d}",
            shape=(4, *store.read_planes(shard, 0).shape),
            chunks=(1, *store.read_planes(shard, 0).shape),
            dtype="uint8",
            compressors=(zarr.codecs.ZstdCodec(level=1), zarr.codecs.Crc32cCodec()),
            fill_value=0,
            chunk_key_encoding={"name": "default", "configuration": {"separator": "."}},
        )
        for view in range(4):
            array[view] = store.read_planes(shard, view)
    names = {path.relative_to(tmp_path / "zarr") for path in (tmp_path / "zarr").rglob("*") if path.is_file()}
    assert len(names) == 1 + 3 * 5
    for name in names:
        assert (tmp_path / "store" / name).read_bytes() == (tmp_path / "zarr" / name).read_bytes(), name


def test_planes_come_back() -> None:
    assert (unpack(pack(PLANES), SHAPE) == PLANES).all()
    assert len(pack(PLANES)) <= largest_file(SHAPE)


def without_size(content: bytes) -> bytes:
    """A frame whose header states no size, as of a writer that compresses a stream."""
    assert content[4] >> 5 == 3, "one segment, of a size in two bytes"
    return content[:4] + bytes([content[4] & 0x1F]) + bytes([0x58]) + content[7:]


BOMB = zstd.compress(np.zeros(1 << 30, np.uint8), 1)
BOMBS = {
    "a GiB of zeros": BOMB,
    "a GiB of zeros behind the planes": zstd.compress(PLANES, 1) + BOMB,
    "no size": without_size(zstd.compress(PLANES, 1)),
    "half the planes twice": zstd.compress(PLANES[:20], 1) * 2,
    "2**63 bytes": BOMB[:4] + bytes([0xE0]) + (1 << 63).to_bytes(8, "little") + BOMB[9:],
    "the right size over a GiB": BOMB[:4] + bytes([0xA0]) + (1200).to_bytes(4, "little") + BOMB[9:],
    "an empty frame": zstd.compress(b"", 1),
    "nothing": b"",
    "no frame": b"no frame at all",
    "a header that is cut off": BOMB[:6],
}


@pytest.mark.parametrize("packed", BOMBS.values(), ids=BOMBS)
def test_a_file_that_unpacks_to_anything_else_is_refused_without_memory(packed: bytes) -> None:
    content = checked(packed)
    tracemalloc.start()
    with pytest.raises(ValueError, match="unpack"):
        unpack(content, SHAPE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(content) + 100_000


@given(packed=st.binary(max_size=200), whole=st.booleans())
@example(packed=b"", whole=False)
def test_no_bytes_but_a_blocks_are_taken_for_one(packed: bytes, whole: bool) -> None:
    with pytest.raises(ValueError, match=r"unpack|checksum"):
        unpack(checked(packed) if whole else packed, SHAPE)


@given(place=st.integers(0, 1150), bit=st.integers(0, 7))
def test_a_frame_that_was_changed_on_purpose_gives_planes_or_an_error(place: int, bit: int) -> None:
    packed = bytearray(zstd.compress(PLANES, 1))
    packed[place] ^= 1 << bit
    with suppress(ValueError):
        assert unpack(checked(bytes(packed)), SHAPE).shape == SHAPE


def test_a_file_that_is_too_large_for_a_block_is_not_read(tmp_path: Path) -> None:
    store = LogitStore.create(tmp_path / "store", manifest_of())
    with block_file(store, 0, 0).open("wb") as file:
        file.truncate(1 << 40)  # a hole: a terabyte for whoever reads it
    with pytest.raises(BlockCorruptError, match=r"a block here has .* at most"):
        store.read_block(0, 0)


def test_a_description_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    store = LogitStore.create(tmp_path / "store", manifest_of())
    with (store_folder(store) / "s000000" / "zarr.json").open("wb") as file:
        file.truncate(1 << 40)
    store.write_block(1, 0, block_for(store.manifest, 1, 0))
    with pytest.raises(StoreArrayError, match="bytes"):
        store.write_block(0, 0, block_for(store.manifest, 0, 0))


def signed(folder: Path, **changes: Any) -> Manifest:
    """A manifest with changed fields and the checksum that belongs to them, as its maker can write it; read again."""
    storage = LocalStorage(str(folder))
    manifest_of().model_copy(update=changes).save(storage)
    return Manifest.load(storage)


ABSURD: dict[str, dict[str, Any]] = {
    "2e9 views": {"views": 2_000_000_000},
    "no views": {"views": 0},
    "negative views": {"views": -4},
    "2e9 classes kept": {"topk": 2_000_000_000},
    "more classes kept than there are": {"topk": 1001},
    "none kept": {"topk": 0},
    "2e18 classes": {"num_classes": 2 * 10**18},
    "a shard of 2e9 samples": {"shard_lengths": (2_000_000_000, 30, 17)},
    "a shard of 1e30 samples": {"shard_lengths": (10**30, 30, 17)},
    "a negative shard": {"shard_lengths": (-1, 30, 17)},
    "a hash of 100 bits": {"key_hashes": (1 << 100, 1, 2)},
    "a negative seed": {"seed": -1},
    "views of no size": {"view_spec": {}},
    "views of a size in words": {"view_spec": {"size": "large"}},
}


@pytest.mark.parametrize("changes", ABSURD.values(), ids=ABSURD)
def test_a_manifest_of_a_store_that_nobody_can_have_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="the manifest is damaged") as caught:
        signed(tmp_path, **changes)
    assert len(str(caught.value)) < 700


def test_a_manifest_of_the_largest_store_is_read(tmp_path: Path) -> None:
    assert signed(tmp_path, views=MAX_BLOCKS // 3).views == MAX_BLOCKS // 3


def test_a_manifest_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "manifest.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(StoreError, match="the manifest cannot be read"):
        LogitStore.open(tmp_path)


# Whoever uses zarr for other things has settings of their own for it.
SETTINGS: dict[str, dict[str, str]] = {
    "codec pipeline": {"ZARR_CODEC_PIPELINE__PATH": "not_installed.Pipeline"},
    "codecs": {"ZARR_CODECS__ZSTD": "not_installed.Zstd", "ZARR_CODECS__CRC32C": "not_installed.Crc"},
    "empty chunks": {"ZARR_ARRAY__WRITE_EMPTY_CHUNKS": "False"},
    "format": {"ZARR_DEFAULT_ZARR_FORMAT": "2", "ZARR_JSON_INDENT": "0", "ZARR_ARRAY__ORDER": "F"},
    "threads": {"ZARR_THREADING__MAX_WORKERS": "-1", "ZARR_ASYNC__CONCURRENCY": "0", "ZARR_ASYNC__TIMEOUT": "0.000001"},
}
WRITE = """
import sys
from tests.store.blocks import block_for, manifest_of
from tinyvit_kd.store.store import LogitStore
store = LogitStore.create(sys.argv[1], manifest_of((30,), views=1))
store.write_block(0, 0, block_for(store.manifest, 0, 0))
store.read_block(0, 0)
"""


def test_a_users_own_settings_of_zarr_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "home" / ".config" / "zarr").mkdir(parents=True)
    (tmp_path / "home" / ".config" / "zarr" / "zarr.yaml").write_text("codec_pipeline: {path: not_installed.Pipeline}")
    settings = {name: value for each in SETTINGS.values() for name, value in each.items()}
    environment = {"PATH": "/usr/bin", "PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path / "home"), **settings}
    subprocess.run([sys.executable, "-c", WRITE, str(tmp_path / "store")], env=environment, check=True)
    store = LogitStore.create(tmp_path / "ours", manifest_of((30,), views=1))
    store.write_block(0, 0, block_for(store.manifest, 0, 0))
    assert same(LogitStore.open(tmp_path / "store").read_block(0, 0), store.read_block(0, 0))
    for path in (tmp_path / "ours").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "store" / path.relative_to(tmp_path / "ours")).read_bytes()


HARMLESS: dict[str, dict[str, Any]] = {
    "notes": {"attributes": {"by": "somebody"}},
    "names of dimensions": {"dimension_names": ["view", "byte", "sample"]},
    **({"what need not be understood": {"extension": {"must_understand": False}}} if NEW_ZARR else {}),
    "more views": {"shape": [400, 46, 30]},
}
ODD: dict[str, dict[str, Any]] = {
    "2e9 samples": {"shape": [4, 46, 2_000_000_000]},
    "negative views": {"shape": [-4, 46, 30]},
    "views with a point": {"shape": [4.0, 46, 30]},
    "views that are true": {"shape": [True, 46, 30]},
    "no dimensions": {"shape": []},
    "four dimensions": {"shape": [4, 46, 30, 1]},
    "a type of 2e9 bits": {"data_type": "r2000000000"},
    "a type with code": {"data_type": {"name": "numpy.object", "configuration": {"x": 1}}},
    "an unknown field": {"extension": {"must_understand": True}},
    "a transformer": {"storage_transformers": [{"name": "x"}]},
    "no format": {"zarr_format": "3"},
    "true in place of 0": {"fill_value": False},
    "another level": {"codecs": [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": "x"}}]},
}


@pytest.mark.parametrize("fields", [*HARMLESS.values(), *ODD.values()], ids=[*HARMLESS, *ODD])
def test_a_description_is_refused_for_what_matters_alone(tmp_path: Path, fields: dict[str, Any]) -> None:
    store = LogitStore.create(tmp_path / "store", manifest_of())
    store.write_block(0, 0, block_for(store.manifest, 0, 0))
    path = store_folder(store) / "s000000" / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    if fields in HARMLESS.values():
        LogitStore.open(store.where).read_block(0, 0)
        assert zarr.open_array(store_folder(store) / "s000000", mode="r").shape[1:] == (46, 30)
        before = path.read_text()
        LogitStore.create(store.where, manifest_of())
        assert path.read_text() == before
    else:
        with pytest.raises(StoreArrayError):
            LogitStore.open(store.where).read_block(0, 0)


def test_an_array_that_grows_keeps_what_its_users_noted(tmp_path: Path) -> None:
    store = LogitStore.create(tmp_path / "store", manifest_of())
    path = store_folder(store) / "s000000" / "zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | HARMLESS["notes"]))
    LogitStore.create(store.where, manifest_of(views=9))
    found = json.loads(path.read_text())
    assert (found["attributes"], found["shape"]) == ({"by": "somebody"}, [9, 46, 30])
