"""Which files a path or pattern on this machine names."""

from __future__ import annotations

import glob
import os
import re
import unicodedata
from pathlib import Path

from tinyvit_kd.errors import ConfigError, ShardError, escaped
from tinyvit_kd.runtime.log import warn_once

INDEX_SUFFIX = ".idx.npz"  # of a byte index, appended to the name of its shard
WILD = re.compile(r"[*?[]")
# Files that lie beside tars and are none: indexes, ours and others', lists and descriptions.
BESIDE = (INDEX_SUFFIX, ".idx", ".index", ".json", ".txt", ".md", ".csv", ".tsv", ".yaml", ".yml", ".sha256", ".md5")


def match_files(pattern: str) -> list[str]:
    """The files of a path or pattern: all that braces name, even if missing; of wildcards, what exists, sorted.

    What exists under a name with brackets or braces is meant literally. Of what a wildcard meets, the files that lie
    beside tars are left out: byte indexes, lists and descriptions.

    Raises:
        ConfigError: the braces do not match.
        ShardError: nothing is there.
    """
    if Path(pattern).is_file():
        return [pattern]
    found: list[str] = []
    for each in _expand_beyond(pattern):
        literal = _escape_existing(each)
        if literal is None:
            found.append(each)
            continue
        matched = [path for path in sorted(glob.glob(literal, recursive=True)) if not path.endswith(BESIDE)]
        if not matched:
            warn_once(("no match", each), f"no shard matches {each}")
        found += matched
    if not found or (len(found) == 1 and not os.path.lexists(found[0])):
        raise _nothing_at(pattern)
    return found


def expand_braces(pattern: str) -> list[str]:
    """All that the braces of a pattern stand for.

    Raises:
        ConfigError: they do not match.
    """
    from braceexpand import braceexpand

    try:
        return list(braceexpand(pattern))
    except ValueError as error:
        raise ConfigError("the braces of a shard pattern do not match", where=pattern, found=str(error)) from None


def _expand_beyond(pattern: str) -> list[str]:
    """Expand the braces behind the longest folder that exists as it is written."""
    folder, rest = _existing_folder(pattern)
    if "{" not in rest and "}" not in rest:
        return [pattern]
    return [folder + each for each in expand_braces(rest)]


def _escape_existing(pattern: str) -> str | None:
    """A pattern for ``glob`` in which existing folders are literal; None if nothing else is wild in it."""
    folder, rest = _existing_folder(pattern)
    if not WILD.search(rest) or os.path.lexists(pattern):
        return None
    if "[" in rest and not glob.glob(glob.escape(folder) + rest, recursive=True):
        rest = rest.replace("[", "[[]")  # brackets that match nothing are part of names
        if not re.search(r"[*?]", rest):
            return None
    return glob.escape(folder) + rest


def _existing_folder(pattern: str) -> tuple[str, str]:
    """Split a pattern into the longest folder that exists as it is written, with its "/", and the rest."""
    parts = pattern.split("/")
    for count in range(len(parts) - 1, 0, -1):
        folder = "/".join(parts[:count]) + "/"
        if os.path.isdir(folder):
            return folder, "/".join(parts[count:])
    return "", pattern


def _nothing_at(pattern: str) -> ShardError:
    twin = unicode_twin(pattern)
    return ShardError(
        "there are no shards",
        where=pattern,
        found=f"a name that looks the same, in another form of Unicode: {escaped(twin)}, not {escaped(pattern)}"
        if twin is not None
        else "",
        expected="a folder with _info.json, a brace pattern, a glob or a tar",
        fix="copy the name from the disk" if twin is not None else "check the path of the shard set",
    )


def unicode_twin(path: str) -> str | None:
    """What exists under a name that differs from a path only in its form of Unicode; None if nothing does."""
    place = Path(path)
    for parent, name in [(each.parent, each.name) for each in (*reversed(place.parents), place)]:
        if (parent / name).exists() or not parent.is_dir():
            continue
        wanted = unicodedata.normalize("NFC", name)
        for entry in sorted(os.listdir(parent)):
            if entry != name and unicodedata.normalize("NFC", entry) == wanted:
                return str(parent / entry)
        return None
    return None
