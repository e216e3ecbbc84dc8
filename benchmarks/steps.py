"""How fast is a training step on this GPU, and how much faster than others'?

Command:  python -m benchmarks.steps [--peer TINYVIT] [--students NAME …] [--batches B …] [--modes eager compiled …]
          [--results FILE] [--tiny]
Result:   a table of images a second, memory and ratios, a row for each student, batch and mode; a last line of JSON.

All work on the same resident batch of bytes at random, in turns, after steps to warm up; ratios are medians of the
rounds' ratios. Columns:

* train_step: what our loop calls, with stage two's objective: K of C classes, clipping, no average of the weights.
* bare step: forward, the same loss, backward, the same optimiser's step, on the same network.
* official step: that of a checkout of the official code (--peer: the folder TinyViT of github.com/microsoft/Cream), see
  ``benchmarks/official.py``; official loop: with the accuracies that its loop brings to the host at every step. It is
  eager in every mode, as it has no other.
* timm's step: its network, AdamW, autocast, cross-entropy to labels; compiled where ours is, in the same memory format.

Both peers let cuDNN try its convolutions, as their scripts do; so do we, but in the mode no-cudnn-benchmark. The mode
graphs is torch.compile with CUDA graphs; planar is eager without channels-last. Cases that are first in their lists
come first, and these three modes last, so that whoever stops it has what is worth most. Compiling each network takes a
minute or so: where ours is compiled, a row is kept before timm's is, from one round. ``seconds_until_warm`` is how long
each took to be built, compiled and run for the first time; what was compiled before is found again. Peak memory is that
of a column alone after warming up: network, optimiser, batch and activations. The utilisation of the device (MFU) is
that of matrix products and convolutions, three forward passes a step, over the most that the device can do in dense
bfloat16.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.arguments import parse, parser
from benchmarks.cases import Cases, Figures
from benchmarks.contenders import (
    BARE,
    MODES,
    OFFICIAL,
    OURS,
    THEIRS,
    TIMM,
    WHOLE,
    Case,
    Steps,
    contenders,
    device_bytes,
    set_benchmark,
)
from benchmarks.feeding import resident_batch
from benchmarks.flops import device_peak, training_flops
from benchmarks.timing import in_turns, median_ratio, seconds, several
from tinyvit_kd.runtime.distributed import Job, start_job
from tinyvit_kd.training.batch import Batch

STUDENTS = ["tiny_vit_21m_224", "tiny_vit_5m_224", "tiny_vit_11m_224", "deit_small_patch16_224"]
DEFAULTS: dict[str, dict[str, Any]] = {
    "cpu": {"students": ["tiny_vit_5m_224"], "batches": [16], "modes": ["eager"], "steps": 1},
    "cuda": {"students": STUDENTS, "batches": [256, 512, 1024, 128], "modes": list(MODES), "steps": 10},
    "tiny": {"students": ["tiny_vit_5m_224", "resnet10t"], "batches": [4], "modes": ["eager"], "steps": 1},
}
SHARED = ("classes", "topk", "size", "views", "rounds", "precision", "threads")
SETTINGS = ("students", "batches", "modes", "steps", *SHARED)
GOAL = 1.5  # over the official step
WARM_UP = 3  # steps of each column; CUDA graphs are recorded in the second
EXTRA = ("graphs", "no-cudnn-benchmark", "planar")
RATIOS = {"over_bare_step": BARE, "over_official": OFFICIAL, "over_official_loop": WHOLE, "over_timm": TIMM}
HEAD = ("", "images/s", "MiB", "MFU", "over bare", "official images/s", "MiB", "over official", "over its loop")
TIMM_HEAD = ("timm images/s", "MiB", "over timm")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, time, print."""
    options = parse(_parser(), arguments, DEFAULTS)
    with start_job(options.device, options.threads) as job:
        settings = {name: getattr(options, name) for name in SETTINGS} | {"peer": options.peer is not None}
        cases = Cases(settings, job.device, options.results, summary)
        print(row([*HEAD, *TIMM_HEAD]) + "\n" + "|---" * len([*HEAD, *TIMM_HEAD]) + "|", flush=True)
        for case in in_order(options.students, options.batches, options.modes):
            found = cases.run(case.name, partial(measure, case, options, job, cases))
            if found is not None:
                print(table_row(case.name, found), flush=True)
    cases.end()


def _parser() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument("--peer", type=Path, help="the folder TinyViT of the official code")
    made.add_argument("--students", nargs="+", help="timm's names")
    made.add_argument("--batches", nargs="+", type=int, help="views a step")
    made.add_argument("--modes", nargs="+", choices=MODES)
    made.add_argument("--steps", type=int, help="of each timing")
    made.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    return made


def in_order(students: Sequence[str], batches: Sequence[int], modes: Sequence[str]) -> list[Case]:
    """All cases, those first that are nearest to the beginnings of the three lists; extra modes last."""

    def rank(case: Case) -> tuple[bool, int]:
        places = students.index(case.student) + batches.index(case.size) + modes.index(case.mode)
        return case.mode in EXTRA, places

    return sorted((Case(*each) for each in product(students, batches, modes)), key=rank)


def measure(case: Case, options: argparse.Namespace, job: Job, cases: Cases) -> Figures:
    """A row's figures; a contender that fails is left out of it.

    Raises:
        RuntimeError: all of them failed.
    """
    batch = resident_batch(options, case.size, job.device)
    steps, peaks, warming = Steps(), dict[str, float | None](), dict[str, float]()
    told = {"seconds_until_warm": warming}
    for name, build in contenders(case, batch, options, job).items():
        if name == THEIRS and steps and case.how.compiled is not None:
            cases.keep(case.name, timed(case, steps, peaks, 1, options, job) | told | {"rounds": 1})
        begin = time.perf_counter()
        built = cases.attempt(f"{case.name}: {name}", partial(warm_up, case, build, batch, job.device))
        if built is not None:
            steps |= built[0]
            peaks |= built[1]
            warming[name] = round(time.perf_counter() - begin, 1)
    if not steps:
        raise RuntimeError("none of the steps runs")
    return timed(case, steps, peaks, options.rounds, options, job) | told


def timed(
    case: Case, steps: Steps, peaks: dict[str, float | None], rounds: int, options: argparse.Namespace, job: Job
) -> Figures:
    """A row's figures, of steps that are warm."""
    benchmark = torch.backends.cudnn.benchmark
    try:
        columns = {name: partial(timing, case, name, step, options.steps, job.device) for name, step in steps.items()}
        found = in_turns(columns, rounds)
    finally:
        torch.backends.cudnn.benchmark = benchmark
    flops, peak = flops_of(case.student, options.classes, options.size), device_peak(job.device)
    return figures(case.size, found, peaks, flops, peak)


@cache
def flops_of(student: str, classes: int, size: int) -> float:
    """Operations of an image, counted once."""
    return training_flops(student, classes, size)


def warm_up(
    case: Case, build: Callable[[], Steps], batch: Batch, device: torch.device
) -> tuple[Steps, dict[str, float | None]]:
    """A contender's steps, each of which has run a few times, and their peak memory in MiB; None on the CPU."""
    on_gpu, peaks = device.type == "cuda", dict[str, float | None]()
    others = torch.cuda.memory_allocated(device) - device_bytes(batch) if on_gpu else 0
    steps = build()
    for name, step in steps.items():
        set_benchmark(name, case.how)
        seconds(several(step, WARM_UP), device)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(device)  # trying convolutions takes memory once
            seconds(step, device)
        peaks[name] = (torch.cuda.max_memory_allocated(device) - others) / 2**20 if on_gpu else None
    return steps, peaks


def timing(case: Case, name: str, step: Callable[[], object], steps: int, device: torch.device) -> float:
    """Seconds of a step."""
    set_benchmark(name, case.how)
    return seconds(several(step, steps), device) / steps


def figures(
    size: int, found: dict[str, list[float]], peaks: dict[str, float | None], flops: float, peak: float | None
) -> Figures:
    """A row, from the seconds of each column's steps in each round.

    Args:
        size: of the batch.
        found: seconds by column, a value for each round.
        peaks: MiB by column.
        flops: operations of an image.
        peak: operations a second of the device; None: not known.
    """
    rates = {name: size / statistics.median(times) for name, times in found.items()}
    ours = found.get(OURS)
    return {
        **{name: round(median_ratio(found[over], ours), 4) for name, over in RATIOS.items() if ours and over in found},
        "mfu": {name: round(rate * flops / peak, 4) for name, rate in rates.items()} if peak else None,
        "images_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "peak_mib": {name: None if mib is None else round(mib) for name, mib in peaks.items()},
        "gflops_per_image": round(flops / 1e9, 3),
        "seconds": found,
    }


def summary(done: dict[str, Figures]) -> dict[str, Any]:
    """Each ratio by case, and the least; utilisation, and seconds until ours was warm, by case."""
    told: dict[str, Any] = {"goal_over_official": GOAL}
    for name in RATIOS:
        by_case = {case: found[name] for case, found in done.items() if name in found}
        told |= {f"least_{name}": min(by_case.values(), default=None), name: by_case}
    warming = {case: found["seconds_until_warm"] for case, found in done.items()}
    told["seconds_until_warm"] = {case: found["ours"] for case, found in warming.items() if "ours" in found}
    return told | {"mfu": {case: found["mfu"].get(OURS) for case, found in done.items() if found["mfu"]}}


def table_row(name: str, found: Figures) -> str:
    """A row of the table; what is not there is a dash."""
    rates, peaks, used = found["images_per_second"], found["peak_mib"], found["mfu"] or {}

    def pair(column: str) -> list[str]:
        return [cell(rates.get(column), ".1f"), cell(peaks.get(column), ".0f")]

    ratios = {key: cell(found.get(key), ".2f") for key in RATIOS}
    ours = [*pair(OURS), cell(used.get(OURS), ".1%"), ratios["over_bare_step"]]
    official = [*pair(OFFICIAL), ratios["over_official"], ratios["over_official_loop"]]
    return row([name, *ours, *official, *pair(TIMM), ratios["over_timm"]])


def cell(value: float | None, form: str) -> str:
    """A number, or a dash for none."""
    return "–" if value is None else format(value, form)


def row(cells: Sequence[str]) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
