"""The standard streams as shells and schedulers leave them: closed, not UTF-8, or a pipe that nobody reads any more."""

from __future__ import annotations

import codecs
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer

_ERRORS = "tinyvit_kd.plain"
_PLAIN = {"→": "->", "←": "<-", "…": "...", "×": "x", "·": ".", "–": "-", "—": "-", "≥": ">=", "≤": "<=", "µ": "u"}


def prepare_streams() -> None:
    """Make standard output and error such that no line can end a command.

    * A stream that is closed leads to nowhere. Else the next file that is opened would take its number, and whatever a
      library prints would be written into that file.
    * What a terminal's encoding does not have is written in other characters.
    * A pipe whose reader has gone takes everything: a run of days does not end with the ``tee`` beside it, and exit
      codes keep their meaning.
    """
    codecs.register_error(_ERRORS, _replace)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if not _is_open(number):
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    sys.stdout, sys.stderr = (_prepared(stream) for stream in (sys.stdout, sys.stderr))


class _Pipe(io.FileIO):
    """A file descriptor that takes everything once its reader has gone, or once it has refused something."""

    _failed = False

    def write(self, data: Buffer, /) -> int:
        try:
            return memoryview(data).nbytes if self._failed else super().write(data)
        except BrokenPipeError:
            self._failed = True
        except OSError as error:  # such as a full disk, which is told once and not again while Python ends
            self._failed = True
            error.filename = "the command's output"
            raise
        return memoryview(data).nbytes


def _prepared(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    if stream in (sys.__stdout__, sys.__stderr__):
        stream.flush()
        raw = _Pipe(stream.fileno(), "wb", closefd=False)
        return io.TextIOWrapper(
            io.BufferedWriter(raw), encoding=stream.encoding, errors=_ERRORS, line_buffering=stream.line_buffering
        )
    stream.reconfigure(errors=_ERRORS)
    return stream


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(each) or each.encode("ascii", "backslashreplace").decode() for each in text), error.end
