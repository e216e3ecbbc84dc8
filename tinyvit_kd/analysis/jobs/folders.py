"""Finds runs, stores and searches among folders, so that whoever has many can name the folder that holds them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tinyvit_kd.analysis.jobs.run_folder import is_run_folder
from tinyvit_kd.errors import ConfigError, reason_of
from tinyvit_kd.runs.run_files import RECIPE, SEARCH_IDENTITY, SEARCH_PAGE, SEARCH_RECIPE
from tinyvit_kd.runtime.loggers.own_files import METRICS
from tinyvit_kd.storage.base import Storage
from tinyvit_kd.storage.copies import local_path
from tinyvit_kd.storage.open import open_storage
from tinyvit_kd.store.names import MANIFEST

DEPTH = 4  # levels of folders below a given one that are looked into


@dataclass(frozen=True)
class Place:
    """A run or a store.

    Attributes:
        path: or URL of its folder.
        is_run: a run, not a store.
        named: it was given by its own path, not found in a folder.
    """

    path: str
    is_run: bool
    named: bool


def find_places(paths: Sequence[str]) -> list[Place]:
    """The runs and stores at some paths, each of which is one, or a folder that holds some; each is listed once.

    Raises:
        ConfigError: a path does not exist, cannot be read, or is and holds neither a run nor a store.
    """
    found: dict[str, Place] = {}
    for path in paths:
        for place in [_at(path, named=True)] if _is_place(path) else _inside(path):
            found.setdefault(real_path(place.path), place)
    return list(found.values())


def find_searches(paths: Sequence[str]) -> list[str]:
    """The folders of searches at some paths and below them, where these can be read; there are none at URLs."""
    found: dict[str, str] = {}
    for path in paths:
        folder = local_path(path)
        if folder is None or _is_place(path):
            continue
        below = [path] if is_search_folder(folder) else [str(each) for each in _searches_below(folder)]
        for each in below:
            found.setdefault(real_path(each), each)
    return list(found.values())


def is_search_folder(path: Path) -> bool:
    """Whether a folder is that of a search (``contract``)."""
    return all((path / name).is_file() for name in (SEARCH_IDENTITY, SEARCH_RECIPE)) and not is_run_folder(path)


def is_store_folder(location: str | Path) -> bool:
    """Whether a folder, or what is at a URL, is a store."""
    path = local_path(str(location))
    if path is not None:
        return (path / MANIFEST).is_file() and not is_run_folder(path)
    return open_storage(str(location)).info(MANIFEST) is not None and not is_run_folder(location)


def short_names(paths: Sequence[str]) -> list[str]:
    """The last parts of the paths of some folders, as many as tell them apart."""
    parts = [_parts(path) for path in paths]
    for count in range(1, max(map(len, parts), default=0) + 1):
        names = ["/".join(each[-count:]) or "/" for each in parts]
        if len(set(names)) == len(names):
            return names
    return list(paths)


def _parts(path: str) -> tuple[str, ...]:
    """The parts of a path, from the root on, or of a URL."""
    whole = path.split("/") if "://" in path else Path(path).absolute().parts
    return tuple(each for each in whole if each != "/")


def _is_place(path: str) -> bool:
    return is_run_folder(path) or is_store_folder(path)


def _at(path: str, named: bool) -> Place:
    return Place(path, is_run_folder(path), named)


def real_path(path: str) -> str:
    """A path that all ways to the same folder have in common; a URL as it is."""
    return path if "://" in path else str(Path(path).resolve())


def _inside(path: str) -> list[Place]:
    if local_path(path) is None:
        places = list(_below_url(open_storage(path), "", DEPTH))
        # What is nowhere to be seen may be a store that a dump is about to make.
        return places or [Place(path, is_run=False, named=True)]
    folder = Path(path)
    if not folder.is_dir():
        raise ConfigError(
            "there is nothing to look into here" if not folder.exists() else "this is not a folder",
            where=path,
            expected="the folder of a run or a store, or one that holds some",
        )
    if is_search_folder(folder):
        raise ConfigError(
            "this is the folder of a search, not of a run or a store",
            where=path,
            fix=f"open {folder / SEARCH_PAGE}, the page that the search writes after each round; "
            f"tinyvit-kd status {path} tells how far it is",
        )
    try:
        inner = list(_below(folder, DEPTH))
    except OSError as error:
        raise ConfigError("this folder cannot be read", where=path, found=reason_of(error)) from None
    places = [_at(str(each), named=False) for each in inner if _is_place(str(each))]
    if not places:
        searches = [str(each) for each in inner]
        raise ConfigError(
            "there is neither a run nor a store here",
            where=path,
            found=f"searches, which have pages of their own ({SEARCH_PAGE}): {', '.join(searches)}" if searches else "",
            expected=f"the folder of a run or a store, or one that holds some, at most {DEPTH} levels below it",
        )
    return places


def _searches_below(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from (each for each in _below(folder, DEPTH) if is_search_folder(each))


def _below_url(storage: Storage, folder: str, depth: int) -> Iterator[Place]:
    """Runs and stores below a URL, by name, and not in each other: one request for each folder and 1,000 entries."""
    for entry in storage.list(folder):
        if entry.kind != "folder" or entry.base.startswith("."):
            continue
        files = {each.base for each in storage.list(entry.name) if each.kind == "file"}
        is_run = bool(files & {RECIPE, METRICS})
        if is_run or MANIFEST in files:
            yield Place(storage.locate(entry.name), is_run, named=False)
        elif depth > 1:
            yield from _below_url(storage, entry.name, depth - 1)


def _below(folder: Path, depth: int) -> Iterator[Path]:
    """Runs, stores and searches in a folder, by name; not in each other, and not through links to folders above."""
    with os.scandir(folder) as entries:
        inner = sorted(Path(entry.path) for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    for each in inner:
        if _is_place(str(each)) or is_search_folder(each):
            yield each
        elif depth > 1 and os.access(each, os.R_OK | os.X_OK):
            yield from _below(each, depth - 1)
