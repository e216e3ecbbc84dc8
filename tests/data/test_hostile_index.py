"""An index file from a stranger takes no more memory than it has bytes, and points nowhere but into its tar."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.data.tars import write_samples
from tinyvit_kd.data.indexing.index_file import load_index
from tinyvit_kd.data.indexing.npz import read_npz
from tinyvit_kd.data.locating.patterns import INDEX_SUFFIX

Arrays = dict[str, npt.NDArray[Any]]


def _npy(header: str, data: bytes = b"") -> bytes:
    """An array's file with any header."""
    padded = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode() + data


def _saved(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _with(content: bytes, name: str, data: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive in which one file is another."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for entry in old.infolist():
            if entry.filename != name:
                new.writestr(entry.filename, old.read(entry))
        new.writestr(name, data, compression)
    return file.getvalue()


CHANGES: dict[str, Callable[[Arrays], Arrays]] = {
    "offsets before the tar": lambda old: old | {"offsets": old["offsets"] - 10_000},
    "offsets beyond the tar": lambda old: old | {"offsets": old["offsets"] + (1 << 40)},
    "sizes beyond the tar": lambda old: old | {"sizes": old["sizes"] + (1 << 40)},
    "sizes that overflow": lambda old: old | {"sizes": old["sizes"] | (2**63 - 1)},
    "negative sizes": lambda old: old | {"sizes": -old["sizes"]},
    "fewer labels": lambda old: old | {"labels": old["labels"][:-1]},
    "ends beyond the keys": lambda old: old | {"key_ends": old["key_ends"] + 1},
    "ends out of order": lambda old: old | {"key_ends": old["key_ends"][::-1].copy()},
    "another type": lambda old: old | {"sizes": old["sizes"].astype(np.float64)},
    "objects": lambda old: old | {"sizes": old["sizes"].astype(object)},
    "a table": lambda old: old | {"sizes": old["sizes"].reshape(1, -1)},
    "no leftovers": lambda old: {name: array for name, array in old.items() if name != "leftovers"},
    "leftovers that are no JSON": lambda old: old | {"leftovers": np.frombuffer(b"[1", np.uint8)},
    "codes of texts that are not there": lambda old: old | {"label_text_codes": np.full(5, 3, np.int64)},
}

RAW: dict[str, Callable[[bytes], bytes]] = {
    "a header that asks for terabytes": lambda old: _with(
        old, "offsets.npy", _npy("{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }")
    ),
    "a negative length": lambda old: _with(
        old, "offsets.npy", _npy("{'descr': '<i8', 'fortran_order': False, 'shape': (-1,), }")
    ),
    "an array that unpacks to 300 MB": lambda old: _with(
        old,
        "key_bytes.npy",
        _npy("{'descr': '|u1', 'fortran_order': False, 'shape': (300000000,), }", bytes(300_000_000)),
        zipfile.ZIP_DEFLATED,
    ),
    "a file larger than its tar": lambda old: old + bytes(100_000_000),
    "no zip": lambda _: bytes(1000),
}


@pytest.mark.parametrize("change", [*CHANGES, *RAW])
def test_an_index_that_cannot_be_is_made_again(tmp_path: Path, change: str) -> None:
    path = write_samples(tmp_path / "a.tar", 0, 5)
    made = load_index(path)
    file = path.with_name(path.name + INDEX_SUFFIX)
    good = file.read_bytes()
    if change in RAW:
        file.write_bytes(RAW[change](good))
    else:
        with np.load(file) as arrays:
            file.write_bytes(_saved(CHANGES[change](dict(arrays))))
    assert file.read_bytes() != good
    tracemalloc.start()
    again = load_index(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    assert (again.key_hash, again.label_hash, again.offsets.tolist()) == (
        made.key_hash,
        made.label_hash,
        made.offsets.tolist(),
    )
    assert file.read_bytes() == good


def test_arrays_are_read_as_numpy_reads_them() -> None:
    arrays: Arrays = {"a": np.arange(5), "b": np.empty(0, np.uint8), "c": np.array(7)}
    read = read_npz(_saved(arrays), {"a": "<i8", "b": "|u1", "c": "<i8"})
    assert all(np.array_equal(read[name], arrays[name]) and read[name].shape == arrays[name].shape for name in arrays)


# Indexes of the version before, which say neither what was left out nor what labels are if they are no numbers.


def _make_old(file: Path) -> None:
    with np.load(file) as arrays:
        old = {name: array for name, array in arrays.items() if name != "leftovers" and "label_text" not in name}
        file.write_bytes(_saved(old | {"version": np.array(1)}))


def test_an_index_of_the_version_before_is_made_again_once(tmp_path: Path) -> None:
    path = write_samples(tmp_path / "a.tar", 0, 5)
    made = load_index(path)
    file = path.with_name(path.name + INDEX_SUFFIX)
    new = file.read_bytes()
    _make_old(file)
    again = load_index(path)
    assert (again.key_hash, again.label_hash) == (made.key_hash, made.label_hash)
    assert file.read_bytes() == new


def test_where_it_cannot_be_replaced_an_index_of_the_version_before_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_samples(tmp_path / "a.tar", 0, 5)
    made = load_index(path)
    _make_old(path.with_name(path.name + INDEX_SUFFIX))
    monkeypatch.setattr("tinyvit_kd.data.shard_files.os.access", lambda *_: False)  # root may write anywhere
    monkeypatch.setattr(
        "tinyvit_kd.data.indexing.index_file.scan_tar", lambda *_: pytest.fail("the tar was walked through")
    )
    old = load_index(path)
    assert (old.key_hash, old.label_hash, old.leftovers) == (made.key_hash, made.label_hash, None)
    assert "earlier version" in capsys.readouterr().err
