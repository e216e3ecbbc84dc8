"""Object stores (S3 and what speaks its protocol, Google Cloud Storage, Azure) and web servers, through obstore.

obstore starts threads that do not survive a fork: a process that was forked from one that has used it would wait for
ever. ``runtime.shared_memory`` therefore starts processes anew in a process that has used an object store.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.files import atomic_path
from tinyvit_kd.storage.base import Entry, FileInfo, Storage
from tinyvit_kd.storage.requests import requesting

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")
SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss", "http", "https")
_CONNECT_TIMEOUT = "10s"
_READ_TIMEOUT = "30s"  # without a byte
_PART = 1 << 24  # bytes of one request, when a whole object is fetched


class ObjectStorage(Storage):
    """Objects below a URL: ``s3://BUCKET/PREFIX``, ``gs://…``, ``az://…``, or files of a web server, to be read.

    Credentials and endpoints come from where the service's own tools look for them.

    Args:
        root: the URL.
    """

    def list(self, folder: str = "") -> list[Entry]:
        """As ``Storage.list``; one request per 1,000 entries."""
        import obstore

        prefix = f"{folder.rstrip('/')}/" if folder else None
        found = self._ask("list", folder, lambda: obstore.list_with_delimiter(self._objects, prefix))
        folders = [Entry(each.rstrip("/"), "folder") for each in found["common_prefixes"]]
        return sorted([*folders, *(Entry(each["path"], "file") for each in found["objects"])])

    def walk(self, folder: str = "") -> Iterator[Entry]:
        """As ``Storage.walk``; one request per 1,000 objects, whatever folders they are in."""
        import obstore

        prefix = f"{folder.rstrip('/')}/" if folder else None
        for each in self._ask("list", folder, lambda: obstore.list(self._objects, prefix).collect()):
            yield Entry(each["path"], "file")

    def info(self, name: str) -> FileInfo | None:
        """As ``Storage.info``; one request."""
        import obstore

        try:
            meta = self._ask("head", name, lambda: obstore.head(self._objects, name))
        except FileNotFoundError:
            return None
        return _info(meta)

    def infos(self, folder: str = "") -> dict[str, FileInfo]:
        """As ``Storage.infos``; one request per 1,000 objects."""
        import obstore

        prefix = f"{folder.rstrip('/')}/" if folder else None
        found = self._ask("list", folder, lambda: obstore.list_with_delimiter(self._objects, prefix))
        return {each["path"]: _info(each) for each in found["objects"]}

    def read(self, name: str) -> bytes:
        """As ``Storage.read``; one request."""
        import obstore

        return self._ask("read", name, lambda: bytes(obstore.get(self._objects, name).bytes()))

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """As ``Storage.read_range``; one request."""
        import obstore

        if size <= 0:
            return b""
        return self._ask("read", name, lambda: bytes(obstore.get_range(self._objects, name, start=offset, length=size)))

    def write(self, name: str, content: bytes | memoryview, durable: bool = False) -> None:
        """As ``Storage.write``; what a service has accepted, it keeps."""
        import obstore

        del durable
        self._ask("write", name, lambda: obstore.put(self._objects, name, bytes(content)))

    def write_new(self, name: str, content: bytes | memoryview, durable: bool = False) -> bool:
        """As ``Storage.write_new``, by a conditional write."""
        import obstore

        del durable
        try:
            self._ask("write", name, lambda: obstore.put(self._objects, name, bytes(content), mode="create"))
        except FileExistsError:
            return False
        return True

    def remove(self, name: str) -> bool:
        """As ``Storage.remove``."""
        import obstore

        self._ask("remove", name, lambda: obstore.delete(self._objects, name))
        return True

    def fetch(self, name: str, path: Path) -> None:
        """As ``Storage.fetch``; in parts, each of which is asked for again if its connection breaks."""
        info = self.info(name)
        if info is None:
            raise FileNotFoundError(self.locate(name))
        with atomic_path(path) as aside, aside.open("wb") as file:
            for start in range(0, info.size, _PART):
                file.write(self.read_range(name, start, min(_PART, info.size - start)))

    def upload(self, path: Path, name: str) -> None:
        """As ``Storage.upload``; a large file in parts, which become an object once the last has arrived."""
        import obstore

        self._ask("write", name, lambda: obstore.put(self._objects, name, path))

    def locate(self, name: str = "") -> str:
        """The URL of an object; of the root by default."""
        return f"{self.root.rstrip('/')}/{name}" if name else self.root

    def _ask(self, action: str, name: str, request: Callable[[], T]) -> T:
        return requesting(action, self.locate(name), request)

    @cached_property
    def _objects(self) -> ObjectStore:
        try:
            from obstore.store import HTTPStore, from_url
        except ImportError:
            raise ConfigError(
                "reading and writing URLs of object stores takes a package that is not installed",
                where=self.root,
                found="no obstore",
                fix="pip install 'tinyvit_kd[s3]'",
            ) from None
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3", os.environ.get("AWS_ENDPOINT_URL", ""))
        options: Any = {
            "connect_timeout": _CONNECT_TIMEOUT,
            "read_timeout": _READ_TIMEOUT,
            "allow_http": self.root.startswith("http:") or endpoint.startswith("http:"),
        }
        # A web server is asked as one, whatever its name: from_url takes some for S3, which wants credentials.
        is_web = self.root.startswith(("http:", "https:"))
        store: ObjectStore = (HTTPStore.from_url if is_web else from_url)(
            self.root, client_options=options, retry_config={"max_retries": 0}
        )
        return store

    def __reduce__(self) -> tuple[Callable[[str], ObjectStorage], tuple[str]]:
        # A copy in another process has connections of its own.
        return ObjectStorage, (self.root,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectStorage) and self.root == other.root

    def __hash__(self) -> int:
        return hash(self.root)


def _info(meta: Any) -> FileInfo:
    return FileInfo(meta["size"], int(meta["last_modified"].timestamp() * 1e9), (meta["e_tag"] or "").strip('"'))
