"""What a run's weights go back to: the runs that it started from, their data, stores and teachers.

Runs that wrote ``results.json`` say it themselves; of older ones, the recipe and the store's manifest are read, as far
as they are still there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from tinyvit_kd.analysis.jobs.run_folder import RunFolder, is_run_folder, read_run
from tinyvit_kd.data.locating.urls import without_command
from tinyvit_kd.errors import TinyVitKdError
from tinyvit_kd.storage.open import open_storage
from tinyvit_kd.store.manifest import Manifest

_LONGEST = 8  # runs behind each other, in case that two name each other

Facts = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """One run, and what it was made from.

    Attributes:
        name: of its folder.
        recipe: as plain data; empty if it cannot be read.
        figures: results of the finished run; empty if it has not finished.
        data: shard sets by use (``shards``, ``eval``), each with the fields that are known of: name, split, samples,
            hash.
        stores: of each, what is known of: name, views, topk, encoding, hash.
        teachers: of each store, what is known of: name, image_size, weights_hash, precision.
        started_from: what the first weights were, for people; empty if they were random.
        surroundings: versions, machine, world_size and seconds, where the run wrote them down.
    """

    name: str
    recipe: Facts
    figures: Facts
    data: dict[str, Facts]
    stores: list[Facts]
    teachers: list[Facts]
    started_from: str
    surroundings: Facts


def lineage(run: RunFolder) -> list[Stage]:
    """A run and those that it goes back to, as far as they are on this disk; the first one first."""
    stages: list[Stage] = []
    current: RunFolder | None = run
    while current is not None and len(stages) < _LONGEST:
        stages.insert(0, _stage(current))
        current = _before(current)
    return stages


def last_part(location: str) -> str:
    """The last part of a path or URL: what others may know of somebody's disks. Of a command, nothing."""
    location = without_command(location)
    return PurePosixPath(location.partition("?")[0].rstrip("/")).name or location


def _stage(run: RunFolder) -> Stage:
    recipe, results = run.recipe or {}, run.results or {}
    stores, teachers = results.get("stores"), results.get("teacher")
    if stores is None:
        stores, teachers = _stores_of(recipe)
    return Stage(
        name=run.name,
        recipe=recipe,
        figures=run.summary or {},
        data={use: _with_name(_facts(each)) for use, each in (_facts(results.get("data")) or _data_of(recipe)).items()},
        stores=[_with_name(each) for each in _all_facts(stores)],
        teachers=_all_facts(teachers),
        started_from=_started_from(recipe),
        surroundings={
            name: results[name] for name in ("versions", "machine", "world_size", "seconds") if name in results
        },
    )


def _with_name(facts: Facts) -> Facts:
    return {**facts, "name": facts.get("name") or last_part(str(facts.get("path", "")))}


def _data_of(recipe: Facts) -> dict[str, Facts]:
    sections = {"shards": _facts(recipe.get("shards")), "eval": _facts(_facts(recipe.get("eval")).get("shards"))}
    return {use: {"path": each.get("path", ""), "split": each.get("split")} for use, each in sections.items() if each}


def _facts(value: Any) -> Facts:
    """A section of a file that somebody may have changed by hand; empty if it is none."""
    return value if isinstance(value, dict) else {}


def _all_facts(value: Any) -> list[Facts]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _stores_of(recipe: Facts) -> tuple[list[Facts], list[Facts]]:
    """What recipe and manifests say of the stores, and of their teachers."""
    section = _facts(recipe.get("store"))
    named = [each.get("path") for each in (section, *_all_facts(section.get("others")))]
    paths = [path for path in named if isinstance(path, str)]
    stores: list[Facts] = []
    teachers: list[Facts] = []
    for path in paths:
        try:
            manifest = Manifest.load(open_storage(path))
        except (TinyVitKdError, OSError):
            stores.append({"path": path})
            continue
        known = ("views", "topk", "encoding", "class_list", "shard_set")
        stores.append({"path": path, "hash": manifest.hash} | {name: getattr(manifest, name) for name in known})
        teachers.append(manifest.teacher.model_dump(mode="json"))
    return stores, teachers


def _started_from(recipe: Facts) -> str:
    student = _facts(recipe.get("student"))
    if student.get("pretrained"):
        return f"timm's weights of {student.get('name')}"
    return last_part(str(student["init_from"])) if student.get("init_from") else ""


def _before(run: RunFolder) -> RunFolder | None:
    origin = _facts((run.recipe or {}).get("student")).get("init_from")
    if not isinstance(origin, str) or not origin:
        return None
    try:
        return read_run(origin) if is_run_folder(origin) else None
    except (TinyVitKdError, OSError, ValueError):  # it may be no path at all
        return None
