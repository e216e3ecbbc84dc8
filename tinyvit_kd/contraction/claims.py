"""Which process does which piece of work, agreed on by files alone: on shared disks, locks are not to be trusted.

A process that takes a piece makes a file, and renews it while it works. A file that was not renewed for a minute, or
whose process is gone from this machine, is taken over. It can happen that two processes do the same piece: that costs
time and nothing else, since the first result stands (see ``results_folder``).
"""

from __future__ import annotations

import errno
import json
import os
import platform
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tinyvit_kd.runtime.files import atomic_create, modified, read_small_json

LASTS = 60.0  # seconds without a renewal after which a process is taken to be gone
_RENEWED_EVERY = 10.0  # seconds
_CLAIM, _CLOCK = ".claim", ".clock"
_VANISHED = (errno.ENOENT, errno.ESTALE)  # ESTALE: another machine has removed a file of NFS meanwhile
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = "/proc/self/ns/pid"  # of process numbers


class Claims:
    """The claims in a folder.

    Args:
        folder: it is made.
        lasts: seconds without a renewal after which a process is taken to be gone, by the clock of the disk.
        renewed_every: seconds between renewals.
    """

    def __init__(self, folder: Path, lasts: float = LASTS, renewed_every: float = _RENEWED_EVERY) -> None:
        self._folder, self._lasts, self._renewed_every = folder, lasts, renewed_every

    @contextmanager
    def claimed(self, name: str) -> Iterator[bool]:
        """Try to claim a piece of work while the context lasts; yields whether it is ours."""
        path = self._path(name)
        if not self._take(path):
            yield False
            return
        ended = threading.Event()
        thread = threading.Thread(target=self._renew, args=(path, ended), name="claim", daemon=True)
        thread.start()
        try:
            yield True
        finally:
            ended.set()
            if read_small_json(path).get("token") == _token():  # another process may have taken it over
                path.unlink(missing_ok=True)

    def holder(self, name: str) -> str | None:
        """Who has claimed a piece of work, for people: ``node7, process 1234``; None where that is not known."""
        owner = _owner(read_small_json(self._path(name)))
        return None if owner is None else f"{owner[0] or 'a machine'}, process {owner[1]}"

    def is_left(self, path: Path) -> bool:
        """Whether a file, which a process writes in a moment, is one that a process left behind when it was killed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._age(path) > self._lasts

    def remove_left(self) -> None:
        """Remove the claims, and other files in the folder, of processes that are gone."""
        for path in sorted(self._folder.glob("*")):
            if path.suffix == _CLAIM:
                self._put_aside(path)
            elif path.suffix in (_CLOCK, ".partial") and self.is_left(path):
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{_CLAIM}"

    def _take(self, path: Path) -> bool:
        claim = json.dumps({"token": _token(), "machine": _machine(), "process": os.getpid()}).encode()
        if not path.exists() and atomic_create(path, claim):
            return True
        return self._put_aside(path) and atomic_create(path, claim)

    def _put_aside(self, path: Path) -> bool:
        """Remove the claim of a process that is gone; returns whether it was done here."""
        if not self._is_abandoned(path):
            return False
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        try:
            os.rename(path, aside)  # of several that see it abandoned, one can
        except OSError as error:
            if error.errno in _VANISHED:
                return False
            raise
        aside.unlink(missing_ok=True)
        return True

    def _is_abandoned(self, path: Path) -> bool:
        claim = read_small_json(path)
        return _is_gone(claim) or self._age(path) > self._lasts

    def _age(self, path: Path) -> float:
        """Seconds since the last renewal, by the clock of the disk; 0 where the claim is gone meanwhile."""
        clock = self._folder / f".{_token()}{_CLOCK}"
        clock.touch()
        try:
            with path.open("rb") as opened:  # opening makes NFS ask for the time anew
                return os.stat(clock).st_mtime - os.fstat(opened.fileno()).st_mtime
        except OSError as error:
            if error.errno in _VANISHED:
                return 0.0
            raise
        finally:
            clock.unlink(missing_ok=True)

    def _renew(self, path: Path, ended: threading.Event) -> None:
        while not ended.wait(self._renewed_every):
            with suppress(OSError):
                os.utime(path)


@dataclass(frozen=True)
class Claim:
    """A claim as it is seen from outside.

    Attributes:
        name: of the piece of work.
        host, process: who has it.
        age: seconds since it was renewed, by the clock of this machine.
        is_gone: whether the process was one of this machine, and is no more.
    """

    name: str
    host: str
    process: int
    age: float
    is_gone: bool

    @property
    def is_held(self) -> bool:
        """Whether its process is at work, as far as can be seen."""
        return not self.is_gone and self.age < LASTS


def claims_in(folder: Path, now: float) -> list[Claim]:
    """The claims in a folder, by name; nothing is written.

    Args:
        now: Unix time, seconds.
    """
    found = []
    for path in sorted(folder.glob(f"*{_CLAIM}")):
        claim, renewed = read_small_json(path), modified(path)
        owner = _owner(claim)
        if renewed is None or owner is None:
            continue  # it is gone meanwhile, or is being written
        found.append(Claim(path.stem, *owner, max(0.0, now - renewed), _is_gone(claim)))
    return found


def _owner(claim: dict[str, Any]) -> tuple[str, int] | None:
    """The host and the process that have a claim; None where it does not say."""
    machine, process = claim.get("machine"), claim.get("process")
    return (machine.partition(" ")[0], process) if isinstance(machine, str) and isinstance(process, int) else None


def _is_gone(claim: dict[str, Any]) -> bool:
    """Whether a claim's process was one of this machine, and is no more."""
    process = claim.get("process")
    if claim.get("machine") != _machine() or not isinstance(process, int):
        return False
    if process == os.getpid():  # in a container every process may have the same number
        return bool(claim.get("token") != _token())
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


@lru_cache(maxsize=1)
def _token() -> str:
    """Drawn once in this process."""
    return secrets.token_hex(8)


@lru_cache(maxsize=1)
def _machine() -> str:
    """This machine since it was started, and the container, where that numbers processes by itself."""
    told = [platform.node()]
    with suppress(OSError):
        told.append(_BOOT.read_text().strip())
    with suppress(OSError):
        told.append(os.readlink(_NAMESPACE))
    return " ".join(told)
