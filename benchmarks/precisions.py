"""Which precision should a teacher run in? Its speed in each, and what becomes of its probabilities.

Command:  python -m benchmarks.precisions [--teachers NAME …] [--checkpoint FILE] [--views real --photos FOLDER]
          [--batch B] [--precisions float16 …] [--compile | --no-compile] [--results FILE] [--tiny]
Result:   a table for each teacher, a row for each precision, with --compile compiled as well; a last line of JSON.

A row is a teacher as stage one builds it (autocast over weights in float32), with the top K of its answers, on a
resident batch; eager rows take turns, compiled ones come later, one by one. Their answers are compared with those that
the same network gives in float32, eager, with TF32 turned off, to the same views: the largest and the mean difference
of its K largest probabilities, the Kullback-Leibler divergence over all C classes, and how many best classes are kept.

Weights are random under timm's names. Random networks answer nearly alike for all classes, so their heads are scaled
until the best class has a probability of 0.7 in the mean, as it has with a trained teacher. That serves to compare
precisions; how much of a trained teacher's answers is kept, its own weights tell: --checkpoint has them (--teachers
then names the network, and C is its own), best with real views.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from timm.data import resolve_model_data_config
from torch import nn

from benchmarks.agreement import agreement, scale_head, spreading_scale
from benchmarks.arguments import PRECISIONS, parse, parser
from benchmarks.cases import Cases, Figures
from benchmarks.feeding import resident_views
from benchmarks.networks import random_network, require_compiling
from benchmarks.timing import in_turns, seconds, several
from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.models.teacher import Teacher, TeacherFacts, build_teacher, topk_probs
from tinyvit_kd.runtime.compiling import Compiler
from tinyvit_kd.runtime.distributed import Job, start_job

CPU = torch.device("cpu")
DEFAULTS: dict[str, dict[str, Any]] = {
    "cpu": {"teachers": ["vit_tiny_patch16_224", "convnext_atto"], "batch": 16, "steps": 1, "compile": False},
    "cuda": {"teachers": ["vit_large_patch14_clip_224", "convnext_base"], "batch": 128, "steps": 4, "compile": True},
    "tiny": {"teachers": ["vit_tiny_patch16_224", "convnext_atto"], "batch": 4, "steps": 1, "compile": False},
}
SHARED = ("classes", "topk", "size", "views", "rounds", "threads")
SETTINGS = ("teachers", "batch", "steps", "precisions", "compile", *SHARED)
WARM_UP = 2  # passes
Pass = Callable[[], object]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, time, compare, print."""
    given = _parser()
    options = parse(given, arguments, DEFAULTS)
    if options.checkpoint is not None and len(options.teachers) != 1:
        given.error("--checkpoint needs --teachers with the one name of its network")
    with start_job(options.device, options.threads) as job:
        settings = {name: getattr(options, name) for name in SETTINGS}
        settings["weights"] = "random, head scaled" if options.checkpoint is None else options.checkpoint.name
        cases = Cases(settings, job.device, options.results, summary)
        for case in in_order(options):
            found = cases.run(case.name, partial(measure, case, options, job, cases))
            if found is not None:
                best, classes = found["mean_best_probability"], found["best_classes"]
                print(f"{case.name}: the best class has {best:.2f} in the mean; {classes} classes are best", flush=True)
    for name in options.teachers:
        print_table(name, rows_of(name, cases.done))
    cases.end()


def _parser() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument("--teachers", nargs="+", help="timm's names")
    made.add_argument("--checkpoint", type=Path, help="weights of the one teacher; none: random ones")
    made.add_argument("--batch", type=int)
    made.add_argument("--steps", type=int, help="forward passes of each timing")
    made.add_argument("--precisions", nargs="+", choices=PRECISIONS[1:], default=["float16", "bfloat16", "float32"])
    made.add_argument("--compile", action=argparse.BooleanOptionalAction, help="once more with the teacher compiled")
    return made


class Case(NamedTuple):
    """What is timed in turns: a teacher in some precisions."""

    teacher: str
    precisions: tuple[str, ...]
    compiled: bool

    @property
    def name(self) -> str:
        """For people and results."""
        return f"{self.teacher}, compiled, {self.precisions[0]}" if self.compiled else f"{self.teacher}, eager"

    def row(self, precision: str) -> str:
        """The name of a row."""
        return f"{precision}, {'compiled' if self.compiled else 'eager'}"


def in_order(options: argparse.Namespace) -> list[Case]:
    """Eager teachers first, in all precisions; then compiled ones, a precision at a time, since that takes a while."""
    eager = [Case(teacher, tuple(options.precisions), False) for teacher in options.teachers]
    compiled = product(options.precisions, options.teachers) if options.compile else ()
    return eager + [Case(teacher, (precision,), True) for precision, teacher in compiled]


def measure(case: Case, options: argparse.Namespace, job: Job, cases: Cases) -> Figures:
    """A case's rows; one that fails is left out.

    Raises:
        RuntimeError: all of them failed.
    """
    network, facts = network_of(case.teacher, options)
    views = resident_views(options, options.batch).to(job.device)
    reference = reference_logits(network, facts, views, job.device)
    scale = 1.0
    if options.checkpoint is None:
        scale = spreading_scale(reference)
        scale_head(network, scale)
        reference = reference_logits(network, facts, views, job.device)
    passes, rows = dict[str, Pass](), dict[str, Figures]()
    for precision in case.precisions:
        row = case.row(precision)
        work = partial(warm_up, network, facts, precision, case.compiled, views, reference, options.topk, job)
        built = cases.attempt(f"{case.teacher}: {row}", work)
        if built is not None:
            passes[row], rows[row] = built
    if not passes:
        raise RuntimeError("the teacher runs in none of the precisions")
    times = {row: partial(timing, each, options.steps, job.device) for row, each in passes.items()}
    found = {row: statistics.median(seconds) for row, seconds in in_turns(times, options.rounds).items()}
    best = reference.softmax(dim=1)
    return {
        "teacher": case.teacher,
        "head_scaled_by": scale,
        "mean_best_probability": round(best.amax(dim=1).mean().item(), 4),
        "best_classes": len(set(best.argmax(dim=1).tolist())),
        "rows": {row: {"views_per_second": round(options.batch / found[row], 1), **rows[row]} for row in rows},
    }


def network_of(name: str, options: argparse.Namespace) -> tuple[nn.Module, TeacherFacts]:
    """A teacher's network on the CPU, and what is known of it."""
    if options.checkpoint is not None:
        built = build_teacher(TeacherConfig(name=name, checkpoint=options.checkpoint), CPU, "float32")
        return built.network, built.facts
    network = random_network(name, options.classes, options.size)
    data = resolve_model_data_config(network)
    facts = TeacherFacts(
        name=name, num_classes=options.classes, image_size=options.size, mean=data["mean"], std=data["std"]
    )
    return network, facts


def reference_logits(
    network: nn.Module, facts: TeacherFacts, views: torch.Tensor, device: torch.device
) -> torch.Tensor:
    """Logits [B, C] in float32, for matrix products and convolutions alike."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.inference_mode():
            logits: torch.Tensor = Teacher(deepcopy(network), facts, device, "float32")(views)
        return logits
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def warm_up(
    network: nn.Module,
    facts: TeacherFacts,
    precision: str,
    compiled: bool,
    views: torch.Tensor,
    reference: torch.Tensor,
    topk: int,
    job: Job,
) -> tuple[Pass, Figures]:
    """A teacher of its own, which has answered a few times; its peak memory, and how its answers compare.

    Raises:
        RuntimeError: it is to be compiled, and torch.compile does not work here.
    """
    on_gpu = job.device.type == "cuda"
    others = torch.cuda.memory_allocated(job.device) - views.numel() if on_gpu else 0
    if compiled:
        require_compiling(job)
    teacher = Teacher(deepcopy(network), facts, job.device, precision, compiler=Compiler(job, compiled))

    def answer() -> None:
        with teacher.compiler.without_gradients():
            topk_probs(teacher(views), topk)

    if on_gpu:
        torch.cuda.reset_peak_memory_stats(job.device)
    seconds(several(answer, WARM_UP), job.device)
    peak = round((torch.cuda.max_memory_allocated(job.device) - others) / 2**20) if on_gpu else None
    with teacher.compiler.without_gradients():
        compared = agreement(teacher(views), reference, topk)
    return answer, {"peak_mib": peak, **compared._asdict()}


def timing(answer: Pass, steps: int, device: torch.device) -> float:
    """Seconds of a pass."""
    return seconds(several(answer, steps), device) / steps


def rows_of(teacher: str, done: dict[str, Figures]) -> dict[str, Figures]:
    """All rows of a teacher, each with its share of the fastest one's rate."""
    rows = {row: each for found in done.values() if found["teacher"] == teacher for row, each in found["rows"].items()}
    fastest = max((each["views_per_second"] for each in rows.values()), default=0.0)
    return {
        row: each | {"share_of_the_fastest": round(each["views_per_second"] / fastest, 4)} for row, each in rows.items()
    }


def summary(done: dict[str, Figures]) -> dict[str, Any]:
    """For each teacher, by precision: the share of the fastest, the rate over eager float32's, best classes kept."""
    told: dict[str, dict[str, Any]] = {"share_of_the_fastest": {}, "rate_over_float32_eager": {}, "top1_kept": {}}
    for teacher in dict.fromkeys(found["teacher"] for found in done.values()):
        rows = rows_of(teacher, done)
        rates = {row: each["views_per_second"] for row, each in rows.items()}
        told["share_of_the_fastest"][teacher] = {row: each["share_of_the_fastest"] for row, each in rows.items()}
        told["top1_kept"][teacher] = {row: round(each["top1_kept"], 4) for row, each in rows.items()}
        if "float32, eager" in rates:
            over = {row: round(rate / rates["float32, eager"], 3) for row, rate in rates.items()}
            told["rate_over_float32_eager"][teacher] = over
    return told


def print_table(teacher: str, rows: dict[str, Figures]) -> None:
    """A teacher's rows."""
    head = "views/s | of the fastest | MiB | max Δp | mean Δp | KL | top-1 kept |"
    print(f"\n| {teacher} | {head}\n|---|---|---|---|---|---|---|---|")
    for row, each in rows.items():
        mib = "–" if each["peak_mib"] is None else each["peak_mib"]
        print(
            f"| {row} | {each['views_per_second']:,.1f} | {each['share_of_the_fastest']:.2f} | {mib} "
            f"| {each['max_difference']:.1e} | {each['mean_difference']:.1e} | {each['kl']:.1e} "
            f"| {each['top1_kept']:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
