"""Which storage a path or URL means: the one table to add a backend to."""

from __future__ import annotations

import os
from collections.abc import Callable
from urllib.request import url2pathname

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.storage.base import Storage
from tinyvit_kd.storage.local import LocalStorage


def _from_file_url(url: str) -> Storage:
    return LocalStorage(url2pathname(url.removeprefix("file://")))


BACKENDS: dict[str, Callable[[str], Storage]] = {
    "": LocalStorage,  # a path
    "file": _from_file_url,
}
"""By scheme: from a root, as the user wrote it, to its storage."""


def open_storage(root: str | os.PathLike[str]) -> Storage:
    """The storage of a folder or URL; nothing has to be there yet.

    Raises:
        ConfigError: no storage is known for the URL's scheme.
    """
    text = os.fspath(root)
    scheme = text.partition("://")[0] if "://" in text else ""
    if scheme not in BACKENDS:
        raise ConfigError(
            "no storage is known for a URL",
            where=text,
            found=f"{scheme}://",
            expected=f"a path, or a URL with one of {', '.join(f'{name}://' for name in BACKENDS if name)}",
        )
    return BACKENDS[scheme](text)
