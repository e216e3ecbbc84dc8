"""A file inside a tar, by its name and place."""

from __future__ import annotations

from typing import NamedTuple


class Member(NamedTuple):
    """A file inside a tar."""

    name: str  # bytes that are not UTF-8 are kept as surrogate escapes
    offset: int  # of the content's first byte, counted from the start of the tar
    size: int  # of the content, bytes
    part: int = 0  # number of the archive in the tar: several may stand one behind the other
