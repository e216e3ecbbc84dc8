"""Gathers what a report shows: runs and stores at some paths, and the stores that these runs learned from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import filterfalse
from typing import Any, TypeVar

from tinyvit_kd import __version__
from tinyvit_kd.analysis.jobs.folders import Place, find_places, is_store_folder, real_path, short_names
from tinyvit_kd.analysis.jobs.run_folder import RunFolder, read_run
from tinyvit_kd.analysis.jobs.run_status import run_status
from tinyvit_kd.analysis.jobs.store_status import store_status
from tinyvit_kd.analysis.jobs.traces import attempts_of, dump_results, last_lines
from tinyvit_kd.analysis.records.store_glimpse import glimpse
from tinyvit_kd.errors import TinyVitKdError
from tinyvit_kd.reports.content import Report, ReportedRun, ReportedStore
from tinyvit_kd.reports.pictures import pictures
from tinyvit_kd.reports.runs_section import store_paths
from tinyvit_kd.reports.states import store_state
from tinyvit_kd.reports.words import is_number, moment
from tinyvit_kd.runtime.wording import counted
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.store import LogitStore

Read = TypeVar("Read")
NAMED = 3  # runs and stores that make up a title


@dataclass(frozen=True)
class Asked:
    """What a report is to look at.

    Attributes:
        title: of the page; None: the names of what is in it.
        blocks: of each store, that are read for its figures; 0 for none.
        samples: of each store, that are shown; 0 for none.
        shards: section of a recipe that names the shards of stores; None: those that recipes name.
        processes: how many read blocks.
        command: that makes the report again; empty where that is not known.
    """

    title: str | None = None
    blocks: int = 32
    samples: int = 4
    shards: Mapping[str, Any] | None = None
    processes: int = 1
    command: str = ""


def gather(paths: Sequence[str], asked: Asked) -> Report:
    """Read runs and stores.

    Raises:
        ConfigError: a path is and holds neither a run nor a store, or a run that was named cannot be read.
        StoreError: a store that was named cannot be read.
    """
    now = time.time()
    not_read: list[tuple[str, str]] = []
    places = find_places(paths)
    runs = _in_order(places, list(_readable(filter(_is_run, places), _read_run, not_read)))
    at = [*filterfalse(_is_run, places), *_learned_from(runs, places)]
    opened = list(_readable(at, _open_store, not_read))
    names = short_names([*(run.where for run in runs), *(store.where for store in opened)])
    return Report(
        asked.title or _title(paths, names),
        f"Made {moment(now)} with tinyvit_kd {__version__}.",
        tuple(reported_run(run, name, now) for run, name in zip(runs, names, strict=False)),
        tuple(
            reported_store(store, name, runs, asked, now)
            for store, name in zip(opened, names[len(runs) :], strict=True)
        ),
        tuple(not_read),
        asked.command,
    )


def _is_run(place: Place) -> bool:
    return place.is_run


def _read_run(path: str) -> RunFolder:
    return read_run(path)


def _open_store(path: str) -> LogitStore:
    return LogitStore.open(path)


def _readable(places: Iterable[Place], read: Callable[[str], Read], not_read: list[tuple[str, str]]) -> Iterator[Read]:
    """What can be read; the others are noted, but one that was named has to be readable."""
    for place in places:
        try:
            yield read(place.path)
        except TinyVitKdError as error:
            if place.named:
                raise
            not_read.append((place.path, str(error)))


def _in_order(places: Sequence[Place], runs: list[RunFolder]) -> list[RunFolder]:
    """Runs that were named stay in that order; those that were found are sorted by the time of their first line."""
    if any(place.named for place in places if place.is_run):
        return runs
    return sorted(
        runs, key=lambda run: min((line["time"] for line in run.lines if is_number(line.get("time"))), default=math.inf)
    )


def _learned_from(runs: Sequence[RunFolder], places: Sequence[Place]) -> list[Place]:
    """Stores that runs learned from, are there, and were not given already."""
    known = {real_path(place.path) for place in places}
    found = {real_path(path): path for run in runs for path in store_paths(run.recipe or {}) if _is_there(path)}
    return [Place(path, is_run=False, named=False) for real, path in found.items() if real not in known]


def _is_there(path: str) -> bool:
    """Whether a store that a recipe names can be seen from here; one whose storage refuses cannot."""
    try:
        return is_store_folder(path)
    except (OSError, TinyVitKdError):
        return False


def _title(paths: Sequence[str], names: Sequence[str]) -> str:
    if len(names) <= NAMED:
        return ", ".join(names)
    return (
        short_names([paths[0]])[0]
        if len(paths) == 1
        else f"{', '.join(names[:NAMED])} and {counted(len(names) - NAMED, 'other')}"
    )


def reported_run(run: RunFolder, name: str, now: float) -> ReportedRun:
    """A run as a report shows it.

    Args:
        now: Unix time, seconds.
    """
    status = run_status(run.where, now)
    return ReportedRun(
        name, run, status, attempts_of(run.path), () if status.state == "finished" else last_lines(run.path)
    )


def reported_store(store: LogitStore, name: str, runs: Sequence[RunFolder], asked: Asked, now: float) -> ReportedStore:
    """A store as a report shows it: what its manifest says, figures of some blocks, and some samples.

    Args:
        runs: whose recipes may name its shards.
        now: Unix time, seconds.
    """
    dumps = dump_results(store.where)
    recipes = [asked.shards] if asked.shards else list(_shards_of(store, runs, dumps))
    seen = glimpse(store, recipes, asked.blocks, asked.samples, asked.processes)
    return ReportedStore(
        name,
        store.where,
        (("State", store_state(store_status(store.where, now))), *_manifest_facts(store.manifest).items()),
        seen.figures,
        tuple(pictures(seen.samples, seen.names)),
        seen.notes,
        dumps,
    )


def _shards_of(
    store: LogitStore, runs: Sequence[RunFolder], dumps: Sequence[Mapping[str, Any]]
) -> Iterator[Mapping[str, Any]]:
    """Sections of recipes that may name the shards of a store: of those that dumped it, and that learned from it."""
    for dump in dumps:
        if isinstance(dump.get("recipe"), dict) and isinstance(dump["recipe"].get("shards"), dict):
            yield dump["recipe"]["shards"]
    for run in runs:
        recipe = run.recipe or {}
        if any(real_path(path) == real_path(store.where) for path in store_paths(recipe)) and isinstance(
            recipe.get("shards"), dict
        ):
            yield recipe["shards"]


def _manifest_facts(manifest: Manifest) -> dict[str, str]:
    teacher, samples = manifest.teacher, counted(sum(manifest.shard_lengths), "sample")
    return {
        "Teacher": f"{teacher.name}, weights {teacher.weights_hash}, input of {teacher.image_size} pixels, "
        f"{teacher.precision}",
        "Shards": f"{len(manifest.shard_names):,} with {samples} ({manifest.shard_set})",
        "Views": f"{manifest.views} per sample, {manifest.view_spec['size']} pixels, spec {manifest.view_spec_hash}",
        "Records": f"top {manifest.topk:,} of {counted(manifest.num_classes, 'class')} "
        f"({manifest.class_list or 'no class list'}), {manifest.encoding}",
        "Made with": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    }
