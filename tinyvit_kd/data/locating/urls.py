"""What the URL of a shard set names: a tar, a pattern of tars, or a folder."""

from __future__ import annotations

from pathlib import PurePosixPath
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from tinyvit_kd.errors import ShardError

_COMPRESSED = {".gz": "gunzip", ".tgz": "gunzip", ".bz2": "bunzip2", ".xz": "unxz", ".zst": "unzstd"}


def is_url(location: str) -> bool:
    """Whether webdataset, not the file system, has to open this."""
    return "://" in location or location.startswith("pipe:")


def without_command(location: str) -> str:
    """A location for others to read: of a command that fetches shards nothing is told, since it may hold a token."""
    return "pipe:…" if location.startswith("pipe:") else location


def names_tars(url: str) -> bool:
    """Whether a URL names tars, by a pattern or one by one, not a folder with ``_info.json``.

    Queries and fragments do not matter, and what follows the tar's name may be more of a path
    (``…/files/a.tar/content``).

    Raises:
        ShardError: it names a compressed tar.
    """
    if url.startswith("pipe:") or "{" in url:
        return True
    if tar_name(url) is not None:
        return True
    suffix = PurePosixPath(urlsplit(url).path).suffix
    if suffix in _COMPRESSED:
        raise ShardError(
            "the shard is compressed, so its samples cannot be read in random order",
            where=url,
            expected="a plain tar",
            fix=f"decompress it once with {_COMPRESSED[suffix]}",
        )
    return False


def tar_name(url: str) -> str | None:
    """The name of the tar in a URL, in its path or else in its query; None if there is none."""
    parts = urlsplit(url)
    names = [*parts.path.split("/"), *(PurePosixPath(value).name for _, value in parse_qsl(parts.query))]
    return next((name for name in names if name.lower().endswith(".tar")), None)


def name_of(location: str) -> str:
    """The name of a shard by its path or URL; the query of a URL is no part of it."""
    if is_url(location) and not location.startswith("pipe:") and (name := tar_name(location)) is not None:
        return name
    return PurePosixPath(location).name


def below(url: str, name: str) -> str:
    """The URL of a file in the folder that a URL names; its query stays."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))
