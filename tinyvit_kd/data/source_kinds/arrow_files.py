"""Parquet and Arrow files, batch by batch; a whole file is never in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinyvit_kd.errors import ConfigError, ShardError, TinyVitKdError
from tinyvit_kd.runtime.foreign_errors import first_line_of

ARROW_SUFFIXES = (".parquet", ".arrow")
_ROWS = 64  # of a Parquet file in memory at a time
_BUFFER = 1 << 20  # bytes of each of its columns that are read at a time


def require_pyarrow(path: Path) -> None:
    """Check that what reads these files is installed.

    Raises:
        ConfigError: it is not.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "the package that reads Parquet and Arrow files is not installed",
            where=str(path),
            found=first_line_of(error),
            fix="pip install 'tinyvit_kd[parquet]'",
        ) from None


def schema_of(path: Path) -> Any:
    """The pyarrow schema of a file.

    Raises:
        ConfigError: pyarrow is not installed.
        ShardError: the file cannot be read.
    """
    require_pyarrow(path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix.lower() == ".parquet":
            return pq.read_schema(path)
        with pa.memory_map(str(path)) as source:
            return _open_arrow(source).schema
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


class Batch(NamedTuple):
    """Some rows of a table.

    Attributes:
        rows: a pyarrow record batch.
        address: of the file's first byte, where it is mapped into memory; None: it is not.
        size: of the file, bytes.
    """

    rows: Any
    address: int | None
    size: int


def batches_of(path: Path, columns: Sequence[str]) -> Iterator[Batch]:
    """The rows of a file, in order.

    Args:
        path: of the file.
        columns: those that are wanted; others of a Parquet file are not read.

    Raises:
        ShardError: the file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix.lower() == ".parquet":
            with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
                for rows in file.iter_batches(batch_size=_ROWS, columns=list(columns), use_threads=False):
                    yield Batch(rows, None, 0)
            return
        with pa.memory_map(str(path)) as source:
            whole = source.read_buffer(source.size())
            source.seek(0)
            reader = _open_arrow(source)
            count = getattr(reader, "num_record_batches", None)
            batches = iter(reader) if count is None else map(reader.get_batch, range(count))
            for rows in batches:
                yield Batch(rows.select(list(columns)), whole.address, whole.size)
    except TinyVitKdError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def image_bytes(column: Any) -> Any | None:
    """The bytes of the images in a column, as a pyarrow array of bytes; None: it has none.

    Args:
        column: of bytes, or of structs with a field ``bytes``, as Hugging Face's ``Image`` is stored.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_struct(column.type):
        names = [field.name for field in column.type]
        return image_bytes(pc.struct_field(column, "bytes")) if "bytes" in names else None
    is_bytes = pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
    return column if is_bytes else None


def places_of(content: Any, batch: Batch) -> list[int] | None:
    """The first byte of each image in its file; None if the file holds them compressed, or is not mapped.

    What an Arrow file holds is not copied when it is mapped, so that an image's address says its place in the file.

    Args:
        content: what ``image_bytes`` gives.
        batch: of which it is a column.
    """
    import pyarrow as pa

    if batch.address is None:
        return None
    _, ends, data = content.buffers()
    wide = pa.types.is_large_binary(content.type)
    offsets = np.frombuffer(ends, dtype=np.int64 if wide else np.int32)[content.offset :][: len(content) + 1]
    start = 0 if data is None else data.address - batch.address
    inside = start >= 0 and start + int(offsets[-1]) <= batch.size
    return [start + offset for offset in offsets[:-1].tolist()] if inside else None


def image_paths(column: Any) -> list[str | None]:
    """The paths beside images, or in place of them; None where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_struct(column.type):
        names = [field.name for field in column.type]
        return image_paths(pc.struct_field(column, "path")) if "path" in names else [None] * len(column)
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    is_text = is_text or pa.types.is_dictionary(column.type)
    return [None if each is None else str(each) for each in column.to_pylist()] if is_text else [None] * len(column)


def holds_bytes(kind: Any) -> bool:
    """Whether a pyarrow type can hold images."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and holds_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def features_of(schema: Any) -> Mapping[str, Any]:
    """What Hugging Face's ``datasets`` says of each column, from the schema's metadata; empty if it has not been there.

    Source: ``datasets/features/features.py``, ``Features.arrow_schema``.
    """
    try:
        said = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = said["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _open_arrow(source: Any) -> Any:
    """A reader of an Arrow file in one of its two formats: as a stream, as ``datasets`` writes it, or with a footer."""
    import pyarrow as pa

    head = source.read(6)
    source.seek(0)
    return pa.ipc.open_file(source) if head == b"ARROW1" else pa.ipc.open_stream(source)


def _unreadable(path: Path, error: Exception) -> ShardError:
    return ShardError(
        "a table of images cannot be read",
        where=str(path),
        found=first_line_of(error),
        expected="a whole Parquet or Arrow file",
        fix="fetch or write it again",
    )
