"""What a run under faults left, compared with what one without faults made: bit for bit."""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
import xxhash

from benchmarks.local_files import block_file
from tinyvit_kd.errors import CheckpointError, StoreError
from tinyvit_kd.models.modelfile import MODEL, load_model_file
from tinyvit_kd.stages.shards.check import check as check_shards
from tinyvit_kd.stages.shards.check import describe_check as describe_shards_check
from tinyvit_kd.stages.store.check import check, repair
from tinyvit_kd.storage.local import LocalStorage
from tinyvit_kd.store.arrays import any_block
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore


def block_digest(block: Block) -> str:
    """32 hexadecimal digits over every decoded record of a block."""
    digest = xxhash.xxh3_128()
    for name, values in vars(block).items():
        digest.update(f"{name} {values.dtype} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def store_differences(path: Path, reference: Path) -> list[str]:
    """What differs between two stores' records, and what ``store check`` finds wrong with the first."""
    try:
        store, right = LogitStore.open(path), LogitStore.open(reference)
        blocks = {(shard, view) for shard in range(len(right.manifest.shard_names)) for view in _views(right)}
        differing = [
            f"{block_file(store, *block)} differs"
            for block in sorted(blocks)
            if block_digest(store.read_block(*block)) != block_digest(right.read_block(*block))
        ]
    except StoreError as error:
        return [str(error)]
    return differing + _unsound(path)


def _views(store: LogitStore) -> range:
    return range(store.manifest.views)


def _unsound(path: Path) -> list[str]:
    """What is wrong with a store; only unfinished files of killed writers are allowed, and must be removable."""
    with redirect_stderr(io.StringIO()):  # a bar would be drawn for every call
        report = check(path, 1)
        faults = [f"store check: {fault.kind} {fault.where} {fault.reason}" for fault in report.faults]
        if all(fault.kind == "partial" for fault in report.faults):
            repair(path, report)
            faults = [f"still there: {fault.where}" for fault in check(path, 1).faults]
    return faults + ([f"{report.missing} blocks are missing"] if report.missing else [])


def weight_differences(path: Path, reference: Path) -> list[str]:
    """What differs between the model files of two runs."""
    try:
        (left, card), (right, other) = load_model_file(path), load_model_file(reference)
    except CheckpointError as error:
        return [str(error)]
    if left.keys() != right.keys() or card != other:
        return [f"{path / MODEL} is of another network, or of another step"]
    different = [name for name in right if not _same(left[name], right[name])]
    return [f"{path / MODEL}: {len(different)} tensors differ, among them {different[0]}"] if different else []


def _same(left: torch.Tensor, right: torch.Tensor) -> bool:
    return left.dtype == right.dtype and torch.equal(left, right)


def shard_differences(path: Path, reference: Path) -> list[str]:
    """What differs between two shard sets' files, and what ``shards check`` finds wrong with the first."""
    names = [each.name for pattern in ("*.tar", "classes.txt", "_info.json") for each in reference.glob(pattern)]
    found = {each.name for each in path.glob("*.tar")}
    problems = [f"{path / name} does not belong there" for name in sorted(found - set(names))]
    for name in sorted(names):
        if not (path / name).is_file() or (path / name).read_bytes() != (reference / name).read_bytes():
            problems.append(f"{path / name} is missing or differs")
    if not problems:
        with redirect_stderr(io.StringIO()):
            report = check_shards(str(path), 1)
        problems += [] if report.sound else [f"shards check: {describe_shards_check(report)}"]
    return problems


class Seen(NamedTuple):
    """A block's file and what is in it."""

    inode: int
    changed: int  # nanoseconds
    digest: str


@dataclass
class BlockWatch:
    """Remembers the blocks that were there after each kill, and misses those that are gone or changed later."""

    path: Path
    trace: Path
    _seen: dict[tuple[int, int], Seen] = field(default_factory=dict)
    _traced: int = 0  # bytes of the trace that were read

    def look(self) -> tuple[list[str], int]:
        """What has been lost since the last look; and how many blocks were begun since, but are not there."""
        found, problems = self._present()
        for block, seen in self._seen.items():
            if found.get(block) != seen:
                problems.append(f"view {block[1]} of shard {block[0]} of {self.path} was there, and is gone or changed")
        self._seen = found
        return problems, len(self._begun() - found.keys())

    def _present(self) -> tuple[dict[tuple[int, int], Seen], list[str]]:
        try:
            store = LogitStore.open(self.path)
        except StoreError as error:
            return {}, [str(error)] if any_block(LocalStorage(str(self.path))) else []
        found = dict[tuple[int, int], Seen]()
        problems = list[str]()
        for shard, view in _blocks_there(store):
            status = block_file(store, shard, view).stat()
            try:
                digest = block_digest(store.read_block(shard, view))
            except StoreError as error:
                problems.append(str(error))
                continue
            found[shard, view] = Seen(status.st_ino, status.st_mtime_ns, digest)
        return found, problems

    def _begun(self) -> set[tuple[int, int]]:
        if not self.trace.exists():
            return set()
        with self.trace.open() as file:
            file.seek(self._traced)
            lines = file.read()
            self._traced = file.tell()
        return {(int(shard), int(view)) for shard, view in map(str.split, lines.splitlines())}


def _blocks_there(store: LogitStore) -> Iterable[tuple[int, int]]:
    missing = set(store.missing_blocks())
    every = ((shard, view) for shard in range(len(store.manifest.shard_names)) for view in _views(store))
    return (block for block in every if block not in missing)
