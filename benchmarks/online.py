"""What do stored targets save? A step of stage two over one with the teacher in the loop.

Command:  python -m benchmarks.online [--views real --photos FOLDER] [--device cuda] [--batches 128 256]
          [--precision bfloat16] [--compile] [--results FILE] [--tiny]
Result:   a table of a step's milliseconds and peak memory, and a last line of JSON.

Stored: ``train_step`` with stage two's objective. Online: timm's ``LogitDistillationTask`` for the same student,
normalisation, autocast, clipping and optimiser; on a GPU also with the teacher's weights in bfloat16, and ratios are to
the better of the two. Labels: the student's step with a cross-entropy to labels and nothing else, the bare limit.
All work on the same resident batch, in turns, on one student; with --compile, student and teachers are compiled. Memory
is what a column allocates at most on the GPU, where there is one; on the CPU, the most that a process of its own is
resident with, libraries included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.arguments import parse, parser
from benchmarks.cases import Cases, Figures, release
from benchmarks.feeding import random_labels, resident_batch
from benchmarks.logit_task import logit_task
from benchmarks.memory import peak_mib
from benchmarks.networks import (
    compile_or_refuse,
    random_network,
    require_compiling,
    student_run,
    student_state,
)
from benchmarks.timing import interleaved, seconds, several
from tinyvit_kd.config.training import DistillLossConfig
from tinyvit_kd.runtime.device import move_to_device
from tinyvit_kd.runtime.distributed import Job, start_job
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.loop import train_step
from tinyvit_kd.training.objectives import DistillObjective
from tinyvit_kd.training.student_forward import student_forward

STORED, ONLINE, LOW, LABELS = (
    "stored targets",
    "teacher in the loop",
    "teacher in the loop, in bfloat16",
    "labels alone",
)
DEFAULTS: dict[str, dict[str, Any]] = {
    "cpu": {"teacher": "vit_small_patch16_224", "students": ["tiny_vit_5m_224"], "batches": [8, 16], "steps": 1},
    "cuda": {
        "teacher": "vit_large_patch14_clip_224",
        "students": ["tiny_vit_21m_224", "tiny_vit_5m_224"],
        "batches": [256, 128],
        "steps": 5,
    },
    "tiny": {"teacher": "resnet10t", "students": ["resnet10t"], "batches": [2], "steps": 1},
}
STEPS_FOR_MEMORY = 3  # from the second on the optimiser's moments are there
SHARED = ("classes", "topk", "size", "views", "rounds", "threads")
SETTINGS = ("teacher", "students", "batches", "steps", "precision", "compile", *SHARED)
Columns = dict[str, float]
MemoryOf = Callable[[list[str], argparse.Namespace, str, int, Job], Columns]


def main(arguments: Sequence[str] | None = None, memory_of: MemoryOf | None = None) -> None:
    """Parse the arguments, measure, print.

    Args:
        arguments: of the command line; None: those of this process.
        memory_of: what measures memory; None: ``peak_memory``.
    """
    memory_of = memory_of or peak_memory
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parse(_parser(), given, DEFAULTS)
    with start_job(options.device, options.threads) as job:
        if options.memory_of is not None:
            print(memory_here(options, job))
            return
        settings = {name: getattr(options, name) for name in SETTINGS}
        cases = Cases(settings, job.device, options.results, summary)
        for batch, student in product(options.batches, options.students):
            cases.run(name_of(student, batch), partial(measure, given, options, student, batch, job, memory_of))
    print_table(cases.done)
    cases.end()


def _parser() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument("--teacher", help="timm's name; its weights are random")
    made.add_argument("--students", nargs="+", help="timm's names")
    made.add_argument("--batches", nargs="+", type=int, help="views a step")
    made.add_argument("--steps", type=int, help="of a round")
    made.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="of autocast")
    made.add_argument("--compile", action="store_true", help="compile student and teachers")
    made.add_argument("--memory-of", help="print the peak memory of this column in MiB, and nothing else")
    return made


def name_of(student: str, batch: int) -> str:
    """The name of a row."""
    return f"{student}, batch {batch}"


class Subject:
    """One student's steps, by column, at one batch."""

    def __init__(self, options: argparse.Namespace, job: Job, student: str, batch: int) -> None:
        self.options, self.device, self.size = options, job.device, batch
        self.state = student_state(student, options.classes, options.size, batch, job.device)
        folder = Path(tempfile.gettempdir())  # nothing is written to it
        if options.compile:
            require_compiling(job)
        self.run = student_run(self.state, batch, job, folder, precision=options.precision, compiled=options.compile)
        self.forward = student_forward(self.run, self.state)
        self.network: Any = torch.compile(self.state.model) if options.compile else self.state.model  # of other steps
        self.objective = DistillObjective(DistillLossConfig())

    @property
    def columns(self) -> dict[str, Callable[[], object]]:
        """The steps that are compared on this device."""
        return {name: self.steps[name] for name in columns_on(self.device)}

    @property
    def steps(self) -> dict[str, Callable[[], object]]:
        """Each makes one step."""
        return {
            STORED: lambda: train_step(self.run, self.state, self.forward, self.batch, self.objective),
            ONLINE: lambda: self.online(self.task),
            LOW: lambda: self.online(self.low_task),
            LABELS: lambda: self.step(lambda images: F.cross_entropy(self.network(images), self.labels)),
        }

    @cached_property
    def batch(self) -> Batch:
        """Views and targets as stage two gets them, of a teacher with a spread."""
        return resident_batch(self.options, self.size, self.device)

    @cached_property
    def labels(self) -> torch.Tensor:
        """Labels of the views: int64 [B]."""
        return random_labels(self.options.classes, self.size, self.device)

    @cached_property
    def task(self) -> nn.Module:
        """timm's online distillation, with weights in float32 under autocast, as its training script has them."""
        return self._task(torch.float32)

    @cached_property
    def low_task(self) -> nn.Module:
        """The same with the teacher's weights in bfloat16, which spares their conversion in every step."""
        return self._task(torch.bfloat16)

    def _task(self, precision: torch.dtype) -> nn.Module:
        options = self.options
        teacher = random_network(options.teacher, options.classes, options.size).eval()
        teacher = move_to_device(teacher, self.device, channels_last=True).to(precision)
        if options.compile:
            compile_or_refuse(teacher, self.run.job)
        return logit_task(self.network, teacher, self.device)

    def online(self, task: nn.Module) -> None:
        """A step with the teacher in the loop."""
        self.step(lambda images: task(images, self.labels)["loss"])

    def step(self, loss_of: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """A plain step of a loss of the student's input."""
        self.run.set_rates(self.state.step)
        with self.run.autocast():
            loss = loss_of(self.run.normalize(self.batch.views))
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.state.model.parameters(), self.run.clip_grad or 0)
        self.state.optimizer.step()
        self.state.optimizer.zero_grad(set_to_none=True)


def columns_on(device: torch.device) -> list[str]:
    """Names of the columns; on the CPU there is no autocast that other weights could spare."""
    return [STORED, ONLINE, LOW, LABELS] if device.type == "cuda" else [STORED, ONLINE, LABELS]


def times_of(options: argparse.Namespace, student: str, batch: int, job: Job) -> Columns:
    """Milliseconds of a step, by column."""
    columns = Subject(options, job, student, batch).columns
    found = interleaved(
        {name: several(step, options.steps) for name, step in columns.items()}, options.rounds, job.device
    )
    return {name: 1000 * each / options.steps for name, each in found.items()}


def measure(
    given: list[str], options: argparse.Namespace, student: str, batch: int, job: Job, memory_of: MemoryOf
) -> Figures:
    """A row's figures."""
    memory = memory_of(given, options, student, batch, job)
    times = times_of(options, student, batch, job)
    return {
        "step_time_ratio": ratio(times),
        "memory_ratio": ratio(memory),
        "step_over_labels_alone": round(times[STORED] / times[LABELS], 3),
        "milliseconds": {name: round(value, 1) for name, value in times.items()},
        "peak_mib": {name: round(value, 1) for name, value in memory.items()},
    }


def peak_memory(given: list[str], options: argparse.Namespace, student: str, batch: int, job: Job) -> Columns:
    """Peak MiB of a few steps, by column. A tiny run on the CPU starts no processes, and so says nothing of memory."""
    if job.device.type == "cuda" or options.tiny:
        return {name: memory_in_turn(options, student, batch, name, job) for name in columns_on(job.device)}
    return {name: memory_of_column(given, student, batch, name) for name in columns_on(job.device)}


def memory_in_turn(options: argparse.Namespace, student: str, batch: int, name: str, job: Job) -> float:
    """Peak MiB of this process while a column takes a few steps; on a GPU, what the column itself allocates."""
    release(job.device)
    others = torch.cuda.memory_allocated(job.device) if job.device.type == "cuda" else 0
    seconds(several(Subject(options, job, student, batch).columns[name], STEPS_FOR_MEMORY), job.device)
    return peak_mib(job.device) - others / 2**20


def memory_of_column(given: list[str], student: str, batch: int, name: str) -> float:
    """Peak MiB of a few steps of one column, in a process of its own."""
    case = ["--students", student, "--batches", str(batch), "--memory-of", name]
    command = [sys.executable, "-m", "benchmarks.online", *given, *case]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def memory_here(options: argparse.Namespace, job: Job) -> float:
    """Peak MiB of this process after a few steps of the column that was asked for."""
    step = Subject(options, job, options.students[0], options.batches[0]).columns[options.memory_of]
    several(step, STEPS_FOR_MEMORY)()
    return peak_mib(job.device)


def ratio(figures: Columns) -> float:
    """Stored targets over the better one of the teachers in the loop."""
    return round(figures[STORED] / min(figures[name] for name in (ONLINE, LOW) if name in figures), 3)


def print_table(rows: dict[str, Figures]) -> None:
    """Milliseconds and MiB of every column, with stored over online."""
    names = list(next(iter(rows.values()))["milliseconds"]) if rows else []
    print("| ms a step; peak MiB | " + " | ".join(names) + " | stored over online |")
    print("|---" * (len(names) + 2) + "|")
    for row, found in rows.items():
        cells = [f"{found['milliseconds'][name]:.0f}; {found['peak_mib'][name]:.0f}" for name in names]
        print(f"| {row} | " + " | ".join(cells) + f" | {found['step_time_ratio']:.3f}; {found['memory_ratio']:.3f} |")


def summary(done: dict[str, Figures]) -> dict[str, Any]:
    """Stored over online, in time and memory: the largest, and each row's."""
    by_row = {name: {row: found[name] for row, found in done.items()} for name in ("step_time_ratio", "memory_ratio")}
    return {
        **{name: max(found.values(), default=None) for name, found in by_row.items()},
        **{f"{name}s": found for name, found in by_row.items()},
        "step_over_labels_alone": {row: found["step_over_labels_alone"] for row, found in done.items()},
    }


if __name__ == "__main__":
    main()
