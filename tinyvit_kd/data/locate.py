"""Finds the tars of a shard set from the path, pattern or URL that a recipe names."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse
from urllib.request import url2pathname

from pydantic import BaseModel, Field, ValidationError

from tinyvit_kd.data.remote import is_url, read_url
from tinyvit_kd.errors import ConfigError, ShardError, TinyVitKdError

INFO_NAMES = ("_info.json", "info.json")


class SplitInfo(BaseModel):
    """One split of timm's ``_info.json``; other fields are ignored."""

    filenames: tuple[str, ...]
    shard_lengths: tuple[int, ...] = Field(description="samples of each shard")
    alt_label: str = ""


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
    folder: Path | None  # may hold classes.txt; None for URLs


def locate_shards(path: str, split: str | None, cache_dir: Path | None = None) -> ShardListing:
    """Find the tars that ``path`` names: a folder with ``_info.json``, a pattern, a tar, or a URL of any of these.

    Raises:
        ShardError: there are no tars, or ``_info.json`` cannot be used.
        ConfigError: ``split`` is missing or unknown, or the braces of a pattern do not match.
    """
    if path.startswith("file:"):
        path = url2pathname(urlparse(path).path)
    if is_url(path):
        is_folder = not ("{" in path or path.endswith(".tar") or path.startswith("pipe:"))
        return (
            _from_info(path.rstrip("/"), split, None)
            if is_folder
            else _from_locations(path, split, _expand(path), None)
        )
    if Path(path).is_dir():
        return _from_info(path, split, Path(path))
    locations = [path] if Path(path).is_file() else _match(path)
    if not locations:
        raise ShardError(
            "there are no shards",
            where=path,
            expected="a folder with _info.json, a brace pattern, a glob or a tar",
            fix="check the path of the shard set",
        )
    return _from_locations(path, split, locations, Path(locations[0]).parent)


def _match(pattern: str) -> list[str]:
    """The tars of a pattern: all that a brace pattern names, even if missing; of globs, those that exist."""
    expanded = _expand(pattern)
    if len(expanded) > 1 and not glob.has_magic(pattern):
        return expanded
    return [location for each in expanded for location in sorted(glob.glob(each, recursive=True))]


def _expand(pattern: str) -> list[str]:
    from braceexpand import braceexpand

    try:
        return list(braceexpand(pattern))
    except ValueError as error:
        raise ConfigError("the braces of a shard pattern do not match", where=pattern, found=str(error)) from None


def _from_locations(path: str, split: str | None, locations: list[str], folder: Path | None) -> ShardListing:
    names = _distinct_names(locations)
    name = folder.absolute().name if folder is not None else PurePosixPath(urlparse(path).path).parent.name
    return ShardListing(name or path, split, names, tuple(locations), None, folder)


def _distinct_names(locations: Iterable[str]) -> tuple[str, ...]:
    """Base names, or whole locations if base names repeat."""
    locations = tuple(locations)
    names = tuple(PurePosixPath(location).name for location in locations)
    return names if len(set(names)) == len(names) else locations


def _from_info(base: str, split: str | None, folder: Path | None) -> ShardListing:
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
    _check_split(info.splits[chosen], where, remote=folder is None)
    filenames = info.splits[chosen].filenames
    name = info.name or PurePosixPath(base).name
    locations = tuple(f"{base.rstrip('/')}/{filename}" for filename in filenames)
    return ShardListing(name, chosen, filenames, locations, info.splits[chosen].shard_lengths, folder)


def _read_info(base: str, folder: Path | None) -> tuple[str, bytes]:
    problem: TinyVitKdError | None = None
    for name in INFO_NAMES:
        try:
            if folder is None:
                return f"{base}/{name}", read_url(f"{base}/{name}")
            return f"{base}/{name}", (folder / name).read_bytes()
        except ShardError as error:
            problem = problem or error
        except OSError:
            continue
    tars = sorted(folder.glob("*.tar")) if folder is not None else []
    raise problem or ShardError(
        "the folder does not describe its shards",
        where=base,
        found=f"{len(tars)} tars" if tars else "",
        expected="_info.json, which timm and shards build write",
        fix=f"name the tars by a pattern, for example {base.rstrip('/')}/*.tar" if tars else "check the path",
    )


def _choose(info: Info, split: str | None, where: str) -> str:
    if split is None and len(info.splits) == 1:
        return next(iter(info.splits))
    if split is None or split not in info.splits:
        raise ConfigError(
            "the shard set has several splits" if split is None else "the shard set has no such split",
            where=f"shards.split, {where}",
            found=str(split),
            expected=f"one of {', '.join(info.splits)}",
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
