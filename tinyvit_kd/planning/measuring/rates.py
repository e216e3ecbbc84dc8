"""Measures the rates of all parts of a plan on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from tinyvit_kd.config.recipes import DumpConfig, FinetuneConfig, PretrainConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.planning.chain import Planned
from tinyvit_kd.planning.context import Context
from tinyvit_kd.planning.hours import Machine
from tinyvit_kd.planning.measuring.networks import student_rate, teacher_rate
from tinyvit_kd.planning.measuring.stopwatch import Rate
from tinyvit_kd.planning.measuring.views import views_rate
from tinyvit_kd.planning.measuring.writing import writing_rate
from tinyvit_kd.planning.plan import Plan
from tinyvit_kd.runtime.distributed import Job, start_job
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.wording import counted


@dataclass
class MeasuredRates:
    """Rates of this machine.

    Attributes:
        rates: in the units of ``given.PARTS``, by recipe and part.
        rounds: how they were measured, likewise.
        place: the device that networks ran on, for people.
        machines: what a run has here, by recipe.
    """

    rates: dict[str, dict[str, float]] = field(default_factory=dict)
    rounds: dict[str, dict[str, Rate]] = field(default_factory=dict)
    place: str = ""
    machines: dict[str, Machine] = field(default_factory=dict)

    def add(self, planned: Planned, part: str, rate: Rate) -> None:
        """Note one rate."""
        self.rates.setdefault(planned.path, {})[part] = rate.per_second
        self.rounds.setdefault(planned.path, {})[part] = rate


def measure(plan: Plan) -> MeasuredRates:
    """Time a few real batches of each part of a plan, one part at a time.

    What cannot be measured, because a recipe is wrong or its images are not there, is left out.
    """
    context, found = plan.context, MeasuredRates()
    for planned in context.chain.ordered:
        config = planned.config
        with start_job(config.runtime.device, config.runtime.threads, independent=True, runtime=config.runtime) as job:
            found.machines[planned.path] = machine_of(config.runtime, job)
            for part, work in _parts(planned, context, job).items():
                with saying(f"measuring {part} of {planned.stage}"), context.findings.checking(planned.path):
                    found.add(planned, part, work())
            found.place = torch.cuda.get_device_name(job.device) if job.device.type == "cuda" else _cpu(found, planned)
    return found


def _cpu(found: MeasuredRates, planned: Planned) -> str:
    machine = found.machines[planned.path]
    return f"{counted(machine.shared or 1, 'core')}, {counted(machine.threads, 'computing thread')}, no GPU"


def machine_of(runtime: RuntimeConfig, job: Job) -> Machine:
    """What a run of one process has here."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if job.device.type == "cuda":
        return Machine(cores=cores)
    return Machine(cores=cores, shared=cores, threads=runtime.threads or torch.get_num_threads())


def _parts(planned: Planned, context: Context, job: Job) -> dict[str, Callable[[], Rate]]:
    """What can be measured of a recipe, by part."""
    parts: dict[str, Callable[[], Rate]] = {}
    config, images = planned.config, context.found_images.get(planned)
    spec, together = _views(planned, context)
    if images is not None and images.exists and spec is not None:
        shards = images.shards
        parts["views"] = lambda: views_rate(shards, spec, together)
    if isinstance(config, DumpConfig) and (teacher := context.teachers.get(planned)) is not None:
        facts = teacher.facts
        length = 2048 if images is None else int(images.shards.lengths.max())
        parts["teacher"] = lambda: teacher_rate(config, teacher, job)
        if config.store.topk <= facts.num_classes:
            parts["write"] = lambda: writing_rate(config, facts, length)
    task, student = context.tasks.get(planned), context.students.get(planned)
    if isinstance(config, PretrainConfig | FinetuneConfig) and task is not None and student is not None:
        processes = context.assumptions.processes
        parts["student"] = lambda: student_rate(config, student, task, job, processes)
    return parts


def _views(planned: Planned, context: Context) -> tuple[ViewSpec | None, int]:
    """What a recipe's views are, and how many are made of one decode."""
    config = planned.config
    if isinstance(config, DumpConfig):
        facts = context.stores.get(planned)
        spec = config.views if facts is None else facts.spec
        return spec, 1 if spec.mixes else min(config.views_per_decode, config.store.views)
    task = context.tasks.get(planned)
    if task is None or not isinstance(config, PretrainConfig | FinetuneConfig):
        return None, 1
    return task.spec, config.schedule.views_per_sample
