"""Opens the storage of a path or URL; to add a kind of storage, add a line to the table here."""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.request import url2pathname

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.storage.base import Storage
from tinyvit_kd.storage.clients import WEB_SCHEMES
from tinyvit_kd.storage.local import LocalStorage
from tinyvit_kd.storage.objects import SCHEMES, ObjectStorage
from tinyvit_kd.storage.web import WebStorage


def _from_file_url(url: str) -> Storage:
    return LocalStorage(url2pathname(url.removeprefix("file://")))


BACKENDS: dict[str, Callable[[str], Storage]] = {
    "": LocalStorage,  # a path
    "file": _from_file_url,
    **dict.fromkeys(SCHEMES, ObjectStorage),
    **dict.fromkeys(WEB_SCHEMES, WebStorage),
}
"""By URL scheme: makes the storage of a root, given as the user wrote it."""


def open_storage(root: str | os.PathLike[str]) -> Storage:
    """The storage of a folder or URL, which need not exist yet.

    Raises:
        ConfigError: no storage is known for the URL's scheme.
    """
    text = os.fspath(root)
    scheme = text.partition("://")[0] if "://" in text else ""
    if scheme not in BACKENDS:
        raise ConfigError(
            "stores with this kind of URL are not supported",
            where=text,
            found=f"{scheme}://",
            expected=f"a path, or a URL with one of {', '.join(f'{name}://' for name in BACKENDS if name)}",
            fix="docs/EXTENDING.md shows how a storage backend is added",
        )
    return BACKENDS[scheme](text)
