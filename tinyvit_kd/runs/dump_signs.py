"""What the dumps of a store have left beside it, in words, for a run that waits for them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from tinyvit_kd.runs.run_files import beside_store, dump_file
from tinyvit_kd.runtime.files import read_small_json
from tinyvit_kd.runtime.progress_file import PROGRESS
from tinyvit_kd.runtime.wording import duration, printable

SILENT_AFTER = 120.0  # seconds without a sign of a job that writes one every 5 seconds
SHOWN = 4  # parts of a dump that are told of
_MESSAGE = 200  # characters


def told_of_dumps(stores: Sequence[str]) -> str:
    """What is known of the dumps of some stores, to be put behind a sentence; empty if nothing is.

    Args:
        stores: paths or URLs; beside a URL there is nothing.
    """
    told = [sign for store in stores for sign in _signs(store)]
    more = [f"and {len(told) - SHOWN} more"] if len(told) > SHOWN else []
    return "".join(f"; {each}" for each in told[:SHOWN] + more)


def _signs(store: str) -> Iterator[str]:
    log = beside_store(store, "log")
    if log is None:
        return
    try:
        files = sorted(log.parent.iterdir())
    except OSError:
        return
    for path in files:
        name, part, ending = dump_file(path.name) or ("", (1, 1), "")
        if f"{name}.log" == log.name and ending == PROGRESS:
            which = "its dump" if part[1] == 1 else f"part {part[0]}/{part[1]} of its dump"
            yield f"{which} {_state(read_small_json(path))}"


def _state(progress: dict[str, object]) -> str:
    state, message, updated = (progress.get(name) for name in ("state", "message", "updated"))
    if state == "finished":
        return "has finished"
    if state in ("failed", "stopped"):
        said = f": {printable(message)[:_MESSAGE]}" if isinstance(message, str) else ""
        return f"{'has failed' if state == 'failed' else 'was stopped'}{said}"
    age = time.time() - updated if isinstance(updated, int | float) else None
    if age is not None and age < SILENT_AFTER:
        return "is at work"
    return "has shown no sign of life" + (f" for {duration(age)}" if age is not None else "")
