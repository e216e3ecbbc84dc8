"""Run folders and stores as jobs leave them, made of their files alone."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

from tinyvit_kd.runs.run_files import RECIPE
from tinyvit_kd.runtime.loggers.own_files import METRICS
from tinyvit_kd.storage.local import LocalStorage
from tinyvit_kd.store.create import prepare_store
from tinyvit_kd.store.manifest import Manifest, TeacherEntry
from tinyvit_kd.store.names import block_name

NOW = 1_800_000_000.0  # Unix time, seconds


def write(path: Path, content: Any, age: float = 1.0) -> Path:
    """Write a file, as text or as JSON, that is ``age`` seconds old by the clock of its disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    os.utime(path, (NOW - age, NOW - age))
    return path


def progress(state: str = "running", age: float = 1.0, **changed: Any) -> dict[str, Any]:
    """A ``progress.json`` that was written ``age`` seconds ago by the clock of the job, on another machine."""
    return {
        "stage": "pretrain",
        "state": state,
        "started": NOW - 100,
        "updated": NOW - age,
        "advanced": NOW - age,
        "done": 120,
        "total": 400,
        "unit": "step",
        "views_per_unit": 16,
        "rate": 2.0,
        "seconds_left": 140.0,
        "host": "another-machine",
        "pid": os.getpid(),
        "world_size": 1,
        "message": None,
    } | changed


def write_run(folder: Path, *lines: dict[str, Any], **recipe: Any) -> Path:
    """A run folder with a recipe and lines of metrics."""
    write(folder / RECIPE, {"stage": "pretrain", "schedule": {"global_batch_size": 16}} | recipe)
    write(folder / METRICS, "".join(json.dumps(line) + "\n" for line in lines))
    return folder


def gone_process() -> dict[str, Any]:
    """Host and number of a process that was on this machine, and is no more."""
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    return {"host": platform.node(), "pid": child}


def make_store(path: Path, shards: int = 4, views: int = 3, missing: tuple[tuple[int, int], ...] = ()) -> Path:
    """A store whose blocks are empty files: whoever reads one fails."""
    manifest = Manifest(
        shard_set="set",
        shard_names=tuple(f"train-{number}.tar" for number in range(shards)),
        shard_lengths=(10,) * shards,
        key_hashes=tuple(range(shards)),
        view_spec={"size": 16},
        view_spec_hash="00",
        teacher=TeacherEntry(
            name="Net", weights_hash="ab", image_size=16, mean=(0, 0, 0), std=(1, 1, 1), precision="float32"
        ),
        num_classes=10,
        class_list=None,
        class_list_hash=None,
        topk=5,
        views=views,
        encoding="compact",
        seed=0,
        versions={},
    )
    prepare_store(LocalStorage(str(path)), manifest, fsync=False)
    for shard in range(shards):
        for view in range(views):
            if (shard, view) not in missing:
                (path / block_name(shard, view)).touch()
    return path
