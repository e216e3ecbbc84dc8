"""Which files a path or pattern at a URL names, as far as a storage serves it."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

from tinyvit_kd.data.locating.fetch_errors import cannot_read
from tinyvit_kd.data.locating.patterns import BESIDE, WILD, expand_braces
from tinyvit_kd.data.locating.served import WEB, is_served, split_url, storage_of
from tinyvit_kd.errors import ShardError
from tinyvit_kd.runtime.log import warn_once
from tinyvit_kd.storage.base import Storage


def has_wildcards(url: str) -> bool:
    """Whether a URL is a pattern for the names in a bucket; a web server has no listings, and ``?`` begins a query."""
    return is_served(url) and not url.startswith(WEB) and WILD.search(split_url(url)[1]) is not None


def match_urls(pattern: str) -> list[str]:
    """The URLs of a pattern: all that braces name, even if missing; of wildcards, what is there, sorted.

    Wildcards need a service that lists; on a web server, and where webdataset fetches, they are taken as they are.

    Raises:
        ConfigError: the braces do not match.
        ShardError: nothing is there, or a service does not answer or refuses.
    """
    found: list[str] = []
    for each in expand_braces(pattern) if "{" in pattern else [pattern]:
        if not has_wildcards(each):
            found.append(each)
            continue
        matched = _matched(each)
        if not matched:
            warn_once(("no match", each), f"no shard matches {each}")
        found += matched
    if not found:
        raise ShardError(
            "there are no shards",
            where=pattern,
            expected="a folder with _info.json, a brace pattern, a pattern with * or a tar",
            fix="check the URL of the shard set",
        )
    return found


def read_file(url: str) -> bytes | None:
    """The content of a small file at a URL that a storage serves; None if it is not there.

    Raises:
        ShardError: the service does not answer, or refuses.
    """
    root, name = split_url(url)
    try:
        return storage_of(root).read(name)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise cannot_read(url, error) from None


def _matched(pattern: str) -> list[str]:
    root, name = split_url(pattern)
    storage = storage_of(root)
    try:
        if storage.info(name) is not None:  # a name that exists as it is written is no pattern
            return [pattern]
        names = [each for each in _glob(storage, "", name.split("/")) if not each.endswith(BESIDE)]
    except OSError as error:
        raise cannot_read(pattern, error) from None
    return [storage.locate(each) for each in sorted(names)]


def _glob(storage: Storage, folder: str, parts: list[str]) -> Iterator[str]:
    """The files below a folder of which each part of the name matches its pattern; a listing per folder."""
    first, *rest = parts
    prefix = f"{folder}/" if folder else ""
    if rest and not WILD.search(first):
        yield from _glob(storage, prefix + first, rest)
        return
    for entry in storage.list(folder):
        if entry.kind == ("folder" if rest else "file") and fnmatchcase(entry.base, first):
            if rest:
                yield from _glob(storage, entry.name, rest)
            else:
                yield entry.name
