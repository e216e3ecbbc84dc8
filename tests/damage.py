"""Damaged and malicious files."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def flip(path: Path, byte: int = -1) -> None:
    """Flip one bit of a byte."""
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))
