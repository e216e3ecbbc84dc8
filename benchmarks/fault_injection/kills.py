"""Kills: each round does one stage in a folder of its own, killed again and again, and compares what comes out."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fault_injection.compare import BlockWatch, shard_differences, store_differences, weight_differences
from benchmarks.fault_injection.processes import PLAIN_KILLS, STOPS, TORCHRUN_KILLS, Running, answers_signals, strike
from benchmarks.fault_injection.world import SHARDS, Case, FaultWorld, Target
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE

PATIENCE = 30.0  # seconds that a killed command's other processes have to end
DEADLINE = 600.0  # seconds that an undisturbed command may take
TO_STOP = 75.0  # seconds that a struck command may take to end; more than the package's own grace
LAG = 5.0  # seconds within which a run that was at its end may still end well after a signal


@dataclass(frozen=True)
class Timing:
    """How long a target takes undisturbed, in seconds: until the first of its output is there, and after that."""

    startup: float
    work: float


@dataclass
class Round:
    """What one round did and found; a problem is a text for people."""

    number: int
    target: Target
    folder: Path
    in_flight: int  # blocks that a kill may cost
    kills: list[str] = field(default_factory=list)
    redone: list[int] = field(default_factory=list)  # blocks that each kill cost
    lost: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    wrong_exits: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def problems(self) -> list[str]:
        """All that should not be."""
        too_many = [f"a kill cost {count} blocks, with {self.in_flight} in flight" for count in self.redone]
        over = [text for text, count in zip(too_many, self.redone, strict=True) if count > self.in_flight]
        return [*self.lost, *self.orphans, *self.wrong_exits, *self.unequal, *over]

    def __str__(self) -> str:
        """One line for a log."""
        counts = Counter(self.kills)
        kinds = ", ".join(f"{kind} {counts[kind]}" for kind in sorted(counts))
        verdict = "equal" if not self.problems else f"{len(self.problems)} PROBLEMS in {self.folder}"
        redone = f", {sum(self.redone)} blocks made again" if self.redone else ""
        return f"round {self.number}: {self.target}: {len(self.kills)} kills ({kinds}){redone}, {verdict}"


def run_reference(case: Case) -> Timing:
    """Do a target without faults, by its real command line.

    Raises:
        RuntimeError: it fails; nothing can be compared then.
    """
    begin = time.monotonic()
    log = case.output.with_name(f"{case.output.name}.log")
    running = Running(case.command(), f"{os.getpid()}-{case.output.name}", log)
    running.poll(lambda: case.progress() > 0)
    startup = time.monotonic() - begin
    if running.wait(DEADLINE) != 0:
        running.kill_all()
        raise RuntimeError(f"{case.target} fails without faults: {running.printed()[-2000:]}")
    return Timing(startup, max(0.2, time.monotonic() - begin - startup))


def run_round(world: FaultWorld, target: Target, timing: Timing, number: int, kills: int, folder: Path) -> Round:
    """Do a target, killed ``kills`` times or until it is faster than the kills, and compare.

    Args:
        world: with the references made.
        target: what to do.
        timing: of the same target undisturbed.
        number: of the round; with the world's seed, it gives all choices but not the machine's speed.
        kills: how often to kill.
        folder: where the round's files go.
    """
    begin = time.monotonic()
    rng = random.Random(f"{world.seed} kills {number}")
    case = world.case(target, folder)
    result = Round(number, target, folder, world.blocks_in_flight(target))
    watch = BlockWatch(case.output, case.trace) if target.stage == "dump-logits" else None
    finished = False
    while not finished and len(result.kills) < kills:
        finished = _struck(case, timing, rng, result)
        if watch is not None:
            _look(watch, result, was_killed=not finished)
    if not finished:
        _finish(case, rng, result)
    if watch is not None:
        _look(watch, result, was_killed=False)
    result.unequal += differences(case)
    result.seconds = time.monotonic() - begin
    return result


def differences(case: Case) -> list[str]:
    """What differs between a finished target and its reference."""
    compare: dict[str, Callable[[Path, Path], list[str]]] = {
        SHARDS.stage: shard_differences,
        "dump-logits": store_differences,
    }
    return compare.get(case.target.stage, weight_differences)(case.output, case.world.reference(case.target).output)


def _look(watch: BlockWatch, result: Round, was_killed: bool) -> None:
    lost, redone = watch.look()
    result.lost += lost
    if was_killed:
        result.redone.append(redone)


def _struck(case: Case, timing: Timing, rng: random.Random, result: Round) -> bool:
    """Start the command and kill it at a random moment: whether it had finished before."""
    attempt = len(result.kills)
    kind = rng.choice(PLAIN_KILLS if case.target.processes == 1 else TORCHRUN_KILLS)
    workers = rng.randint(0, 2 if case.target.processes == 1 else 1)
    if kind == "worker":
        workers = max(1, workers)
    log = result.folder / f"attempt-{attempt:02d}.log"
    command = case.command(workers, traced=case.target.stage == "dump-logits")
    running = Running(command, f"{os.getpid()}-{result.number}-{attempt}", log)
    try:
        _await_moment(running, case, timing, rng)
        if not running.ended:
            return _strike(running, case.target, kind, rng, result)
        if running.wait(0) != 0:
            result.wrong_exits.append(f"exit code {running.wait(0)} without a kill, see {log}")
        return True
    finally:
        left = running.leftovers(PATIENCE)
        result.orphans += [f"after {kind}, {member} is still alive, see {log}" for member in left]


def _strike(running: Running, target: Target, kind: str, rng: random.Random, result: Round) -> bool:
    """Kill, and judge how the command ends: whether it had finished before."""
    polite = answers_signals(running.process.pid)
    kind = strike(running, kind, rng)
    begin = time.monotonic()
    code = running.wait(TO_STOP)
    if code == 0 and not (kind in STOPS and time.monotonic() - begin > LAG):
        return True
    result.kills.append(kind)
    if not _is_right(target, kind, code, polite):
        result.wrong_exits.append(f"exit code {code} after {kind} (signals handled: {polite}), see {running.log}")
    elif kind in STOPS and polite and target.processes == 1 and "Traceback" in running.printed():
        result.wrong_exits.append(f"a traceback after {kind}, see {running.log}")
    return code == 0


def _await_moment(running: Running, case: Case, timing: Timing, rng: random.Random) -> None:
    """Wait for a random moment: anywhere from the start on, or some time after the first new output."""
    before = case.progress()
    remaining = timing.work * (1 - before)
    if rng.random() < 0.4:
        running.sleep(rng.uniform(0, timing.startup + remaining))
        return
    running.poll(lambda: case.progress() > before)
    running.sleep(rng.uniform(0, 0.6 * remaining))


def _is_right(target: Target, kind: str, code: int | None, polite: bool) -> bool:
    """Whether a struck command has ended as it should."""
    if code is None:
        return False
    if target.processes > 1:  # torchrun has exit codes of its own
        return code != 0
    if kind in STOPS:
        return code == REQUEUE_EXIT_CODE if polite else code not in (0, 2)
    if kind == "worker":
        return code == REQUEUE_EXIT_CODE
    return code == -signal.SIGKILL


def _finish(case: Case, rng: random.Random, result: Round) -> None:
    """Run the command to its end."""
    log = result.folder / "last.log"
    traced = case.target.stage == "dump-logits"
    workers = rng.randint(0, 2 if case.target.processes == 1 else 1)
    running = Running(case.command(workers, traced), f"{os.getpid()}-{result.number}-last", log)
    code = running.wait(DEADLINE)
    if code != 0:
        result.wrong_exits.append(f"exit code {code} of the last, undisturbed run, see {log}")
    left = running.leftovers(PATIENCE)
    result.orphans += [f"after the last run, {member} is still alive, see {log}" for member in left]


def tell(text: str) -> None:
    """One line of the campaign's log."""
    print(text, file=sys.stderr, flush=True)
