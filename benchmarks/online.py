"""What do stored targets save? A step of stage two over one with the teacher in the loop.

Command:  python -m benchmarks.online [--views real --photos FOLDER] [--device cuda] [--batches 128 256]
Result:   a table of a step's milliseconds and peak memory, and a last line of JSON.

Stored: ``train_step`` with stage two's objective. Online: timm's ``LogitDistillationTask`` for the same student,
normalisation, autocast, clipping and optimiser; on a GPU also with the teacher's weights in bfloat16, and ratios are to
the better of the two. Labels: the student's step with a cross-entropy to labels and nothing else, the bare limit.
All work on the same resident batch, in turns, on one student. Memory is what a process of its own allocates at most on
the GPU, where there is one, and else the most that it is resident with, libraries included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.arguments import parse, parser
from benchmarks.feeding import resident_views
from benchmarks.machine import describe
from benchmarks.memory import peak_mib
from benchmarks.networks import random_network, student_run, student_state
from benchmarks.timing import interleaved
from tinyvit_kd.config.training import DistillLossConfig
from tinyvit_kd.models.teacher import topk_probs
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
        "batches": [128, 256],
        "steps": 10,
    },
}
STEPS_FOR_MEMORY = 3  # from the second on the optimiser's moments are there
Columns = dict[str, float]
Figures = dict[str, Columns]  # of each student at each batch
MemoryOf = Callable[[list[str], str, int, torch.device], Columns]


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
        cases = [(student, batch) for student in options.students for batch in options.batches]
        memory = {name_of(*case): memory_of(given, *case, job.device) for case in cases}
        times = {name_of(*case): times_of(options, *case, job) for case in cases}
        print_table(times, memory)
        print(json.dumps(result_of(options, job, times, memory)))


def _parser() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument("--teacher", help="timm's name; its weights are random")
    made.add_argument("--students", nargs="+", help="timm's names")
    made.add_argument("--batches", nargs="+", type=int, help="views a step")
    made.add_argument("--steps", type=int, help="of a round")
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
        self.run = student_run(self.state, batch, job, Path(tempfile.gettempdir()))
        self.forward = student_forward(self.run, self.state)
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
            LABELS: lambda: self.step(lambda images: F.cross_entropy(self.state.model(images), self.labels)),
        }

    @cached_property
    def batch(self) -> Batch:
        """Views and targets as stage two gets them, of a teacher with a spread."""
        logits = 3 * torch.randn((self.size, self.options.classes), generator=torch.Generator().manual_seed(0))
        indices, probs, residual = topk_probs(logits, self.options.topk)
        tensors = {"views": resident_views(self.options, self.size), "weights": torch.ones(self.size)}
        tensors |= {"indices": indices, "probs": probs, "residual": residual}
        return Batch.of({name: tensor.to(self.device) for name, tensor in tensors.items()})

    @cached_property
    def labels(self) -> torch.Tensor:
        """Labels of the views: int64 [B]."""
        generator = torch.Generator().manual_seed(1)
        return torch.randint(self.options.classes, (self.size,), generator=generator).to(self.device)

    @cached_property
    def task(self) -> nn.Module:
        """timm's online distillation, with weights in float32 under autocast, as its training script has them."""
        return self._task(torch.float32)

    @cached_property
    def low_task(self) -> nn.Module:
        """The same with the teacher's weights in bfloat16, which spares their conversion in every step."""
        return self._task(torch.bfloat16)

    def _task(self, precision: torch.dtype) -> nn.Module:
        from timm.task import LogitDistillationTask  # timm has it from 1.0.23 on

        options = self.options
        teacher = random_network(options.teacher, options.classes, options.size).requires_grad_(False)
        task: nn.Module = LogitDistillationTask(
            self.state.model,
            move_to_device(teacher, self.device, channels_last=True).to(precision),
            criterion=nn.CrossEntropyLoss(),
            task_loss_weight=0.0,  # the other term is that of the teacher
            device=self.device,
            verbose=False,
        )
        return task.train()

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
    return {name: 1000 * seconds / options.steps for name, seconds in found.items()}


def several(step: Callable[[], object], steps: int) -> Callable[[], None]:
    """So many steps as one."""

    def work() -> None:
        for _ in range(steps):
            step()

    return work


def peak_memory(given: list[str], student: str, batch: int, device: torch.device) -> Columns:
    """Peak MiB of a few steps, by column."""
    return {name: memory_of_column(given, student, batch, name) for name in columns_on(device)}


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


def print_table(times: Figures, memory: Figures) -> None:
    """Milliseconds and MiB of every column, with stored over online."""
    names = list(next(iter(times.values())))
    print("| ms a step; peak MiB | " + " | ".join(names) + " | stored over online |")
    print("|---" * (len(names) + 2) + "|")
    for row, found in times.items():
        cells = [f"{found[name]:.0f}; {memory[row][name]:.0f}" for name in names]
        print(f"| {row} | " + " | ".join(cells) + f" | {ratio(found):.3f}; {ratio(memory[row]):.3f} |")


def result_of(options: argparse.Namespace, job: Job, times: Figures, memory: Figures) -> dict[str, object]:
    """What the last line says."""
    told = ("teacher", "classes", "topk", "size", "views", "steps", "rounds", "threads")
    return {
        "machine": describe(),
        "device": job.device.type,
        **{name: getattr(options, name) for name in told},
        "step_time_ratio": max(ratio(found) for found in times.values()),
        "memory_ratio": max(ratio(found) for found in memory.values()),
        "step_time_ratios": {row: ratio(found) for row, found in times.items()},
        "memory_ratios": {row: ratio(found) for row, found in memory.items()},
        "step_over_labels_alone": {row: round(found[STORED] / found[LABELS], 3) for row, found in times.items()},
        "milliseconds": rounded(times),
        "peak_mib": rounded(memory),
    }


def rounded(figures: Figures) -> Figures:
    """To a tenth."""
    return {row: {name: round(value, 1) for name, value in found.items()} for row, found in figures.items()}


if __name__ == "__main__":
    main()
