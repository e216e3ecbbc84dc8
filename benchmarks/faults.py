"""Does it survive? Stages are killed at random moments, their files are damaged, and their disk fills up.

Command:  python -m benchmarks.faults [--rounds 42] [--corruptions 2000] [--seed 0] [--jobs 2]
Result:   a table, and a last line of JSON; exit code 0 if nothing was lost, changed or overlooked.

A small pipeline (drawn images, a teacher of random weights) runs through the real command line, first undisturbed, as
the reference. Then

* kills: a round takes one stage (shards build, dump-logits, pretrain, finetune; two of them under torchrun, too),
  kills it at random moments of start-up and work (SIGKILL to the process, its group, a worker, a rank, torchrun alone;
  SIGTERM, SIGUSR1, SIGINT), runs the same command again each time, and compares what it ends with bit for bit.
* corruptions: bits, bytes, files and blocks are damaged or exchanged, one at a time; every reader must notice.
* disk full: dump-logits and pretrain run out of disk, must say so, and go on once there is room.

The defaults make more than 200 kills and take about half an hour on two cores. Choices follow from the seed, but the
moments of kills depend on the machine's speed, too.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.fault_injection.corruption import Corruptions, Outcome, corrupt
from benchmarks.fault_injection.damage import kinds
from benchmarks.fault_injection.disk import DiskFull, fill_disks
from benchmarks.fault_injection.kills import Round, Timing, run_reference, run_round, tell
from benchmarks.fault_injection.processes import hear_interrupts
from benchmarks.fault_injection.subjects import Subjects
from benchmarks.fault_injection.world import (
    DUMP,
    DUMP_2,
    FINETUNE,
    PRETRAIN,
    PRETRAIN_2,
    SHARDS,
    TARGETS,
    FaultWorld,
    Size,
    Target,
)
from benchmarks.machine import describe

KILLS = 6  # a round
Row = tuple[str, str, str]


@dataclass
class Campaign:
    """What a campaign found."""

    rounds: list[Round] = field(default_factory=list)
    corruptions: Corruptions = field(default_factory=Corruptions)
    disks: list[DiskFull] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """All that should not be."""
        of_rounds = [f"round {each.number}: {problem}" for each in self.rounds for problem in each.problems]
        of_disks = [f"disk full, {disk.target}: {problem}" for disk in self.disks for problem in disk.problems]
        return of_rounds + self.corruptions.undetected + of_disks

    def equal(self, stages: set[str]) -> bool:
        """Whether all that these stages made under faults is what they make without."""
        of_rounds = [not each.unequal for each in self.rounds if each.target.stage in stages]
        return all([*of_rounds, *(not disk.unequal for disk in self.disks if disk.target in stages)])

    def summary(self) -> dict[str, Any]:
        """The figures, by name."""
        rounds, corruptions = self.rounds, self.corruptions
        return {
            "rounds": len(rounds),
            "kills": sum(len(each.kills) for each in rounds),
            "lost_blocks": sum(len(each.lost) for each in rounds),
            "redone_blocks": sum(sum(each.redone) for each in rounds),
            "corruptions": sum(counts.total() for counts in corruptions.outcomes.values()),
            "undetected": corruptions.count(Outcome.UNDETECTED),
            "store_equal": self.equal({DUMP.stage}),
            "weights_equal": self.equal({PRETRAIN.stage, FINETUNE.stage}),
            "shards_equal": self.equal({SHARDS.stage}),
            "harmless": corruptions.count(Outcome.HARMLESS),
            "most_redone_by_a_kill": max((count for each in rounds for count in each.redone), default=0),
            "orphans": sum(len(each.orphans) for each in rounds),
            "wrong_exit_codes": sum(len(each.wrong_exits) for each in rounds),
            "disk_full": {disk.target: not disk.problems for disk in self.disks},
        }


def main() -> None:
    """Parse the arguments, run, print, exit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=42, help="stages to kill, in turn (%(default)s)")
    parser.add_argument("--kills", type=int, default=KILLS, help="kills a round, at the most (%(default)s)")
    parser.add_argument("--corruptions", type=int, default=2000, help="corruptions, 1,500 a minute (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="varies everything (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="rounds at a time (%(default)s)")
    parser.add_argument("--folder", type=Path, help="an empty folder to work in; default: a temporary one")
    parser.add_argument("--json", action="store_true", help="print the line of JSON alone, without the table")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="tinyvit-kd-faults-"))
    if folder.exists() and any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    hear_interrupts()
    begin = time.perf_counter()
    campaign = run(folder.absolute(), options)
    if not options.json:
        print(table(campaign))
    summary = {**campaign.summary(), "seconds": round(time.perf_counter() - begin), "machine": describe()}
    print(json.dumps(summary), flush=True)
    sys.exit(_end(campaign, folder, options))


def run(folder: Path, options: argparse.Namespace) -> Campaign:
    """The whole campaign."""
    torch.set_num_threads(1)  # tiny networks gain nothing from more
    campaign = Campaign()
    subjects = Subjects(folder / "damaged", options.seed)
    subjects.make()
    campaign.corruptions = corrupt(subjects, options.corruptions, options.seed, kinds())
    tell(f"{options.corruptions} corruptions, {campaign.corruptions.count(Outcome.UNDETECTED)} of them undetected")
    world = FaultWorld(folder, Size(), options.seed)
    timings = references(world)
    campaign.disks = fill_disks(world, folder / "disk")
    for disk in campaign.disks:
        tell(f"disk full, {disk.target}, {disk.disk}: {len(disk.problems)} problems; it said: {disk.message}")
    for each in kill_rounds(world, timings, options.rounds, options.kills, options.jobs):
        tell(f"{each}, {each.seconds:.0f} s")
        campaign.rounds.append(each)
    return campaign


def references(world: FaultWorld) -> dict[Target, Timing]:
    """Run every stage without faults: how long each takes."""
    world.draw()
    timings = dict[Target, Timing]()
    for target in (SHARDS, DUMP, PRETRAIN, FINETUNE, PRETRAIN_2):
        timings[target] = run_reference(world.reference(target))
        tell(f"reference: {target}: {timings[target].startup:.1f} s + {timings[target].work:.1f} s")
    # A store is the same from any number of processes; torchrun takes longer to start them.
    return timings | {DUMP_2: Timing(timings[PRETRAIN_2].startup, timings[DUMP].work)}


def kill_rounds(
    world: FaultWorld, timings: dict[Target, Timing], rounds: int, kills: int, jobs: int
) -> Iterator[Round]:
    """Rounds of kills, ``jobs`` at a time; the folder of one without problems is removed."""
    pool = ThreadPoolExecutor(jobs)
    targets = [target for target in TARGETS if target in timings]

    def one(number: int) -> Round:
        target = targets[number % len(targets)]
        result = run_round(world, target, timings[target], number, kills, world.folder / f"round-{number:03d}")
        if not result.problems:
            shutil.rmtree(result.folder)
        return result

    try:
        yield from pool.map(one, range(rounds))
    finally:
        pool.shutdown(cancel_futures=True)


def table(campaign: Campaign) -> str:
    """The figures for people, a row a kind."""
    rows = [*_kill_rows(campaign.rounds), *_corruption_rows(campaign.corruptions), *_disk_rows(campaign.disks)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"{name:<{widths[0]}}  {number:>{widths[1]}}  {outcome}".rstrip() for name, number, outcome in rows]
    rule = "-" * max(map(len, lines))
    return "\n".join([rule, *lines, rule])


def _kill_rows(rounds: list[Round]) -> Iterator[Row]:
    yield "killed", "kills", "outcome"
    for target in TARGETS:
        mine = [each for each in rounds if each.target == target]
        if mine:
            yield f"  {target}", str(sum(len(each.kills) for each in mine)), _outcome(mine)
    for kind, count in sorted(Counter(kind for each in rounds for kind in each.kills).items()):
        yield f"  of these by {kind if kind.startswith('SIG') else f'SIGKILL: {kind}'}", str(count), ""


def _outcome(rounds: list[Round]) -> str:
    unequal = sum(bool(each.unequal) for each in rounds)
    parts = [f"{len(rounds)} round(s)", f"{unequal} UNEQUAL" if unequal else "all equal"]
    if rounds[0].target.stage == DUMP.stage:
        redone = [count for each in rounds for count in each.redone]
        most = f"at most {max(redone, default=0)} a kill, {rounds[0].in_flight} in flight"
        parts += [f"{sum(len(each.lost) for each in rounds)} blocks lost", f"{sum(redone)} made again ({most})"]
    for name, found in (("orphans", "orphans"), ("wrong exits", "wrong_exits")):
        count = sum(len(getattr(each, found)) for each in rounds)
        parts += [f"{count} {name.upper()}"] if count else []
    return ", ".join(parts)


def _corruption_rows(corruptions: Corruptions) -> Iterator[Row]:
    yield "corrupted", "number", "outcome"
    for kind, counts in sorted(corruptions.outcomes.items()):
        parts = [f"{counts[outcome]} {_shown(outcome)}" for outcome in Outcome if counts[outcome]]
        yield f"  {kind}", str(counts.total()), ", ".join(parts)


def _shown(outcome: Outcome) -> str:
    return outcome.upper() if outcome == Outcome.UNDETECTED else outcome


def _disk_rows(disks: list[DiskFull]) -> Iterator[Row]:
    yield "disk full", "number", "outcome"
    for disk in disks:
        well = "said so, lost nothing, went on, equal"
        yield f"  {disk.target}", "1", f"{disk.disk}: {'PROBLEMS' if disk.problems else well}"


def _end(campaign: Campaign, folder: Path, options: argparse.Namespace) -> int:
    """Name the problems and keep the folder, or remove it; the exit code."""
    if not campaign.problems:
        if options.folder is None:
            shutil.rmtree(folder)
        return 0
    for problem in campaign.problems:
        tell(problem)
    command = f"python -m benchmarks.faults --rounds {options.rounds} --kills {options.kills}"
    again = f"{command} --corruptions {options.corruptions} --seed {options.seed} --jobs {options.jobs}"
    tell(f"{len(campaign.problems)} problems; what was left is in {folder}; to repeat: {again}")
    return 1


if __name__ == "__main__":
    main()
