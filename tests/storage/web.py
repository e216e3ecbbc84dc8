"""A file server on loopback that sends parts of files, as nginx and others do; Python's own sends whole files only."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class WholeFiles(SimpleHTTPRequestHandler):
    """Python's own server, silent; it counts what it was asked for and what it has sent."""

    asked: list[tuple[str, str, str]]  # method, path and range
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def parse_request(self) -> bool:
        """Note a request."""
        parsed = super().parse_request()
        if parsed:
            self.asked.append((self.command, self.path, self.headers.get("Range", "")))
        return parsed

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class Parts(WholeFiles):
    """It sends parts of files, too."""

    def do_GET(self) -> None:
        """Send a file, or the part that was asked for."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if asked is None or not path.is_file():
            super().do_GET()
            return
        content = path.read_bytes()
        first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        if first >= len(content):
            self.send_error(416)
            return
        body = content[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", self.date_time_string(int(path.stat().st_mtime)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def web_server(folder: Path, kind: type[WholeFiles] = Parts) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """The URL of a server of a folder, and the list of what it is asked for."""
    asked: list[tuple[str, str, str]] = []
    handler = type("Handler", (kind,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()
