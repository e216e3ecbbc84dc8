"""Who writes to a run at a URL: one process at a time, as a lock keeps it for a folder.

An object store has no locks. It has conditional writes: of several that want to be writer number n, one succeeds. The
highest number counts. A writer renews its object; one that has not done so for a while is taken to be gone, by the
clock of the service alone.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import time
from contextlib import suppress
from dataclasses import asdict, dataclass

from tinyvit_kd.errors import BusyError
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.log import warn
from tinyvit_kd.storage.base import Storage

WRITERS = "writer"  # their folder, within a run's
LASTS = 120.0  # seconds without a renewal after which a writer is taken to be gone
WAIT = 180.0  # seconds to wait for another writer to end, as for a folder
_LOOK_EVERY = 3.0  # seconds
_CLOCK = f"{WRITERS}/clock"  # an object whose time of change is the time by the service's clock


@dataclass(frozen=True)
class Writer:
    """A process that writes, or wrote, to a run.

    Attributes:
        run: drawn at the run's first start, and kept by all later ones.
        token: drawn at each start.
        host, process: of rank 0.
        released: it has ended by itself.
    """

    run: str
    token: str
    host: str
    process: int
    released: bool = False


class Lease:
    """The right to write to a run, which this process has.

    Args:
        storage: of the run.
        number: of this writer.
        writer: this process.
    """

    def __init__(self, storage: Storage, number: int, writer: Writer) -> None:
        self._storage, self._number, self.writer = storage, number, writer

    def require(self) -> None:
        """Check that no other process has become the writer.

        Raises:
            BusyError: one has.
        """
        if max(_numbers(self._storage), default=self._number) > self._number:
            raise BusyError(
                "another process has taken this run over, because it was not heard of for "
                f"{LASTS:.0f} s or had been taken to be gone",
                where=self._storage.locate(),
                fix="let the other one go on; this one has stopped, and has removed nothing",
            )

    def renew(self) -> None:
        """Say that this process lives.

        Raises:
            BusyError: another one has become the writer.
        """
        self.require()
        self._storage.write(_name(self._number), _content(self.writer))

    def release(self) -> None:
        """Let the next one in at once."""
        released = Writer(**asdict(self.writer) | {"released": True})
        self._storage.write(_name(self._number), _content(released))

    def remove_earlier(self) -> None:
        """Remove what earlier writers have left of themselves. What cannot be removed does no harm."""
        with suppress(OSError):
            for number in _numbers(self._storage):
                if number < self._number:
                    self._storage.remove(_name(number))


def claim(storage: Storage, gone: str | None, wait: float = WAIT, lasts: float = LASTS) -> tuple[Lease, Writer | None]:
    """Become the writer of a run.

    Args:
        gone: token of a writer that is known to have ended; None: of none.
        wait: seconds to wait for another writer to end, or to be taken to be gone.
        lasts: seconds without a renewal after which it is.

    Returns:
        the lease, and the writer before.

    Raises:
        BusyError: another process still writes after that time.
        OSError: the storage refuses.
    """
    deadline, warned = time.monotonic() + wait, False
    while True:
        number, before = _newest(storage)
        if before is None or before.released or before.token == gone or _age(storage, number) > lasts:
            lease = _created(storage, number + 1, before)
            if lease is not None:
                return lease, before
        elif time.monotonic() > deadline:
            raise BusyError(
                "another process is writing to this run",
                where=storage.locate(),
                found=f"process {before.process} on {before.host}",
                fix="wait for it or stop it, or choose another output",
            )
        else:
            if not warned:
                warn(f"waiting for process {before.process} on {before.host} to leave {storage.locate()}")
            warned = True
            with saying(f"waiting for another process to leave {storage.locate()}"):
                time.sleep(min(_LOOK_EVERY, wait))


def _created(storage: Storage, number: int, before: Writer | None) -> Lease | None:
    """The lease of a new writer; None where another one has come first."""
    run = secrets.token_hex(8) if before is None else before.run
    writer = Writer(run, secrets.token_hex(8), platform.node(), os.getpid())
    written = storage.write_new(_name(number), _content(writer))
    if not written:  # an answer that was lost on the way makes the next attempt find its own object
        found = _read(storage, number)
        written = found is not None and found.token == writer.token
    return Lease(storage, number, writer) if written else None


def _name(number: int) -> str:
    return f"{WRITERS}/{number:06d}.json"


def _content(writer: Writer) -> bytes:
    return (json.dumps(asdict(writer) | {"renewed": round(time.time())}) + "\n").encode()


def _numbers(storage: Storage) -> list[int]:
    stems = [entry.base.removesuffix(".json") for entry in storage.list(WRITERS) if entry.base.endswith(".json")]
    return [int(stem) for stem in stems if stem.isdecimal()]


def _newest(storage: Storage) -> tuple[int, Writer | None]:
    """The highest number, and its writer; 0 and None where there is none that can be read."""
    number = max(_numbers(storage), default=0)
    return number, _read(storage, number) if number else None


def _read(storage: Storage, number: int) -> Writer | None:
    try:
        values = json.loads(storage.read(_name(number)))
        return Writer(*(values[name] for name in ("run", "token", "host", "process", "released")))
    except (FileNotFoundError, ValueError, TypeError, LookupError):
        return None


def _age(storage: Storage, number: int) -> float:
    """Seconds since a writer's last renewal, by the service's clock."""
    noted = storage.info(_name(number))
    storage.write(_CLOCK, b"")
    now = storage.info(_CLOCK)
    return 0.0 if noted is None or now is None else (now.modified_ns - noted.modified_ns) / 1e9
