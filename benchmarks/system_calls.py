"""How many system calls does a stage make per sample once it runs: what a shared file system gets to see.

Command:  python -m benchmarks.system_calls [--photos FOLDER] [--samples 2000] [--workers 2] [--stages loading …]
          [--results FILE] [--tiny]
Result:   a table of system calls per thousand samples, and a last line of JSON. Needs Linux and strace.

Each stage runs twice under ``strace -f -c``, in all of its processes, the second time longer; the difference is what
the steady state costs, without a start and an end. "loading" are stage two's loading processes and whoever takes their
batches, without a network. Each run opens new blocks and, in a dump, writes them. A dump makes one view per decode, so
that a view is a sample. Images are as large as photos, views and networks small, which changes the number of calls
little: what threads and the progress file do every second is then more per sample, not less.

"files" are calls that name a file (``strace -e trace=%file``); each goes to the metadata server of a shared disk, as do
listings (``getdents64``).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import describe
from benchmarks.made_shards import write_shards
from benchmarks.photos import drawn, load
from benchmarks.stores import made_up_store, stored_batches
from benchmarks.tiny_world import NETWORK, SIZE, VIEWS, World, make_teacher
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.loader import loading, steps_in_work
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.files import write_json
from tinyvit_kd.runtime.wording import table
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.store.store import LogitStore

SHORT, LONG = 1, 3  # epochs of a training, or views of a dump
BATCH, LANES = 64, 8
LISTINGS = ("getdents", "getdents64")
# Those of ``strace -e trace=%file`` that a process of ours may make.
NAMING = (
    *("access", "chdir", "execve", "faccessat", "faccessat2", "link", "linkat", "lstat", "mkdir", "mkdirat"),
    *("newfstatat", "open", "openat", "readlink", "readlinkat", "rename", "renameat", "renameat2", "rmdir"),
    *("stat", "statfs", "statx", "unlink", "unlinkat", "utimensat"),
)
Calls = Counter[str]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, count, print."""
    options = _parse(arguments)
    if options.stage is not None:
        STAGES[options.stage](options, options.folder, options.length)
        return
    if shutil.which("strace") is None:
        sys.exit("strace is not installed, and nothing else counts system calls here")
    with tempfile.TemporaryDirectory() as folder:
        _write_inputs(options, Path(folder))
        rows = {stage: _steady(options, stage, Path(folder)) for stage in options.stages}
    print(table([("calls per 1,000 samples", *_HEADS), *(_cells(stage, row) for stage, row in rows.items())]))
    result = {
        "machine": describe(),
        "samples": options.samples * (LONG - SHORT),
        "workers": options.workers,
        "per_thousand_samples": rows,
    }
    if options.results is not None:
        write_json(options.results, result)
    print(json.dumps(result))


_HEADS = ("all", "reads", "files", "listings", "largest")


def _cells(stage: str, row: dict[str, Any]) -> tuple[str, ...]:
    largest = list(row["by_name"].items())[:5]
    told = ", ".join(f"{name} {calls:,.0f}" for name, calls in largest)
    return stage, *(f"{row[name]:,.1f}" for name in _HEADS[:-1]), told


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of tars or JPEG files; otherwise images are drawn")
    parser.add_argument("--samples", type=int, default=2000, help="of the shard set, in two shards")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--stages", nargs="+", choices=sorted(STAGES), default=list(STAGES))
    parser.add_argument("--results", type=Path, help="a JSON file of the result")
    parser.add_argument("--tiny", action="store_true", help="settings with which it takes seconds, to rehearse it")
    parser.add_argument("--stage", choices=sorted(STAGES), help=argparse.SUPPRESS)  # and the rest: of a traced process
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.tiny:
        options.samples = 256
    return options


def _write_inputs(options: argparse.Namespace, folder: Path) -> None:
    images = load(options.photos) if options.photos is not None else drawn(4 if options.tiny else 32)
    write_shards(folder / "shards", images, shards=2, samples=options.samples // 2)
    names = sorted(path.name for path in (folder / "shards").iterdir())
    info = {"splits": {"train": {"filenames": names, "shard_lengths": [options.samples // 2] * 2}}}
    write_json(folder / "shards" / "_info.json", info)
    shards = ShardSet.load(folder / "shards")
    made_up_store(folder / "store", shards, ViewSpec.model_validate(VIEWS), topk=5, classes=40, views=LONG)
    make_teacher(folder, num_classes=40)


def _steady(options: argparse.Namespace, stage: str, folder: Path) -> dict[str, Any]:
    """What the longer run of a stage makes more than the shorter one, per thousand samples."""
    more = _counted(options, stage, folder, LONG)
    more.subtract(_counted(options, stage, folder, SHORT))
    thousands = options.samples * (LONG - SHORT) / 1000
    calls = {name: round(count / thousands, 1) for name, count in more.most_common() if count > 0}
    return {
        "all": round(sum(more.values()) / thousands, 1),
        "reads": round(sum(more[name] for name in ("pread64", "read")) / thousands, 1),
        "files": round(sum(more[name] for name in NAMING) / thousands, 1),
        "listings": round(sum(more[name] for name in LISTINGS) / thousands, 1),
        "by_name": calls,
    }


def _counted(options: argparse.Namespace, stage: str, folder: Path, length: int) -> Calls:
    """The system calls of a stage in all of its processes."""
    counts = folder / f"{stage}-{length}.counts"
    command = [sys.executable, "-m", "benchmarks.system_calls", "--stage", stage, "--folder", str(folder)]
    command += ["--length", str(length), "--samples", str(options.samples), "--workers", str(options.workers)]
    subprocess.run(["strace", "-f", "-c", "-o", counts, *command], check=True, stdout=subprocess.DEVNULL)
    return parse_counts(counts.read_text())


def parse_counts(text: str) -> Calls:
    """Calls by name, from what ``strace -c`` writes."""
    found: Calls = Counter()
    for line in text.splitlines():
        fields = line.split()  # % time, seconds, usecs/call, calls, errors if there are any, syscall
        if len(fields) in (5, 6) and fields[3].isdecimal() and fields[-1] != "total":
            found[fields[-1]] += int(fields[3])
    return found


def _runtime(options: argparse.Namespace) -> dict[str, Any]:
    return {"workers": options.workers, "device": "cpu", "threads": 1}


def _load(options: argparse.Namespace, folder: Path, length: int) -> None:
    shards, store = ShardSet.load(folder / "shards"), LogitStore.open(folder / "store")
    runtime = RuntimeConfig(**_runtime(options))
    maker = stored_batches(shards, store, BATCH, LANES, steps=steps_in_work(runtime))
    with loading(maker, range(length * maker.plan.steps_per_epoch), runtime, torch.device("cpu")) as batches:
        for _ in batches:
            pass


def _pretrain(options: argparse.Namespace, folder: Path, length: int) -> None:
    schedule = {"epochs": length, "warmup_epochs": 0.5, "global_batch_size": BATCH, "lanes": LANES}
    sections = {"output": str(folder / f"run-{length}"), "student": {"tiny_vit": NETWORK}, "train": {}}
    config = World(folder).pretrain(schedule=schedule, runtime=_runtime(options), **sections)
    pretrain(config, solo_job())


def _dump(options: argparse.Namespace, folder: Path, length: int) -> None:
    store = {"path": str(folder / f"dumped-{length}"), "topk": 5, "views": length}
    views = VIEWS | {"size": SIZE}
    config = World(folder).dump(store=store, views=views, views_per_decode=1, batch_size=64, runtime=_runtime(options))
    dump_logits(config, solo_job())


STAGES = {"loading": _load, "pretrain": _pretrain, "dump-logits": _dump}


if __name__ == "__main__":
    main()
