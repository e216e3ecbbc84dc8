"""Says what a folder holds that is given as a shard set and does not describe one."""

from __future__ import annotations

import os
from collections import Counter
from itertools import islice
from pathlib import Path

from tinyvit_kd.data.tars.member_names import names_image
from tinyvit_kd.errors import ShardError

_LOOKED_AT = 1000  # entries of a folder, and folders in it: enough to tell what it holds


def undescribed(folder: Path) -> ShardError:
    """The error for a folder without ``_info.json``, with what to give instead."""
    here = _kinds(folder)
    below = [each for each in _entries(folder) if each.is_dir() and not each.name.startswith(".")]
    with_tars = [each for each in below if _kinds(each)["tars"]]
    if here["tars"]:
        found = f"{here['tars']:,} tars"
        fix = f"name the tars by a pattern, for example {folder}/*.tar"
    elif with_tars:
        found = f"tars in its folders {', '.join(each.name for each in with_tars[:5])}"
        fix = f"name one of them by a pattern, for example {with_tars[0].path}/*.tar"
    elif here["images"] or any(_kinds(each)["images"] for each in below[:20]):
        found = "images" if here["images"] else "folders of images"
        fix = f"pack them first: tinyvit-kd shards build {folder} shards; then give the folder shards"
    elif here["compressed tars or zips"]:
        found = f"{here['compressed tars or zips']:,} compressed tars or zips"
        fix = "decompress the tars once; zips of images, one per class, are packed by shards build"
    else:
        found = "nothing" if not _entries(folder) else ""
        fix = "check the path"
    return ShardError(
        "the folder does not describe its shards",
        where=str(folder),
        found=found,
        expected="_info.json, which timm and shards build write",
        fix=fix,
    )


def _kinds(folder: Path | os.DirEntry[str]) -> Counter[str]:
    return Counter(kind for each in _entries(folder) if (kind := _kind(each.name)))


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
