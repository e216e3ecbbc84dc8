"""Finds the tars of a shard set from the path, pattern or URL that a recipe names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse
from urllib.request import url2pathname

from pydantic import BaseModel, Field, ValidationError

from tinyvit_kd.data.locating.at_urls import has_wildcards, match_urls, read_file
from tinyvit_kd.data.locating.fetch_errors import cannot_read
from tinyvit_kd.data.locating.patterns import match_files
from tinyvit_kd.data.locating.remote import read_url, require_cache
from tinyvit_kd.data.locating.served import is_served
from tinyvit_kd.data.locating.undescribed import INFO_NAMES, undescribed, undescribed_url
from tinyvit_kd.data.locating.urls import below, is_url, name_of, names_tars
from tinyvit_kd.errors import ConfigError, ShardError, told_apart


class SplitInfo(BaseModel):
    """One split of timm's ``_info.json``; other fields are ignored."""

    filenames: tuple[str, ...]
    shard_lengths: tuple[int, ...] = Field(description="samples of each shard")
    alt_label: str = ""
    unlabelled: bool = Field(False, description="no sample was given a label, on purpose")


class Info(BaseModel):
    """timm's ``_info.json`` (timm/data/readers/reader_wds.py)."""

    name: str = ""
    splits: dict[str, SplitInfo]


@dataclass(frozen=True)
class ShardListing:
    """The tars of a shard set, before any of them is opened."""

    name: str
    split: str | None
    names: tuple[str, ...]  # of the shards, distinct
    locations: tuple[str, ...]  # a path or URL per shard
    lengths: tuple[int, ...] | None  # samples per shard from _info.json; None without one
    folder: Path | str | None  # may hold classes.txt; a URL if a storage serves it, None for other URLs
    unlabelled: bool = False  # no sample was given a label, on purpose


def locate_shards(path: str, split: str | None, cache_dir: Path | None = None) -> ShardListing:
    """Find the tars that ``path`` names: a folder with ``_info.json``, a pattern, a tar, or a URL of any of these.

    Raises:
        ShardError: there are no tars, or ``_info.json`` cannot be used.
        ConfigError: ``split`` is missing or unknown, the braces of a pattern do not match, or there is a URL and no
            ``cache_dir``, though no storage serves it.
    """
    if path.startswith("file:"):
        path = url2pathname(urlparse(path).path)
    if is_url(path):
        if not is_served(path):
            require_cache(path, cache_dir)
        if names_tars(path) or has_wildcards(path):
            locations = match_urls(path)
            return _from_locations(path, split, locations, _folder_of(locations[0]))
        return _from_info(path, split, path.rstrip("/") if is_served(path) else None)
    if Path(path).is_dir():
        return _from_info(path, split, Path(path))
    locations = match_files(path)
    return _from_locations(path, split, locations, Path(locations[0]).parent)


def _folder_of(url: str) -> str | None:
    return url.rpartition("/")[0] if is_served(url) else None


def _from_locations(path: str, split: str | None, locations: list[str], folder: Path | str | None) -> ShardListing:
    names = _distinct_names(locations)
    at = PurePosixPath(urlparse(locations[0] if isinstance(folder, str) else path).path)
    name = folder.absolute().name if isinstance(folder, Path) else at.parent.name
    return ShardListing(name or path, split, names, tuple(locations), None, folder)


def _distinct_names(locations: Iterable[str]) -> tuple[str, ...]:
    """Base names, or whole locations if base names repeat."""
    locations = tuple(locations)
    # Of several URLs, queries have always been part of the names, which stores keep.
    names = tuple(map(name_of, locations)) if len(locations) == 1 else tuple(PurePosixPath(x).name for x in locations)
    return names if len(set(names)) == len(names) else locations


def _from_info(base: str, split: str | None, folder: Path | str | None) -> ShardListing:
    where, text = _read_info(base, folder)
    try:
        info = Info.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise ShardError(
            "the description of the shard set cannot be read",
            where=where,
            found=f"{field}: {first['msg']}".lstrip(": "),
            expected="timm's webdataset _info.json",
        ) from None
    chosen = _choose(info, split, where)
    _check_split(info.splits[chosen], where, remote=not isinstance(folder, Path))
    filenames = info.splits[chosen].filenames
    name = info.name or PurePosixPath(base if isinstance(folder, Path) else urlparse(base).path).name
    locations = tuple(below(base, each) if folder is None else f"{base.rstrip('/')}/{each}" for each in filenames)
    found = info.splits[chosen]
    return ShardListing(name, chosen, filenames, locations, found.shard_lengths, folder, found.unlabelled)


def _read_info(base: str, folder: Path | str | None) -> tuple[str, bytes]:
    if folder is None:
        return _fetch_info(base)
    if isinstance(folder, str):
        return _read_info_at_url(folder)
    for name in INFO_NAMES:
        try:
            return f"{base}/{name}", (folder / name).read_bytes()
        except OSError:
            continue
    raise undescribed(folder)


def _read_info_at_url(folder: str) -> tuple[str, bytes]:
    for name in INFO_NAMES:
        if (content := read_file(f"{folder}/{name}")) is not None:
            return f"{folder}/{name}", content
    try:
        problem = undescribed_url(folder)
    except OSError as error:
        raise cannot_read(folder, error) from None
    raise problem


def _fetch_info(base: str) -> tuple[str, bytes]:
    problem: ShardError | None = None
    for name in INFO_NAMES:
        try:
            return below(base, name), read_url(below(base, name))
        except ShardError as error:
            problem = problem or error
    assert problem is not None
    problem.expected = "_info.json in a folder: a URL that names no .tar is taken for the folder of a shard set"
    raise problem


def _choose(info: Info, split: str | None, where: str) -> str:
    if split is None and len(info.splits) == 1:
        return next(iter(info.splits))
    if split is None or split not in info.splits:
        pairs = [told_apart(split or "", name) for name in info.splits]
        raise ConfigError(
            "the shard set has several splits" if split is None else "the shard set has no such split",
            where=f"shards.split, {where}",
            found=next((one for one, _ in pairs if one != split), split) if split is not None else "null",
            expected=f"one of {', '.join(name for _, name in pairs)}",
            fix="name one: shards.split in a recipe, --split on the command line",
        )
    return split


def _check_split(split: SplitInfo, where: str, remote: bool) -> None:
    """Refuse file names that lead out of the set's folder, and labels that would be read wrongly."""
    # A name from a remote file becomes a part of a URL, which a shell may see.
    allowed = re.compile(r"[\w.+@=,/-]+") if remote else re.compile(r"[^\0]+")
    for filename in split.filenames:
        inside = not filename.startswith("/") and ".." not in PurePosixPath(filename).parts
        if not inside or not allowed.fullmatch(filename):
            raise ShardError(
                "a shard's name leads out of its folder", where=where, found=filename, expected="a plain file name"
            )
    problem = ""
    if len(split.filenames) != len(split.shard_lengths):
        problem = f"{len(split.filenames)} filenames and {len(split.shard_lengths)} shard_lengths"
    elif not split.filenames or min(split.shard_lengths) < 0:
        problem = "no filenames, or a negative shard length"
    elif len(set(split.filenames)) < len(split.filenames):
        problem = "a filename is repeated"
    elif split.alt_label:
        problem = f"alt_label {split.alt_label!r}; only .cls and the JSON field label are read"
    if problem:
        raise ShardError("the description of the shard set cannot be used", where=where, found=problem)
