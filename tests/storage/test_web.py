"""Files of a web server are read, in parts where it sends parts, and never written."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.storage.s3 import BUCKET, S3Server
from tinyvit_kd.errors import ConfigError, StorageError
from tinyvit_kd.runtime.request_counts import total
from tinyvit_kd.storage.open import open_storage

CONTENT = bytes(range(256)) * 4


class _Simple(SimpleHTTPRequestHandler):
    """Sends whole files only, answers no HEAD, and redirects from /moved."""

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_error(405)

    def do_GET(self) -> None:
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/moved"))
            self.end_headers()
        else:
            super().do_GET()


@pytest.fixture
def simple(tmp_path: Path) -> Iterator[str]:
    """The URL of a server that can do little."""
    pytest.importorskip("obstore")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.tar").write_bytes(CONTENT)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Simple, directory=str(tmp_path / "web")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def forks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of its own: see the fixture ``s3``."""
    monkeypatch.setattr("tinyvit_kd.runtime.shared_memory._must_not_fork", None)


def test_a_server_that_sends_parts_is_read_in_parts(s3: S3Server, tmp_path: Path) -> None:
    connection = http.client.HTTPConnection(s3.direct.removeprefix("http://"))
    connection.request("PUT", f"/{BUCKET}/web/a.tar", CONTENT, {"x-amz-acl": "public-read"})
    assert connection.getresponse().status == 200
    storage = open_storage(f"{s3.endpoint}/{BUCKET}/web")
    before = total()
    assert storage.read_range("a.tar", 10, 5) == CONTENT[10:15]
    assert (total() - before).read == 5
    info = storage.info("a.tar")
    assert info is not None
    assert (info.size, bool(info.tag)) == (len(CONTENT), True)
    storage.fetch("a.tar", tmp_path / "a.tar")
    assert (tmp_path / "a.tar").read_bytes() == CONTENT


@pytest.mark.parametrize("folder", ["", "/moved"])
def test_a_server_that_sends_whole_files_only_is_read_so(simple: str, tmp_path: Path, folder: str) -> None:
    storage = open_storage(simple + folder)
    assert storage.read("a.tar") == CONTENT
    info = storage.info("a.tar")
    assert info is not None
    assert info.size == len(CONTENT)
    assert storage.info("b.tar") is None
    storage.fetch("a.tar", tmp_path / "a.tar")
    assert (tmp_path / "a.tar").read_bytes() == CONTENT
    with pytest.raises(StorageError, match="does not send a part of a file") as caught:
        storage.read_range("a.tar", 0, 5)
    assert caught.value.kind == "unsupported"


def test_a_web_server_is_neither_listed_nor_written_to(simple: str) -> None:
    storage = open_storage(simple)
    assert not storage.is_writable()
    for ask in (
        lambda: storage.write("b", b""),
        lambda: storage.write_new("b", b""),
        lambda: storage.remove("a.tar"),
        lambda: storage.list(),
        lambda: list(storage.walk()),
    ):
        with pytest.raises(StorageError, match="a web server does not"):
            ask()


def test_a_url_with_a_query_names_no_folder() -> None:
    with pytest.raises(ConfigError, match="a URL with a query"):
        open_storage("https://example.org/shards?token=secret").read("a")
