"""``loggers.json`` in a run folder: the ids under which other programs know the run, which goes on under them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tinyvit_kd.runtime.files import read_small_json, write_json

LOGGED = "loggers.json"


def logged_id(folder: Path, key: str) -> str | None:
    """The id that a logger gave the run; None if it has none yet."""
    found = read_small_json(folder / LOGGED).get(key)
    return found if isinstance(found, str) and found else None


def remember_id(folder: Path, key: str, value: str) -> None:
    """Keep an id. A disk that refuses costs that the run goes on in a new one."""
    with suppress(OSError):
        write_json(folder / LOGGED, read_small_json(folder / LOGGED) | {key: value})
