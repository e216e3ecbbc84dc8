"""Whatever a shell did to the standard streams, no line ends a command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

START = "import sys, os\nfrom tinyvit_kd.runtime.streams import prepare_streams\nprepare_streams()\n"


def run(code: str, limit: Callable[[], None] | None = None, **variables: str) -> subprocess.CompletedProcess[bytes]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **variables}
    command = [sys.executable, "-c", START + code]
    return subprocess.run(command, capture_output=True, check=False, env=environment, preexec_fn=limit)


def test_a_terminal_that_is_not_utf_8_gets_other_characters() -> None:
    done = run("print('a → b … × ü 漢')", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, b"a -> b ... x \\xfc \\u6f22\n"), done.stderr


def test_a_name_that_is_no_text_can_be_printed() -> None:
    done = run(r"print(os.fsdecode(b'a\xff.jpg'))", PYTHONIOENCODING="utf-8")
    assert (done.returncode, done.stdout) == (0, b"a\\udcff.jpg\n"), done.stderr


def test_a_closed_stream_does_not_become_the_next_file_that_is_opened(tmp_path: Path) -> None:
    def close() -> None:
        for number in (0, 1, 2):
            os.close(number)

    path = tmp_path / "precious"
    code = f"file = open({str(path)!r}, 'wb', buffering=0)\nfile.write(b'mine')\nprint('a line')\n"
    code += "print('a line', file=sys.stderr)\nos.write(2, b'what a library prints')\nassert sys.stdin.readable()"
    assert run(code, close).returncode == 0
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_pipe_that_nobody_reads_any_more_does_not_end_a_run(stream: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    code = f"for _ in range(9): print('a line', file=sys.{stream}, flush=True)\nopen({str(tmp_path / 'end')!r}, 'w')"
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | {stream: writer}
    command = [sys.executable, "-c", START + code]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, check=False, env=environment, **streams)  # type: ignore[call-overload]
    os.close(writer)
    assert done.returncode == 0
    assert (tmp_path / "end").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_under_the_output_is_told_once() -> None:
    code = "try: print('a line', flush=True)\nexcept OSError as error: sys.stderr.write(str(error))\nprint('more')"
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-c", START + code]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(command, check=False, stdout=full, stderr=subprocess.PIPE, env=environment)
    assert done.returncode == 0
    assert done.stderr == b'[Errno 28] No space left on device: "the command\'s output"'
