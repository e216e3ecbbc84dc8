"""Servers of the S3 protocol on this machine alone, each a process of its own: moto's, and one of a folder's files."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOOPBACK = "127.0.0.1"
_TRIES = 600  # a tenth of a second each


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextmanager
def s3_server(bucket: str) -> Iterator[int]:
    """Run moto's server with one empty bucket; yields its port."""
    with _serving("moto.server", "-H", LOOPBACK, "-p") as port:
        made = urllib.request.Request(f"http://{LOOPBACK}:{port}/{bucket}", method="PUT")
        urllib.request.urlopen(made).close()
        yield port


@contextmanager
def file_server(folder: Path) -> Iterator[int]:
    """Serve a folder whose folders are buckets, to be read (see ``benchmarks.file_server``); yields the port."""
    with _serving("benchmarks.file_server", str(folder)) as port:
        yield port


@contextmanager
def _serving(module: str, *arguments: str) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", module, *arguments, str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(port, process)
        yield port
    finally:
        process.kill()
        process.wait()


def s3_environment(endpoint: str) -> dict[str, str]:
    """What lets clients of S3 find a server that takes any credentials."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "an-id",
        "AWS_SECRET_ACCESS_KEY": "a-secret",
        "AWS_REGION": "us-east-1",
    }


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(_TRIES):
        assert process.poll() is None, "the server has ended"
        try:
            socket.create_connection((LOOPBACK, port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the server does not listen")
