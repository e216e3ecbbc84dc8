"""Corruptions: bytes of a store, of checkpoints and of shards are damaged, and every reader must notice.

A corruption is detected when reading raises an error of the package that names the file or the sample, harmless when
what is read is as it was, bit for bit, and undetected otherwise. Damage to a store must be found by ``store check``,
too. Shards are read as stage two reads them; labels, which it does not use, are protected by nothing.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from benchmarks.fault_injection.subjects import Subjects
from tinyvit_kd.errors import TinyVitKdError

OLD = 120.0  # seconds; new files are given this age, so that no writer can be at work on them
Edits = dict[Path, bytes | None]  # what files hold; None: there is no such file
Mutate = Callable[[random.Random, bytes], bytes]


class Outcome(StrEnum):
    """What became of a corruption."""

    DETECTED = "detected"
    HARMLESS = "harmless"
    UNDETECTED = "undetected"


@dataclass(frozen=True)
class Damage:
    """One corruption.

    Attributes:
        edits: the damaged files.
        names: texts of which an error must contain one.
        read: gets what the damage concerns.
        check: says whether all is sound; None where there is no such command.
        check_always: the check has to find even what reading does not mind.
    """

    edits: Edits
    names: tuple[str, ...]
    read: Callable[[], object]
    check: Callable[[], bool] | None = None
    check_always: bool = False


Make = Callable[[Subjects, random.Random], Damage]


@dataclass
class Corruptions:
    """How many corruptions of each kind had which outcome."""

    outcomes: dict[str, Counter[Outcome]] = field(default_factory=dict)
    undetected: list[str] = field(default_factory=list)  # for people

    def count(self, outcome: Outcome) -> int:
        """Corruptions of all kinds with this outcome."""
        return sum(counts[outcome] for counts in self.outcomes.values())


def corrupt(subjects: Subjects, count: int, seed: int, kinds: dict[str, Make]) -> Corruptions:
    """Do ``count`` corruptions, one at a time, kind after kind; everything is put right after each."""
    found = Corruptions({kind: Counter() for kind in kinds})
    names = list(kinds)
    for number in range(count):
        kind = names[number % len(names)]
        damage = kinds[kind](subjects, random.Random(f"{seed} corruption {number}"))
        outcome, reason = examine(damage)
        found.outcomes[kind][outcome] += 1
        if outcome == Outcome.UNDETECTED:
            found.undetected.append(f"corruption {number} of seed {seed}, {kind}: {reason}")
    return found


def examine(damage: Damage) -> tuple[Outcome, str]:
    """Apply a damage, read, and put everything right; what came of it, and why it is undetected if it is."""
    original = damage.read()
    with applied(damage.edits):
        outcome, reason = judge(damage.read, original, damage.names)
        must_find = damage.check_always or outcome == Outcome.DETECTED
        if damage.check is not None and must_find and damage.check():
            return Outcome.UNDETECTED, f"the check finds nothing; reading: {outcome} {reason}"
    return outcome, reason


def judge(read: Callable[[], object], original: object, names: tuple[str, ...]) -> tuple[Outcome, str]:
    """What reading says of a damage."""
    try:
        found = read()
    except TinyVitKdError as error:
        if any(name in str(error) for name in names):
            return Outcome.DETECTED, str(error)
        return Outcome.UNDETECTED, f"the error names neither {' nor '.join(names)}: {error}"
    except Exception as error:  # whatever else a library raises would reach the user as a traceback
        return Outcome.UNDETECTED, f"a foreign error: {error!r}"
    return (Outcome.HARMLESS, "") if found == original else (Outcome.UNDETECTED, "other data, without an error")


@contextmanager
def applied(edits: Edits) -> Iterator[None]:
    """Change files while the context lasts."""
    before = {path: (path.read_bytes(), path.stat()) if path.exists() else None for path in edits}
    try:
        for path, content in edits.items():
            _write(path, content)
            if before[path] is None:
                os.utime(path, (time.time() - OLD,) * 2)
        yield
    finally:
        for path, saved in before.items():
            _write(path, saved[0] if saved else None)
            if saved:
                os.utime(path, ns=(saved[1].st_atime_ns, saved[1].st_mtime_ns))


def _write(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        path.write_bytes(content)


def flip(rng: random.Random, data: bytes) -> bytes:
    """One bit, or a few."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def cut(rng: random.Random, data: bytes) -> bytes:
    """The beginning."""
    return data[: rng.randrange(1, len(data))]


def empty(_rng: random.Random, _data: bytes) -> bytes:
    """Nothing."""
    return b""


def append(rng: random.Random, data: bytes) -> bytes:
    """Some bytes more."""
    return data + rng.randbytes(rng.randint(1, 64))


MUTATIONS: dict[str, Mutate] = {"bits flipped": flip, "cut short": cut, "emptied": empty, "bytes appended": append}
