"""Does stage one keep its teacher busy? ``dump-logits`` over the teacher's forward pass alone.

Command:  python -m benchmarks.dump [--views real --photos FOLDER] [--device cuda] [--teacher NAME] [--batch 128]
          [--precision float16 bfloat16 …] [--compile | --no-compile] [--results FILE] [--tiny]
Result:   a table of views a second for each precision, eager and with --compile compiled, too; a last line of JSON.

``dump_logits`` itself runs, into a temporary folder, over shards that repeat the photos or, with synthetic views, with
batches that are filled without any image work. A shard is one group of blocks and a whole number of batches. A run's
steady rate is that between the commits of its first and its last group: what a long run has, without a start and an
end. Bare forward passes run over one resident batch, in the same precision, compiled alike, with as many threads and
while nothing else does, in the same rounds; ratios are medians of the rounds' ratios. What is not the teacher's is
measured alone: how fast one loading process makes views, and how fast the writer takes answers.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.arguments import PRECISIONS, cores, parse, parser
from benchmarks.cases import Cases, Figures
from benchmarks.stage_one import A_DECODE, DUMP, FORWARD, LOADING, TOPK, WHOLE, Rates, Subject, write_inputs
from benchmarks.timing import median_ratio
from tinyvit_kd.runtime.distributed import Job, start_job
from tinyvit_kd.runtime.wording import counted

DEFAULTS: dict[str, dict[str, Any]] = {
    "cpu": {
        "teacher": "vit_small_patch16_224",
        "batch": 16,
        "batches": 8,
        "groups": 3,
        "workers": 1,
        "precision": ["auto"],
        "compile": False,
    },
    "cuda": {
        "teacher": "vit_large_patch14_clip_224",
        "batch": 128,
        "batches": 32,
        "groups": 6,
        "workers": max(1, cores() - 2),
        "precision": ["float16", "bfloat16", "float32"],
        "compile": True,
    },
    "tiny": {"teacher": "resnet10t", "batch": 8, "batches": 3, "groups": 3, "workers": 1, "compile": False},
}
SHARED = ("classes", "topk", "size", "views", "rounds", "threads")
SETTINGS = ("teacher", "batch", "batches", "groups", "workers", "precision", "compile", *SHARED)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, time, print."""
    given = _parser()
    options = parse(given, arguments, DEFAULTS)
    if options.groups < 2 or options.batch % A_DECODE:
        given.error(f"--groups must be at least 2, and --batch a multiple of {A_DECODE}")
    settings = {name: getattr(options, name) for name in SETTINGS} | {"pinned_to_cores": cores()}
    with start_job(options.device, options.threads) as job, tempfile.TemporaryDirectory() as folder:
        cases = Cases(settings, job.device, options.results, summary)
        shards = write_inputs(options, Path(folder))
        for precision, compiled in in_order(options.precision, options.compile):
            case = partial(measure, options, precision, compiled, job, shards, Path(folder))
            found = cases.run(f"{precision}, compiled" if compiled else precision, case)
            if found is not None:
                print_table(found["views_per_second"])
                loading = f"{options.views} views of {counted(options.workers, 'loading process')}"
                told = f"{options.teacher} in {found['precision']}, batch {options.batch}, {loading}"
                print(f"\n{told}: the limit is {found['limit']}\n", flush=True)
    cases.end()


def _parser() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument("--teacher", help="timm's name; its weights are random")
    made.add_argument("--batch", type=int)
    made.add_argument("--batches", type=int, help="of a group, which is a shard in all of its views")
    made.add_argument("--groups", type=int, help="of a run, at least 2; the first is not timed")
    made.add_argument("--workers", type=int, help="loading processes")
    made.add_argument("--precision", nargs="+", choices=PRECISIONS, help="the teacher's, one by one")
    made.add_argument("--compile", action=argparse.BooleanOptionalAction, help="once more with the teacher compiled")
    return made


def in_order(precisions: Sequence[str], compiled: bool) -> list[tuple[str, bool]]:
    """Precisions, and whether the teacher is compiled; float32 last, since it takes longest."""
    found = [(precision, each) for each in ([False, True] if compiled else [False]) for precision in precisions]
    return sorted(found, key=lambda case: case[0] == "float32")


def measure(
    options: argparse.Namespace, precision: str, compiled: bool, job: Job, shards: str, folder: Path
) -> Figures:
    """The figures of one precision."""
    subject = Subject(options, precision, compiled, job, shards, folder)
    rates = subject.measure(options.rounds)
    loading = options.workers * statistics.median(rates[LOADING])
    return {
        "precision": subject.teacher.precision,
        "limit": "the teacher" if statistics.median(rates[TOPK]) < loading else "the views",
        "over_bare_forward": ratio(rates, DUMP, TOPK),
        "over_bare_forward_without_topk": ratio(rates, DUMP, FORWARD),
        "whole_run_over_bare_forward": ratio(rates, WHOLE, TOPK),
        "views_per_second": {name: [round(rate, 1) for rate in found] for name, found in rates.items()},
    }


def ratio(rates: Rates, name: str, over: str) -> float:
    """The median of the rounds' ratios."""
    return round(median_ratio(rates[name], rates[over]), 3)


def summary(done: dict[str, Figures]) -> dict[str, Any]:
    """The steady dump's share of the bare forward pass with top-k: the least, and each precision's; its rates."""
    over = {name: found["over_bare_forward"] for name, found in done.items()}
    rates = {name: statistics.median(found["views_per_second"][DUMP]) for name, found in done.items()}
    return {"over_bare_forward": min(over.values(), default=None), "over_bare_forward_by_case": over, DUMP: rates}


def print_table(rates: Rates) -> None:
    """Medians, and ratios to the forward pass with top-k."""
    print("| | views/s | over the bare forward pass with top-k |\n|---|---|---|")
    for name, found in rates.items():
        print(f"| {name:24} | {statistics.median(found):7.1f} | {ratio(rates, name, TOPK):.3f} |")


if __name__ == "__main__":
    main()
