"""Colours on a terminal: where a stream is one, and nobody asked for none (https://no-color.org)."""

from __future__ import annotations

import os
import sys
from typing import Literal, TextIO

Meaning = Literal["good", "bad", "quiet", "strong"]
_CODES: dict[Meaning, int] = {"good": 32, "bad": 31, "quiet": 2, "strong": 1}


def coloured(text: str, meaning: Meaning, stream: TextIO | None = None) -> str:
    """A text as it is written to a stream (None: standard output), in a colour where the stream shows colours."""
    return f"\033[{_CODES[meaning]}m{text}\033[0m" if text and shows_colours(stream or sys.stdout) else text


def shows_colours(stream: TextIO) -> bool:
    """Whether a stream is a terminal, and neither NO_COLOR is set nor TERM is dumb."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()
