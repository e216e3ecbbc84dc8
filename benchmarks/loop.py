"""What does the training loop cost beside forward, backward and step?

Command:  python -m benchmarks.loop [--views real --photos FOLDER] [--device cuda] [--students NAME …] [--batch 256]
          [--results FILE] [--tiny]
Result:   a table of optimiser steps a second, and a last line of JSON.

Bare: forward, sparse loss, backward, optimiser step on one batch that lies on the device. The loop:
``training.loop.fit`` as stage two runs it, with loader, copies to the device, clipping, meters and log lines, timed
from its second step to its last. Real views are replayed from a store with made-up probabilities, and their digests
compared; synthetic ones cost nothing, so that what is seen is the loop's own. Rounds are interleaved, and ratios are
medians of the rounds' ratios.

On a CPU the network gets --threads threads and the loading process what is left.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.arguments import cores, parse, student_parser
from benchmarks.cases import Cases, Figures
from benchmarks.contenders import DROP_PATH
from benchmarks.feeding import SyntheticBatches
from benchmarks.networks import bare_step, student_run, student_state
from benchmarks.stores import made_up_store, stored_batches
from benchmarks.timing import in_turns, median_ratio, seconds, several
from tinyvit_kd.config.training import DistillLossConfig, RuntimeConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.buffers import BatchMaker
from tinyvit_kd.data.loader import loading
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.runtime.distributed import Job, start_job
from tinyvit_kd.runtime.signals import StopRequest
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.loop import fit
from tinyvit_kd.training.objectives import DistillObjective
from tinyvit_kd.training.run import Run
from tinyvit_kd.training.state import TrainState

STUDENTS = ["tiny_vit_5m_224", "deit_tiny_patch16_224"]
DEFAULTS: dict[str, dict[str, Any]] = {
    "cpu": {"students": STUDENTS, "batch": 16, "steps": 6, "workers": 1},
    "cuda": {"students": ["tiny_vit_21m_224", *STUDENTS], "batch": 256, "steps": 50, "workers": max(1, cores() - 2)},
    "tiny": {"students": ["resnet10t"], "batch": 8, "steps": 4, "workers": 1},
}
SETTINGS = ("views", "batch", "size", "steps", "rounds", "precision", "workers", "threads", "compile")
OBJECTIVE = DistillObjective(DistillLossConfig())


class Rates(NamedTuple):
    """What one student came to."""

    bare: float  # steps/s
    loop: float  # steps/s
    over_bare: float  # the median of the rounds' ratios
    data_wait: float  # share of the loop's time


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, time, print."""
    options = parse(_parser(), arguments, DEFAULTS)
    with start_job(options.device, options.threads) as job, tempfile.TemporaryDirectory() as folder:
        maker = batches_of(options, Path(folder))
        settings = {name: getattr(options, name) for name in SETTINGS}
        cases = Cases(settings, job.device, options.results, ratios)
        for name in options.students:
            cases.run(name, partial(figures_of, name, maker, options, job, Path(folder)))
    print_table(cases.done, options)
    cases.end()


def ratios(done: dict[str, Figures]) -> dict[str, Any]:
    """The loop's share of the bare steps: the least, and each student's."""
    over = {name: round(each["over_bare"], 4) for name, each in done.items()}
    return {"over_bare_step": min(over.values(), default=None), "over_bare_step_by_student": over}


def _parser() -> argparse.ArgumentParser:
    made = student_parser(__doc__)
    made.add_argument("--split", default="train")
    made.add_argument("--steps", type=int, help="of each timing")
    made.add_argument("--workers", type=int, help="loading processes")
    return made


def batches_of(options: argparse.Namespace, folder: Path) -> BatchMaker[int, Batch]:
    """Stage two's batches: real views of photos, or views that cost nothing."""
    if options.views == "synthetic":
        return SyntheticBatches(options.batch, options.size, options.topk, options.classes)
    shards = ShardSet.load(options.photos, options.split, index_dir=folder / "indexes")
    spec = ViewSpec(size=options.size)
    store = made_up_store(folder / "store", shards, spec, options.topk, options.classes, views=1)
    return stored_batches(shards, store, options.batch, lanes=min(8, options.batch))


def figures_of(
    name: str, maker: BatchMaker[int, Batch], options: argparse.Namespace, job: Job, folder: Path
) -> Figures:
    """One student's rates, as JSON has them."""
    return measure(name, maker, options, job, folder)._asdict()


def measure(name: str, maker: BatchMaker[int, Batch], options: argparse.Namespace, job: Job, folder: Path) -> Rates:
    """One student's rates: medians of the rounds."""
    drop_path, waits = DROP_PATH.get(name), list[float]()
    state = student_state(name, options.classes, options.size, options.batch, job.device, drop_path)
    steps, precision, compiled = options.steps, options.precision, options.compile
    run = student_run(state, options.batch, job, folder / name, steps, precision, compiled)
    with loading(maker, range(1), RuntimeConfig(workers=0), job.device) as batches:
        bare = several(partial(bare_step, run, state, next(batches)), options.steps)
        columns: dict[str, Callable[[], float]] = {
            "bare": lambda: seconds(bare, job.device) / options.steps,
            "loop": lambda: loop_step(run, state, maker, options.workers, waits),
        }
        found = in_turns(columns, options.rounds)
    times = [statistics.median(found[column]) for column in ("bare", "loop")]
    over_bare = median_ratio(found["bare"], found["loop"])
    return Rates(1 / times[0], 1 / times[1], over_bare, statistics.median(waits[1:]))


def loop_step(run: Run, state: TrainState, maker: BatchMaker[int, Batch], workers: int, waits: list[float]) -> float:
    """Seconds a step of the whole loop; appends the share of them that was spent waiting for data."""
    state.step, times = 0, Times(run.job.device, run.total_steps)
    runtime = RuntimeConfig(workers=workers)
    with loading(maker, range(run.total_steps), runtime, run.job.device) as batches, redirect_stderr(io.StringIO()):
        fit(run, state, times.noting(batches), OBJECTIVE, StopRequest())
    waits.append(times.waited / (times.end - times.begin))
    return (times.end - times.begin) / (run.total_steps - 2)


class Times:
    """From when the second batch is asked for until the last one is: what starts and ends a run is left out."""

    def __init__(self, device: torch.device, steps: int) -> None:
        self.device, self.steps = device, steps
        self.begin = self.end = self.waited = 0.0

    def noting(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches as they come."""
        for number in range(self.steps):
            if number in (1, self.steps - 1) and self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            asked = time.perf_counter()
            batch = next(batches)
            if number == 1:
                self.begin = asked
            if 1 <= number < self.steps - 1:
                self.waited += time.perf_counter() - asked
            self.end = asked
            yield batch


def print_table(rates: dict[str, Figures], options: argparse.Namespace) -> None:
    """Steps a second, and their ratio."""
    print(f"batches of {options.batch} views of {options.size} pixels")
    print("\n| student | bare steps/s | loop, steps/s | loop over bare | waiting for data |\n|---|---|---|---|---|")
    for name, found in rates.items():
        each = Rates(**found)
        print(f"| {name} | {each.bare:.3f} | {each.loop:.3f} | {each.over_bare:.3f} | {each.data_wait:.1%} |")


if __name__ == "__main__":
    main()
