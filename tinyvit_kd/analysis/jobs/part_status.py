"""How far a dump, or a part of one, is: from the files that it keeps beside its store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyvit_kd.analysis.jobs.liveness import JobFiles, Life, as_number, read_life
from tinyvit_kd.runs.run_files import ATTEMPTS, RESULTS, beside_store, dump_file, dump_file_name
from tinyvit_kd.runs.uploads import EVERY
from tinyvit_kd.runtime.files import modified, read_small_json
from tinyvit_kd.runtime.progress_file import PROGRESS
from tinyvit_kd.storage.copies import copied, local_path, parts_of
from tinyvit_kd.storage.open import open_storage

Part = tuple[int, int]  # the i-th of n


@dataclass(frozen=True)
class PartStatus:
    """How far a dump, or the i-th of n parts of one, is. What is not known is None.

    Attributes:
        part: (i, n).
        state: see ``liveness.Life``.
        message: what it is doing, or what ended it.
        age: seconds since its last sign of life.
        stands_still: seconds for which an active one has been alive without a new view.
        done, total: views of this start.
        rate: views per second, over all processes.
        seconds_left: to its end.
        seconds: that it worked, all attempts together.
        missing: blocks of its shards that are not in the store.
        host, process, world_size: where it runs.
        figures: of its results, if it has finished.
    """

    part: Part
    state: str
    message: str | None
    age: float | None
    stands_still: float | None
    done: float | None
    total: float | None
    rate: float | None
    seconds_left: float | None
    seconds: float | None
    missing: int | None
    host: Any
    process: Any
    world_size: Any
    figures: dict[str, Any] | None


def part_statuses(
    path: str, missing_of: Callable[[Part], int] | None, now: float, only: Part | None = None
) -> Iterator[PartStatus]:
    """Look at what dumps have left beside a store, by part.

    Args:
        path: of the store.
        missing_of: how many blocks of a part's shards are missing; None where that is not known.
        now: Unix time, seconds.
        only: the part that is looked at; None: all.
    """
    parts = [part for part in dump_parts(path) if only in (None, part)]
    delay = 0.0 if local_path(path) is not None else EVERY + 30
    for part, files in zip(parts, files_beside(path, parts, (PROGRESS, ATTEMPTS, "log", RESULTS)), strict=True):
        progress, attempts, log, results = files
        kept = read_small_json(results)
        life = read_life(JobFiles(progress, attempts, log, delay=delay), now, modified(results) if kept else None)
        yield _part_status(part, life, kept, None if missing_of is None else missing_of(part))


def _part_status(part: Part, life: Life, results: dict[str, Any], missing: int | None) -> PartStatus:
    figures = results.get("figures")
    state = life.state
    if missing == 0 and state in ("silent", "killed", "unknown"):
        state = "finished"  # an old dump, or one that was killed on its last lines: there is nothing left to do
    return PartStatus(
        part=part,
        state=state,
        message=life.message if state == life.state else None,
        age=life.age,
        stands_still=life.stands_still if life.is_active else None,
        done=life.number("done"),
        total=life.number("total"),
        rate=life.number("rate"),
        seconds_left=life.seconds_left,
        seconds=as_number(results.get("seconds")) if results else life.seconds,
        missing=missing,
        host=life.progress.get("host"),
        process=life.progress.get("pid"),
        world_size=life.progress.get("world_size"),
        figures=figures if isinstance(figures, dict) else None,
    )


def dump_parts(path: str) -> Sequence[Part]:
    """The parts of dumps that have left files beside a store, which may not exist yet; at a URL by one listing."""
    local = local_path(path)
    folder, name = parts_of(path) if local is None else (str(local.absolute().parent), local.absolute().name)
    found = {part for store, part, _ in _dump_files(folder) if store == name}
    return sorted(found, key=lambda part: (part[1], part[0]))


def files_beside(path: str, parts: Sequence[Part], endings: Sequence[str]) -> list[list[Path]]:
    """The files that parts of a dump keep beside their store, or copies of those beside a URL; they need not exist.

    Returns:
        for each part, a path for each ending.
    """
    folder = None
    if local_path(path) is None:
        above, name = parts_of(path)
        folder = copied(above, [dump_file_name(name, ending, part) for part in parts for ending in endings])
    places = [[beside_store(path, ending, part, folder) for ending in endings] for part in parts]
    return [[place for place in each if place is not None] for each in places]


def stores_begun(location: str | Path) -> list[str]:
    """Where dumps have begun stores, in a folder or at a URL, by writing beside them, that are not there yet."""
    folder = str(location)
    stores = {store for store, _, ending in _dump_files(folder) if ending in (PROGRESS, ATTEMPTS)}
    there = {entry.base for entry in open_storage(folder).list()} if stores else set()
    return sorted(open_storage(folder).locate(store) for store in stores - there)


def _dump_files(folder: str) -> list[tuple[str, Part, str]]:
    """What dumps have written beside their stores in a folder: name of the store, part and ending."""
    try:
        found = [dump_file(entry.base) for entry in open_storage(folder).list()]
    except OSError:
        return []
    return [each for each in found if each is not None]
