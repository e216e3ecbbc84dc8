"""Do the cores keep the GPU fed? The whole of stage two on real views, by the number of loading processes.

Command:  python -m benchmarks.fed [--photos FOLDER] [--workers 1 2 4 8 16] [--students NAME …] [--batch B]
          [--no-compile] [--results FILE] [--tiny]
Result:   a table of views a second by workers for each student, and for the loader alone; a last line of JSON.

``pretrain`` itself runs, on a store with made-up probabilities and true digests, which are all checked. FOLDER holds
webdataset tars or JPEG files, which shards repeat; without it, noise is drawn with the spectrum and the size of photos
(500 x 375 pixels, 100 KB). The rate is that of the steps behind those that use up what was loaded while the run began.

* of linear: the rate over that of the fewest workers, over so many times as many workers.
* of possible: the rate over the smaller one of the loader's alone with as many workers and the bare steps'.
* waiting: share of the time in which the loop waits for data.
* GPU busy: the time of a bare step (forward, loss, backward, optimiser) of a resident batch, over that of a step here;
  and what nvidia-smi says, where it is: the share of time in which any kernel ran.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.arguments import cores, parse, student_parser
from benchmarks.cases import Cases, Figures
from benchmarks.photos import drawn, load
from benchmarks.stage_two import SHARDS, Subject
from tinyvit_kd.runtime.distributed import start_job
from tinyvit_kd.views import native

STUDENTS = ["tiny_vit_21m_224", "tiny_vit_5m_224"]
MANY = [number for number in (1, 2, 4, 8, 16) if number <= cores()]
DEFAULTS: dict[str, dict[str, Any]] = {
    "cpu": {"students": STUDENTS[1:], "batch": 16, "samples": 128, "steps": 16, "workers": [1], "seconds": 4.0},
    "cuda": {"students": STUDENTS, "batch": 256, "samples": 2048, "steps": 48, "workers": MANY, "seconds": 2.0},
    "tiny": {"students": ["resnet10t"], "batch": 8, "samples": 32, "steps": 4, "workers": [1, 2], "seconds": 0.2},
}
SHARED = ("classes", "topk", "size", "rounds", "precision", "compile", "threads")
SETTINGS = ("students", "batch", "samples", "steps", "workers", "seconds", *SHARED)
SHARES = ("of_possible", "data_wait", "gpu_busy", "gpu_busy_by_driver")
HEAD = ("workers", "views/s", "of linear", "of possible", "waiting", "GPU busy", "by nvidia-smi")
LOADER_HEAD = ("loader alone, views/s", "of linear")
DRAWN = 8  # photos, where no folder is given


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, time, print."""
    given = _parser()
    options = parse(given, arguments, DEFAULTS)
    if options.samples < options.batch or options.samples % SHARDS:
        given.error(f"--samples must be a multiple of {SHARDS}, and at least --batch")
    with start_job(options.device, options.threads) as job, tempfile.TemporaryDirectory() as folder:
        images = drawn(DRAWN) if options.photos is None else load(options.photos)
        settings = {name: getattr(options, name) for name in SETTINGS}
        settings |= {"renderer": native.describe(), "photos": "drawn" if options.photos is None else "of a folder"}
        print(f"{len(images)} photos{', drawn' if options.photos is None else ''}, {describe_size(images)} on average")
        cases = Cases(settings, job.device, options.results, summary)
        subject = Subject(options, job, Path(folder), images)
        for name, work in in_order(options, subject):
            cases.run(name, work)
    print_tables(cases.done, options)
    cases.end()


def _parser() -> argparse.ArgumentParser:
    made = student_parser(__doc__)
    made.add_argument("--workers", nargs="+", type=int, help="loading processes, one number after the other")
    made.add_argument("--samples", type=int, help="of the shards, each with a view in the store")
    made.add_argument("--steps", type=int, help="of each timing, at least; whole epochs are timed")
    made.add_argument("--seconds", type=float, help="of each timing of the loader alone")
    return made


def in_order(options: argparse.Namespace, subject: Subject) -> Iterator[tuple[str, Callable[[], Figures]]]:
    """All cases by name. The most workers first, with the first student, so that whoever is stopped has that."""
    bare = set[str]()
    for workers in sorted(options.workers, reverse=True):
        yield loader_name(workers), partial(subject.loader_alone, workers)
        for student in options.students:
            if student not in bare:
                bare.add(student)
                yield bare_name(student), partial(subject.bare, student)
            yield fed_name(student, workers), partial(subject.fed, student, workers)


def describe_size(images: Sequence[bytes]) -> str:
    """The mean length of the files."""
    return f"{statistics.mean(map(len, images)) / 1000:.0f} KB"


def loader_name(workers: int) -> str:
    """The case of the loader alone."""
    return f"loader alone, {workers} workers"


def bare_name(student: str) -> str:
    """The case of a student's bare steps."""
    return f"{student}, bare steps"


def fed_name(student: str, workers: int) -> str:
    """The case of a student's whole stage two."""
    return f"{student}, {workers} workers"


def of_linear(rates: dict[int, float]) -> dict[int, float]:
    """Each rate over what the fewest workers' rate makes for as many workers."""
    if not rates:
        return {}
    fewest = min(rates)
    return {workers: round(rate / rates[fewest] * fewest / workers, 4) for workers, rate in rates.items()}


def summary(done: dict[str, Figures]) -> dict[str, Any]:
    """By student, by workers: rates, shares of linear and possible, waiting, how busy the GPU is."""
    told: dict[str, Any] = {}
    for student in dict.fromkeys(found["student"] for found in done.values() if "student" in found):
        rows = {found["workers"]: found for found in done.values() if found.get("student") == student}
        rates = {workers: found["views_per_second"] for workers, found in rows.items()}
        told[student] = {"views_per_second": rates, "of_linear": of_linear(rates)} | {
            share: {workers: found[share] for workers, found in rows.items()} for share in SHARES
        }
    alone = {f["workers"]: f["views_per_second"] for name, f in done.items() if name.startswith("loader")}
    return {"stage_two": told, "loader_alone": {"views_per_second": alone, "of_linear": of_linear(alone)}}


def print_tables(done: dict[str, Figures], options: argparse.Namespace) -> None:
    """A table for each student."""
    told = summary(done)
    loader = told["loader_alone"]
    for student, rows in told["stage_two"].items():
        bare = done.get(bare_name(student), {}).get("views_per_second", math.nan)
        views = f"batches of {options.batch} views of {options.size} pixels"
        print(f"\n{student}, {views}; bare steps: {bare:,.0f} views/s\n")
        print("| " + " | ".join(HEAD + LOADER_HEAD) + " |\n" + "|---" * len(HEAD + LOADER_HEAD) + "|")
        for workers in sorted(rows["views_per_second"]):
            cells = [f"{rows['views_per_second'][workers]:,.0f}", f"{rows['of_linear'][workers]:.2f}"]
            cells += ["–" if (share := rows[name][workers]) is None else f"{share:.1%}" for name in SHARES]
            alone = loader["views_per_second"].get(workers)
            cells += ["–", "–"] if alone is None else [f"{alone:,.0f}", f"{loader['of_linear'][workers]:.2f}"]
            print(f"| {workers} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
