"""What does the training loop cost beside forward, backward and step?

Command:  python -m benchmarks.loop [--photos FOLDER] [--students tiny_vit_5m_224 deit_tiny_patch16_224] [--batch 32]
Result:   a table of optimiser steps a second, and a last line of JSON.

Bare: forward, sparse loss, backward, optimiser step on one batch that lies on the device. The loop:
``training.loop.fit`` as stage two runs it, with loader, copies to the device, clipping, meters and log lines, timed
from its second step to its last. With --photos the views are real ones, replayed from a store with made-up
probabilities, and digests are compared; without, they cost nothing, so that what is seen is the loop's own. Rounds are
interleaved.

On a CPU the network gets --threads threads and the loading process what is left.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.loader import stored_batches
from benchmarks.machine import describe
from benchmarks.stores import made_up_store
from benchmarks.students import SyntheticBatches, new_run, new_state
from benchmarks.timing import in_turns, seconds
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.config.views import ViewSpec
from tinyvit_kd.data.buffers import Maker
from tinyvit_kd.data.loader import loading
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.runtime.batch import Batch
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.signals import StopRequest
from tinyvit_kd.stages.pretrain import soft_objective
from tinyvit_kd.training.loop import Run, fit
from tinyvit_kd.training.loss import soft_loss
from tinyvit_kd.training.state import State

STUDENTS = ("tiny_vit_5m_224", "deit_tiny_patch16_224")
TOPK, CLASSES = 100, 21841
SETTINGS = ("batch", "size", "steps", "rounds", "precision", "workers", "threads", "compile")
OBJECTIVE = partial(soft_objective, 1.0)


class Rates(NamedTuple):
    """What one student came to."""

    bare: float  # steps/s
    loop: float  # steps/s
    data_wait: float  # share of the loop's time


def main() -> None:
    """Parse the arguments, time, print."""
    options = parse()
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    job = Job(0, 1, torch.device(device if options.device == "auto" else options.device))
    with tempfile.TemporaryDirectory() as folder:
        maker = batches_of(options, Path(folder))
        rates = {name: measure(name, maker, options, job, Path(folder)) for name in options.students}
    print_table(rates, options)
    over = {name: round(each.loop / each.bare, 4) for name, each in rates.items()}
    settings = {name: getattr(options, name) for name in SETTINGS}
    result = {
        "machine": describe(),
        "device": str(job.device),
        **settings,
        "views": "synthetic" if options.photos is None else "real",
        "over_bare_step": min(over.values()),
        "over_bare_step_by_student": over,
        "students": {name: each._asdict() for name, each in rates.items()},
    }
    print(json.dumps(result))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of a shard set; without it views cost nothing")
    parser.add_argument("--split", default="train")
    parser.add_argument("--students", nargs="+", default=STUDENTS, help="timm models")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=8, help="of each timing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of the network, on a CPU")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


def batches_of(options: argparse.Namespace, folder: Path) -> Maker[int, Batch]:
    """Stage two's batches: real views of photos, or views that cost nothing."""
    if options.photos is None:
        return SyntheticBatches(options.batch, options.size, TOPK, CLASSES)
    shards = ShardSet.load(options.photos, options.split, index_dir=folder / "indexes")
    store = made_up_store(folder / "store", shards, ViewSpec(size=options.size), TOPK, CLASSES, views=1)
    return stored_batches(shards, store, options.batch, lanes=min(8, options.batch))


def measure(name: str, maker: Maker[int, Batch], options: argparse.Namespace, job: Job, folder: Path) -> Rates:
    """One student's rates: medians of the rounds."""
    state, waits = new_state(name, CLASSES, options.size, job.device), list[float]()
    run = new_run(state, job, folder / name, options.steps, options.batch, options.precision, options.compile)
    with loading(maker, range(1), RuntimeConfig(workers=0), job.device) as batches:
        batch = next(batches)
        columns: dict[str, Callable[[], float]] = {
            "bare": lambda: seconds(partial(bare_steps, run, state, batch), job.device) / options.steps,
            "loop": lambda: loop_step(run, state, maker, options.workers, waits),
        }
        found = {column: statistics.median(each) for column, each in in_turns(columns, options.rounds).items()}
    return Rates(1 / found["bare"], 1 / found["loop"], statistics.median(waits[1:]))


def bare_steps(run: Run, state: State, batch: Batch) -> None:
    """Forward, loss, backward, optimiser step, and nothing else."""
    assert batch.targets is not None
    for _ in range(run.total_steps):
        with run.autocast():
            logits = state.model(run.normalize(batch.views))
        soft_loss(logits, *batch.targets, batch.weights).backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)


def loop_step(run: Run, state: State, maker: Maker[int, Batch], workers: int, waits: list[float]) -> float:
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


def print_table(rates: dict[str, Rates], options: argparse.Namespace) -> None:
    """Steps a second, and their ratio."""
    print(f"batches of {options.batch} views of {options.size} pixels")
    print("\n| student | bare steps/s | loop, steps/s | loop over bare | waiting for data |\n|---|---|---|---|---|")
    for name, each in rates.items():
        ratio = each.loop / each.bare
        print(f"| {name} | {each.bare:.3f} | {each.loop:.3f} | {ratio:.3f} | {each.data_wait:.1%} |")


if __name__ == "__main__":
    main()
