"""Reads arrays from the bytes of an ``.npz`` file that a stranger may have written."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def read_npz(content: bytes, dtypes: Mapping[str, str], optional: Collection[str] = ()) -> dict[str, npt.NDArray[Any]]:
    """Read some arrays of an uncompressed ``.npz`` file. No more memory is taken than the file itself has.

    ``numpy.load`` takes what an array's header says before it looks whether the file has as much, and unpacks what a
    zip unpacks to.

    Args:
        content: of the file.
        dtypes: the only type that is accepted of each array, such as ``<i8``.
        optional: names of arrays that the file may lack.

    Returns:
        The arrays; they cannot be written to.

    Raises:
        ValueError: an array is compressed, is of another type, or is shorter or longer than its header says.
        zipfile.BadZipFile, KeyError, OSError, EOFError: the file is damaged, or lacks an array.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        present = set(archive.namelist())
        return {
            name: _array(archive, f"{name}.npy", np.dtype(dtype), len(content))
            for name, dtype in dtypes.items()
            if name not in optional or f"{name}.npy" in present
        }


def _array(archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], limit: int) -> npt.NDArray[Any]:
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED or max(entry.file_size, entry.compress_size) > limit:
        raise ValueError(f"{name} is compressed")
    data = archive.read(entry)
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"{name} is of another version of the format")
    shape, fortran_order, found = np.lib.format.read_array_header_1_0(stream)
    if found != dtype or len(shape) > 1 or fortran_order:
        raise ValueError(f"{name} is of another type or shape")
    count = int(shape[0]) if shape else 1
    if count * dtype.itemsize != len(data) - stream.tell():
        raise ValueError(f"{name} is shorter or longer than its header says")
    return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape)
