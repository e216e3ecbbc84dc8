"""Object stores (S3 and what speaks its protocol, Google Cloud Storage, Azure), through obstore.

obstore starts threads that do not survive a fork: a process that was forked from one that has used it would wait for
ever. ``runtime.shared_memory`` therefore starts processes anew in a process that has used an object store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tinyvit_kd.errors import StorageError, StorageUnavailableError
from tinyvit_kd.runtime import request_counts as counts
from tinyvit_kd.runtime.files import atomic_path
from tinyvit_kd.storage import requests
from tinyvit_kd.storage.base import Entry, FileInfo, Storage
from tinyvit_kd.storage.clients import OTHER_SCHEMES, S3_SCHEMES, client_of
from tinyvit_kd.storage.refusals import kind_of

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")
SCHEMES = (*S3_SCHEMES, *OTHER_SCHEMES)
_PAGE = 1000  # objects that a service lists per request
_PART = 1 << 24  # bytes of one request, when a whole object is fetched
_SINGLE = 1 << 26  # bytes that are written by a single request; more go in parts
_NO_NAME = "tinyvit_kd-asks-whether-there-is-this-bucket"


class ObjectStorage(Storage):
    """Objects below a URL: ``s3://BUCKET/PREFIX``, ``gs://…``, ``az://…``.

    Credentials and endpoints come from where the service's own tools look for them. Threads may share a storage.

    Args:
        root: the URL.
    """

    at_a_time = 16

    def list(self, folder: str = "") -> list[Entry]:
        """As ``Storage.list``; one request per 1,000 entries."""
        import obstore

        found = self._ask("list", folder, lambda: obstore.list_with_delimiter(self._objects, _prefix(folder)))
        folders = [Entry(each.rstrip("/"), "folder") for each in found["common_prefixes"]]
        return sorted([*folders, *map(_entry, found["objects"])])

    def walk(self, folder: str = "") -> Iterator[Entry]:
        """As ``Storage.walk``; one request per 1,000 objects, whatever folders they are in.

        A request that fails is made again from where the one before it ended.
        """
        import obstore

        pages: Any = None
        last: str | None = None

        def next_page() -> Any:
            nonlocal pages
            try:
                if pages is None:
                    pages = iter(obstore.list(self._objects, _prefix(folder), offset=last, chunk_size=_PAGE))
                return next(pages, None)
            except BaseException:
                pages = None
                raise

        while page := self._ask("list", folder, next_page):
            yield from map(_entry, page)
            last = page[-1]["path"]

    def info(self, name: str) -> FileInfo | None:
        """As ``Storage.info``; one request."""
        meta = self._meta(name)
        return None if meta is None else _info(meta)

    def infos(self, folder: str = "") -> dict[str, FileInfo]:
        """As ``Storage.infos``; one request per 1,000 objects."""
        import obstore

        found = self._ask("list", folder, lambda: obstore.list_with_delimiter(self._objects, _prefix(folder)))
        return {each["path"]: _info(each) for each in found["objects"]}

    def read(self, name: str) -> bytes:
        """As ``Storage.read``; one request."""
        import obstore

        return self._read(name, lambda: bytes(obstore.get(self._objects, name).bytes()))

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """As ``Storage.read_range``; one request."""
        import obstore

        if size <= 0:
            return b""

        def request() -> bytes:
            try:
                return bytes(obstore.get_range(self._objects, name, start=offset, length=size))
            except Exception as error:
                if kind_of(error) == "past_end":
                    return b""
                raise

        return self._read(name, request)

    def write(self, name: str, content: bytes | memoryview, durable: bool = False) -> None:
        """As ``Storage.write``; what a service has accepted, it keeps. More than 64 MiB go in parts."""
        import obstore

        del durable
        body = bytes(content)
        if len(body) > _SINGLE:
            self._write_in_parts(name, body)
            return
        self._ask("write", name, lambda: obstore.put(self._objects, name, body, use_multipart=False))
        counts.add(written=len(body))

    def write_new(self, name: str, content: bytes | memoryview, durable: bool = False) -> bool:
        """As ``Storage.write_new``, by a conditional write; where a service has none, a look comes before it."""
        import obstore

        body = bytes(content)
        tries = 0

        def request() -> None:
            nonlocal tries
            tries += 1
            obstore.put(self._objects, name, body, mode="create", use_multipart=False)

        try:
            self._ask("write", name, request)
        except FileExistsError:
            # Where an answer was lost, the object may be the one of the request before.
            return tries > 1 and self.read(name) == body
        except StorageError as error:
            if error.kind != "unsupported":
                raise
            return super().write_new(name, content, durable)
        counts.add(written=len(body))
        return True

    def remove(self, name: str) -> bool:
        """As ``Storage.remove``."""
        import obstore

        with suppress(FileNotFoundError):  # Google and Azure say so, S3 does not
            self._ask("remove", name, lambda: obstore.delete(self._objects, name))
        return True

    def fetch(self, name: str, path: Path) -> None:
        """As ``Storage.fetch``; in parts, each of which is asked for again if its connection breaks."""
        with atomic_path(path) as aside, aside.open("wb") as file:
            part, size, tag = self._part(name, 0, None)
            file.write(part)
            for start in range(_PART, size, _PART):
                file.write(self._part(name, start, tag)[0])

    def upload(self, path: Path, name: str) -> None:
        """As ``Storage.upload``; a large file in parts, which become an object once the last has arrived."""
        if path.stat().st_size <= _SINGLE:
            self.write(name, path.read_bytes())
        else:
            self._write_in_parts(name, path)

    def locate(self, name: str = "") -> str:
        """The URL of an object; of the root by default."""
        return f"{self.root.rstrip('/')}/{name}" if name else self.root

    def close(self) -> None:
        """Let go of connections."""
        for name in ("_objects", "_objects_in_parts"):
            vars(self).pop(name, None)

    def _part(self, name: str, start: int, tag: str | None) -> tuple[bytes, int, str | None]:
        """A part of an object, the size of all of it, and what names its version."""
        import obstore

        def request() -> tuple[bytes, int, str | None]:
            options: Any = {"range": (start, start + _PART)} | ({} if tag is None else {"if_match": tag})
            try:
                found = obstore.get(self._objects, name, options=options)
                return bytes(found.bytes()), found.meta["size"], found.meta.get("e_tag")
            except Exception as error:
                if start == 0 and kind_of(error) == "past_end":  # it is empty
                    return b"", 0, None
                raise

        part = self._ask("read", name, request)
        counts.add(read=len(part[0]))
        return part

    def _write_in_parts(self, name: str, content: bytes | Path) -> None:
        """Write a large object. obstore makes the request for a part again by itself: else all parts would be sent."""
        import obstore

        def send() -> None:
            obstore.put(self._objects_in_parts, name, content, use_multipart=True, chunk_size=_PART)

        def request() -> None:
            try:
                send()
            except Exception as error:
                if "NoSuchUpload" not in str(error):
                    raise
                send()  # the answer that all parts had become an object was lost, and obstore asked for that again

        self._ask("write", name, request, least=1)
        counts.add(written=len(content) if isinstance(content, bytes) else content.stat().st_size)

    def _meta(self, name: str) -> Mapping[str, Any] | None:
        import obstore

        try:
            return self._ask("look for", name, lambda: obstore.head(self._objects, name))
        except FileNotFoundError:
            self._require_bucket()
            return None
        except StorageUnavailableError:
            raise
        except StorageError:
            # The answer to this kind of request has no body, which would say why: whether credentials have expired.
            self._ask("look for", name, lambda: obstore.get(self._objects, name).meta)
            raise

    def _read(self, name: str, request: Callable[[], bytes]) -> bytes:
        content = self._ask("read", name, request)
        counts.add(read=len(content))
        return content

    def _ask(self, action: str, name: str, request: Callable[[], T], least: int = requests.LEAST) -> T:
        return requests.requesting(action, self.locate(name), request, least)

    def _require_bucket(self) -> None:
        """Tell a bucket that is missing from an object that is; asked once."""
        if not self._has_bucket:
            raise AssertionError("it raises its own error")

    @cached_property
    def _has_bucket(self) -> bool:
        import obstore

        try:
            self._ask("list", "", lambda: obstore.list_with_delimiter(self._objects, f"{_NO_NAME}/"))
        except StorageError as error:
            if error.kind != "permission":  # not everybody may list
                raise
        return True

    @cached_property
    def _objects(self) -> ObjectStore:
        return client_of(self.root)

    @cached_property
    def _objects_in_parts(self) -> ObjectStore:
        # Where a part cannot be sent, obstore asks the service as long again to remove the others.
        return client_of(self.root, requests.PATIENCE / 2)

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        # A copy in another process has connections of its own.
        return type(self), (self.root,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectStorage) and self.root == other.root

    def __hash__(self) -> int:
        return hash(self.root)


def _prefix(folder: str) -> str | None:
    return f"{folder.rstrip('/')}/" if folder else None


def _info(meta: Mapping[str, Any]) -> FileInfo:
    return FileInfo(meta["size"], int(meta["last_modified"].timestamp() * 1e9), (meta["e_tag"] or "").strip('"'))


def _entry(meta: Mapping[str, Any]) -> Entry:
    return Entry(meta["path"], "file", size=meta["size"])
