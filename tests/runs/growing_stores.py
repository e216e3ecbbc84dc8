"""Stores that come to be while a test runs, as those of a dump do: block by block."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from tinyvit_kd.runs import following, stored_data, waiting
from tinyvit_kd.store.names import block_name
from tinyvit_kd.store.store import LogitStore

Blocks = Sequence[tuple[int, int]]  # shard and view of each


def view_by_view(store: LogitStore) -> Blocks:
    """All blocks, in the order of a dump with ``block_order: views``."""
    return sorted(store.present_blocks([]), key=lambda block: block[::-1])


def begin(source: Path, target: Path) -> None:
    """What a dump writes before its blocks: descriptions of the arrays, the class list, and the manifest last."""
    for path in sorted(source.rglob("*.*"), key=lambda path: path.name == "manifest.json"):
        if not path.name.startswith("c.") and path.is_file():
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / path.relative_to(source))


def add(source: Path, target: Path, blocks: Blocks) -> None:
    """Write blocks as a dump does: aside, and renamed."""
    for shard, view in blocks:
        aside = target / f".{shard}.{view}.partial"
        shutil.copyfile(source / block_name(shard, view), aside)
        aside.rename(target / block_name(shard, view))


def growing(source: Path, target: Path, blocks: Blocks) -> Iterator[None]:
    """Lets a store come to be as a copy of another one, step by step: its beginning, then each block."""
    begin(source, target)
    yield
    for block in blocks:
        add(source, target, [block])
        yield


def grow_while_waiting(monkeypatch: pytest.MonkeyPatch, *stores: Iterator[None]) -> None:
    """Let stores grow by a step whenever a run that waits for them would sleep, and at no other time."""

    def sleep(seconds: float) -> None:
        del seconds
        for store in stores:
            next(store, None)

    for name in ("FIRST_PAUSE", "LAST_PAUSE", "LOOKING"):
        monkeypatch.setattr(waiting, name, {"LOOKING": 1e9}.get(name, 0.0))
    for module in (following, stored_data):
        monkeypatch.setattr(module, "Waiter", partial(waiting.Waiter, sleep=sleep))
