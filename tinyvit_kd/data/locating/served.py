"""Which URLs are read through a storage, a range at a time, and where in it; webdataset fetches all others whole."""

from __future__ import annotations

import errno
import os
from functools import cache
from importlib.util import find_spec
from urllib.parse import unquote, urlsplit

from tinyvit_kd.data.locating.urls import is_url
from tinyvit_kd.storage.base import Storage
from tinyvit_kd.storage.open import BACKENDS, open_storage

WEB = ("http:", "https:")
_WITHOUT_OBSTORE = (*WEB, "gs:")  # what webdataset opens where obstore is not installed


def is_served(location: str) -> bool:
    """Whether a URL can be read through a storage. Nothing is asked of its server."""
    if not is_url(location) or location.startswith("pipe:"):
        return False
    parts = urlsplit(location)
    if parts.scheme not in BACKENDS or not parts.netloc:
        return False
    if location.startswith(WEB) and (parts.query or parts.fragment or "@" in parts.netloc):
        return False
    return not location.startswith(_WITHOUT_OBSTORE) or _has_obstore()


def located(location: str) -> tuple[Storage, str] | None:
    """The storage of a URL, and the name of the file in it; None where webdataset has to fetch the file whole.

    All files of a bucket or a server share a storage in a process. Of a web server it is found out once in a process
    whether it serves parts of files (Python's does not).

    Raises:
        OSError: the server does not answer, or refuses.
    """
    if not is_served(location):
        return None
    base, name = split_url(location)
    storage = storage_of(base)
    if base.startswith(WEB) and not _serves_parts(storage, name):
        return None
    return storage, name


def split_url(url: str) -> tuple[str, str]:
    """The bucket or server of a URL, and the name in it. Names in buckets are taken as they are written."""
    scheme, _, rest = url.partition("://")
    host, _, name = rest.partition("/")
    return f"{scheme}://{host}", unquote(name) if url.startswith(WEB) else name


def storage_of(base: str) -> Storage:
    """The storage of a bucket or server, the same one for all that asks in this process."""
    return _storage(base, os.getpid())


@cache
def _storage(base: str, process: int) -> Storage:
    del process  # a process that was forked must not use the connections of its parent
    return open_storage(base)


_PARTS: dict[str, bool] = {}  # by server: whether it serves parts of files


def _serves_parts(storage: Storage, name: str) -> bool:
    if storage.root not in _PARTS:
        try:
            storage.read_range(name, 0, 1)
        except FileNotFoundError:
            return True  # not known yet: who reads the file will find out that it is missing
        except OSError as error:
            if kind_of_refusal(error) != "unsupported":
                raise
            _PARTS[storage.root] = False
        else:
            _PARTS[storage.root] = True
    return _PARTS[storage.root]


def kind_of_refusal(error: OSError) -> str:
    """What sort of refusal an error of a storage is, as ``storage`` tells them apart; empty for other errors."""
    if error.errno == errno.EOPNOTSUPP:
        return "unsupported"
    return str(getattr(error, "kind", ""))


@cache
def _has_obstore() -> bool:
    return find_spec("obstore") is not None
