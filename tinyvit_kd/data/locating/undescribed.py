"""Says what a folder holds that is given as a shard set and does not describe one."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from tinyvit_kd.data.locating.fetch_errors import unreachable
from tinyvit_kd.data.locating.served import WEB, split_url, storage_of
from tinyvit_kd.data.tars.member_names import names_image
from tinyvit_kd.errors import ShardError

INFO_NAMES = ("_info.json", "info.json")
"""Files that describe a shard set, the first of them is written."""
_FOLDERS_AT_URLS = 20  # that are listed
_LOOKED_AT = 1000  # entries of a folder, and folders in it: enough to tell what it holds


def undescribed(folder: Path) -> ShardError:
    """The error for a folder without ``_info.json``, with what to give instead."""
    below = [each for each in _entries(folder) if each.is_dir() and not each.name.startswith(".")]
    kinds = {each.name: _kinds(each) for each in below}
    return _told(str(folder), _kinds(folder), kinds, is_empty=not _entries(folder), is_url=False)


def undescribed_url(folder: str) -> ShardError:
    """The same for a folder at a URL that a storage serves; a web server does not say what it has.

    Raises:
        OSError: the service does not answer, or refuses to list.
    """
    if folder.startswith(WEB):
        error = unreachable(f"{folder}/{INFO_NAMES[0]}", FileNotFoundError(errno.ENOENT, "there is no such file"))
        error.expected = "_info.json in a folder: a URL that names no .tar is taken for the folder of a shard set"
        return error
    root, name = split_url(folder)
    storage = storage_of(root)
    found = storage.list(name)
    below = [each for each in found if each.kind == "folder" and not each.base.startswith(".")]
    kinds = {each.base: _kinds_of(entry.base for entry in storage.list(each.name)) for each in below[:_FOLDERS_AT_URLS]}
    return _told(folder, _kinds_of(each.base for each in found), kinds, is_empty=not found, is_url=True)


def _told(
    folder: str, here: Counter[str], below: Mapping[str, Counter[str]], is_empty: bool, is_url: bool
) -> ShardError:
    with_tars = [name for name, kinds in below.items() if kinds["tars"]]
    if here["tars"]:
        found = f"{here['tars']:,} tars"
        fix = f"name the tars by a pattern, for example {folder}/*.tar"
    elif with_tars:
        found = f"tars in its folders {', '.join(with_tars[:5])}"
        fix = f"name one of them by a pattern, for example {folder}/{with_tars[0]}/*.tar"
    elif here["images"] or any(kinds["images"] for kinds in list(below.values())[:20]):
        found = "images" if here["images"] else "folders of images"
        source = "a copy of the folder on a disk" if is_url else folder
        fix = f"pack them first: tinyvit-kd shards build {source} shards; then give the folder shards"
    elif here["compressed tars or zips"]:
        found = f"{here['compressed tars or zips']:,} compressed tars or zips"
        fix = "decompress the tars once; zips of images, one per class, are packed by shards build"
    else:
        found = "nothing" if is_empty else ""
        fix = f"check the {'URL' if is_url else 'path'}"
    return ShardError(
        "the folder does not describe its shards",
        where=folder,
        found=found,
        expected=f"{INFO_NAMES[0]}, which timm and shards build write",
        fix=fix,
    )


def _kinds(folder: Path | os.DirEntry[str]) -> Counter[str]:
    return _kinds_of(each.name for each in _entries(folder))


def _kinds_of(names: Iterable[str]) -> Counter[str]:
    return Counter(kind for name in names if (kind := _kind(name)))


def _kind(name: str) -> str:
    if name.startswith("."):
        return ""
    if name.endswith(".tar"):
        return "tars"
    if name.endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")):
        return "compressed tars or zips"
    return "images" if names_image(name) else ""


def _entries(folder: Path | os.DirEntry[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(islice(entries, _LOOKED_AT), key=lambda each: each.name)
    except OSError:
        return []
