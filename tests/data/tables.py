"""Tables of images as ``datasets`` writes them, by pyarrow alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.data.source_trees import JPEG

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra parquet)")
pq = pytest.importorskip("pyarrow.parquet")

NAMES = ["tench, Tinca tinca", "kit fox", "ant"]  # not sorted: the order is the data set's own
IMAGES = [JPEG + bytes(number) for number in range(1, 8)]
LABELS = [0, 1, 1, 0, 1, 0, 0]


def hub_schema(*labels: str) -> Any:
    """The schema of images and classes as ``datasets`` writes it."""
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    features |= {label: {"names": NAMES, "_type": "ClassLabel"} for label in labels}
    image = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])
    fields = [pa.field("image", image), *(pa.field(label, pa.int64()) for label in labels)]
    return pa.schema(fields, {"huggingface": json.dumps({"info": {"features": features}})})


def hub_table(chosen: Sequence[int], label: str = "label") -> Any:
    """Some of the images, as a table of that schema."""
    images = [{"bytes": IMAGES[number], "path": f"{number}.jpg" if number % 2 else None} for number in chosen]
    columns = {"image": images, label: [LABELS[number] for number in chosen]}
    return pa.table(columns, schema=hub_schema(label))


def write_parquet(path: Path, table: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=2)
    return path


def save_to_disk(folder: Path, chosen: Sequence[int], files: int = 2, **state: Any) -> Path:
    """A data set in several Arrow streams, with the files that ``datasets`` writes beside them."""
    folder.mkdir(parents=True)
    names = [f"data-{number:05d}-of-{files:05d}.arrow" for number in range(files)]
    for number, name in enumerate(names):
        table = hub_table(chosen[number::files])
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    said = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", "_split": "train"} | state
    (folder / "state.json").write_text(json.dumps(said))
    (folder / "dataset_info.json").write_text(json.dumps({"features": {}}))
    return folder
