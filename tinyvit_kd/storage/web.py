"""Files of a web server, to be read: no listing, no writing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tinyvit_kd.errors import StorageError, StorageUnavailableError
from tinyvit_kd.runtime import request_counts as counts
from tinyvit_kd.runtime.files import atomic_path
from tinyvit_kd.storage.objects import ObjectStorage
from tinyvit_kd.storage.requests import LEAST

T = TypeVar("T")
_REFUSED = {  # what a web server is not asked to do, and what to do instead
    "list": ("say which files it has", "name the files, as shards can be: train-{000000..000099}.tar"),
    "write": ("take files", "write to a disk or to an object store"),
    "remove": ("remove files", "remove it where it is"),
}


class WebStorage(ObjectStorage):
    """Files below a URL of a web server, ``https://HOST/FOLDER``. Redirects are followed.

    To list, to write and to remove raise a ``StorageError``.

    Args:
        root: the URL of the folder.
    """

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """As ``Storage.read_range``.

        Raises:
            StorageError: the server does not answer requests for a range.
        """
        try:
            return super().read_range(name, offset, size)
        except StorageError as error:
            if error.kind == "unsupported":
                raise self._refusal(
                    "send a part of a file", "use a server that does, or fetch the files to a disk first"
                ) from error
            raise

    def is_writable(self) -> bool:
        """No."""
        return False

    def fetch(self, name: str, path: Path) -> None:
        """As ``Storage.fetch``; of a server that does not send parts, the whole file at a time."""
        try:
            super().fetch(name, path)
        except StorageError as error:
            if error.kind != "unsupported":
                raise
            self._fetch_whole(name, path)

    def _fetch_whole(self, name: str, path: Path) -> None:
        import obstore

        def request() -> int:
            with atomic_path(path) as aside, aside.open("wb") as file:
                return sum(file.write(part) for part in obstore.get(self._objects, name).stream())

        counts.add(read=self._ask("read", name, request))

    def _meta(self, name: str) -> Mapping[str, Any] | None:
        import obstore

        try:
            return self._ask("look for", name, lambda: obstore.head(self._objects, name))
        except StorageUnavailableError:
            raise
        except (FileNotFoundError, StorageError) as error:
            if "status code: 404" in str(error.__cause__):
                return None
        # Some servers do not answer HEAD, which obstore may take for a file that is not there. What a file is like
        # comes before its content, which is not taken.
        try:
            return self._ask("look for", name, lambda: obstore.get(self._objects, name).meta)
        except FileNotFoundError:
            return None

    def _ask(self, action: str, name: str, request: Callable[[], T], least: int = LEAST) -> T:
        if action in _REFUSED:
            raise self._refusal(*_REFUSED[action])
        return super()._ask(action, name, request, least)

    def _refusal(self, what: str, fix: str) -> StorageError:
        refused = StorageError(f"a web server does not {what}", where=self.root, fix=fix)
        refused.kind = "unsupported"
        return refused
