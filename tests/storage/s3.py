"""A real server of the S3 protocol (moto's) on loopback, behind a proxy that refuses, delays and cuts off answers."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from benchmarks.loopback import LOOPBACK, s3_environment, s3_server

BUCKET = "a-bucket"
Fault = str  # "500", "503", "slow", "cut", or the code of a refusal: "ExpiredToken", "AccessDenied", …
_STATUS = {"500": (500, "InternalError"), "503": (503, "SlowDown")}
_SLOW = 0.5  # seconds


Choice = Callable[[int, str, str], Fault | None]


def no_fault(_number: int, _method: str, _path: str) -> Fault | None:
    """Every request is answered."""
    return None


@dataclass
class Faults:
    """Which requests go wrong: ``choose`` is asked with the number of a request, its method and its path."""

    choose: Choice = no_fault
    made: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    page: int = 0  # the most objects that the server names per request; 0: as it likes

    def next(self, method: str, path: str) -> Fault | None:
        """The fault of the next request; None: it is answered."""
        with self.lock:
            number = len(self.requests)
            self.requests.append((method, path))
            fault = self.choose(number, method, path)
            if fault is not None:
                self.made[fault] += 1
            return fault

    def calm(self) -> None:
        """From now on nothing goes wrong; counts begin anew."""
        with self.lock:
            self.choose = no_fault
            self.page = 0
            self.made.clear()
            self.requests.clear()


def every(**periods: int) -> Choice:
    """A choice of faults: of ``s503=7`` every seventh request is refused so. The ``s`` before a number is left out."""
    named = {name.removeprefix("s") if name[1:].isdigit() else name: period for name, period in periods.items()}

    def choose(number: int, _method: str, _path: str) -> Fault | None:
        return next((name for name, period in named.items() if number % period == period - 1), None)

    return choose


@dataclass(frozen=True)
class S3Server:
    """Where the server is, and what goes wrong on the way to it.

    Attributes:
        endpoint: URL of the proxy.
        direct: URL of the server itself.
    """

    endpoint: str
    direct: str
    faults: Faults

    @property
    def environment(self) -> dict[str, str]:
        """What lets clients of S3 find it."""
        return s3_environment(self.endpoint)


def _handler(port: int, faults: Faults) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: Any) -> None:
            pass

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = faults.next(self.command, self.path)
            if fault == "slow":
                time.sleep(_SLOW)
            elif fault is not None and fault != "cut":
                status, code = _STATUS.get(fault, (403, fault))
                self._answer(status, {}, f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode())
                return
            upstream = http.client.HTTPConnection(LOOPBACK, port)
            page = f"&max-keys={faults.page}" if faults.page and "list-type=2" in self.path else ""
            upstream.request(self.command, self.path + page, body, dict(self.headers.items()))
            response = upstream.getresponse()
            content = response.read()
            headers = {
                name: value
                for name, value in response.getheaders()
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server")
            }
            length = response.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
            upstream.close()
            self._answer(response.status, headers, content, length, is_cut=fault == "cut")

        def _answer(
            self, status: int, headers: dict[str, str], content: bytes, length: str | None = None, is_cut: bool = False
        ) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content[: len(content) // 2] if is_cut else content)
            if is_cut:
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)

    for method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
        setattr(Handler, f"do_{method}", Handler._pass_on)
    return Handler


@contextmanager
def serving() -> Iterator[S3Server]:
    """A server with an empty bucket, ``BUCKET``."""
    pytest.importorskip("obstore")
    pytest.importorskip("moto.server")
    faults = Faults()
    with s3_server(BUCKET) as port:
        proxy = ThreadingHTTPServer((LOOPBACK, 0), _handler(port, faults))
        proxy.daemon_threads = True
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield S3Server(f"http://{LOOPBACK}:{proxy.server_address[1]}", f"http://{LOOPBACK}:{port}", faults)
        finally:
            proxy.shutdown()
            proxy.server_close()
