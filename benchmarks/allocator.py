"""What is it worth, and what does it cost, that a process on the CPU keeps the memory of its activations?

Command:  python -m benchmarks.allocator --shards FOLDER [--checkpoint FILE] [--teacher NAME] [--stages dump-logits …]
Result:   a table of rates, processor seconds and memory, and a last line of JSON.

The stages run as commands, in turns with ``runtime.allocator`` and without. What switches it off is MALLOC_PERTURB_=0
in the environment: whoever sets glibc's allocator up is left alone, and this changes nothing. FOLDER is a labelled
shard set, which is copied. Seconds are those of the command with its loading processes. Memory is PSS, which counts a
page that two processes share once, looked at ten times a second: of the command with its loading processes at most;
of its main process alone in the middle of the run and at the end, which tells whether it grows; and what one loading
process had for itself.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.fault_injection.proc import children
from benchmarks.machine import describe
from benchmarks.memory import private_mib, pss_mib
from benchmarks.networks import write_teacher

OFF = {"MALLOC_PERTURB_": "0"}
COLUMNS: dict[str, Mapping[str, str]] = {"returned": OFF, "kept": {}}
STAGES = ("dump-logits", "pretrain", "finetune", "evaluate")
EVERY = 0.1  # seconds between two looks at a process


class Use(NamedTuple):
    """What one command took."""

    seconds: float  # of the command, start and end included
    rate: float  # views/s, as the stage prints it; 0 where it prints none
    user: float  # seconds
    system: float  # seconds
    peak: float  # MiB, with its loading processes
    middle: float  # MiB, of the main process
    end: float  # MiB, of the main process
    worker: float  # MiB, of one loading process alone


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, run, print."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipes = write_recipes(options, folder)
        found = {stage: measure(stage, recipes[stage], folder, options.rounds) for stage in options.stages}
    print_table(found)
    told = {name: value for name, value in vars(options).items() if name not in ("shards", "checkpoint")}
    uses = {
        stage: {name: [[round(figure, 1) for figure in use] for use in uses] for name, uses in columns.items()}
        for stage, columns in found.items()
    }
    print(json.dumps({"machine": describe(), **told, "fields": Use._fields, "uses": uses}))


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--shards", type=Path, required=True, help="folder of a labelled shard set")
    made.add_argument("--split", default="train")
    made.add_argument("--teacher", default="tf_efficientnet_lite0", help="timm's name")
    made.add_argument("--checkpoint", type=Path, help="the teacher's weights; random ones by default")
    made.add_argument("--student", default="tiny_vit_5m_224", help="timm's name")
    made.add_argument("--classes", type=int, default=1000)
    made.add_argument("--size", type=int, default=224, help="pixels")
    made.add_argument("--views", type=int, default=4, help="of a sample, which stage one makes")
    made.add_argument("--batch", type=int, default=64, help="of the teacher and of evaluations")
    made.add_argument("--train-batch", type=int, default=32)
    made.add_argument("--epochs", type=int, default=1, help="of trainings; stage three scores after each")
    made.add_argument("--workers", type=int, default=1)
    made.add_argument("--rounds", type=int, default=2)
    made.add_argument(
        "--stages", nargs="+", choices=STAGES, default=STAGES, help="in this order; later ones need the earlier ones'"
    )
    return made


def write_recipes(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, Any]]:
    """A copy of the shards in ``folder``, a teacher, and a recipe for each stage."""
    shutil.copytree(options.shards, folder / "shards")
    (folder / "shards").chmod(0o755)
    shards = {"path": str(folder / "shards"), "split": options.split}
    teacher: dict[str, Any] = {"name": options.teacher, "checkpoint": str(options.checkpoint)}
    if options.checkpoint is None:
        write_teacher(folder / "teacher", options.teacher, options.classes, options.size)
        teacher = {"checkpoint": str(folder / "teacher")}
    views, runtime = {"size": options.size}, {"workers": options.workers, "device": "cpu"}
    shared = {"shards": shards, "runtime": runtime}
    training = {
        **shared,
        "student": {"name": options.student},
        "optim": {"base_lr": 2.5e-4, "weight_decay": 0.01},
        "schedule": {
            "epochs": options.epochs,
            "warmup_epochs": 0,
            "global_batch_size": options.train_batch,
            "lanes": 8,
        },
        "train": {"checkpoint_every": 1 << 20},
    }
    scored = {"shards": shards, "views": views, "batch_size": options.batch}
    store = str(folder / "store")
    return {
        "dump-logits": {
            **shared,
            "views": views,
            "teacher": teacher,
            "store": {"path": store, "topk": min(100, options.classes), "views": options.views},
            "batch_size": options.batch,
            "views_per_decode": options.views,
        },
        "pretrain": {**training, "store": {"path": store}, "output": str(folder / "distilled")},
        "finetune": {**training, "views": views, "eval": scored, "output": str(folder / "finetuned")},
        "evaluate": {**scored, "runtime": runtime, "model": str(folder / "finetuned")},
    }


def measure(stage: str, recipe: dict[str, Any], folder: Path, rounds: int) -> dict[str, list[Use]]:
    """What the command of a stage took in each round, by column."""
    path = folder / f"{stage}.yaml"
    path.write_text(json.dumps({"stage": stage, **recipe}))  # which is YAML as well
    found: dict[str, list[Use]] = {name: [] for name in COLUMNS}
    for _ in range(rounds):
        for name, environment in COLUMNS.items():
            for made in (recipe.get("output"), recipe.get("store", {}).get("path") if stage == "dump-logits" else None):
                if made is not None:
                    shutil.rmtree(made, ignore_errors=True)
            found[name].append(use_of([sys.executable, "-m", "tinyvit_kd", stage, str(path)], environment))
    return found


def use_of(command: list[str], environment: Mapping[str, str]) -> Use:
    """Run a command of ours and watch it.

    Raises:
        RuntimeError: it failed.
    """
    others = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    begin, started = os.times(), time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out, env={**others, **environment})
        whole, main_process, worker = watch(process)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with exit code {process.returncode}")
        end, ended = os.times(), time.perf_counter()
        out.seek(0)
        result = json.loads(out.read().splitlines()[-1])
    rate = result.get("views_per_second") or result.get("images_per_second") or 0.0
    seconds = end.children_user - begin.children_user, end.children_system - begin.children_system
    tenth = max(1, len(main_process) // 10)
    middle = statistics.median(main_process[5 * tenth : 6 * tenth] or main_process)
    return Use(
        ended - started, rate, *seconds, max(whole), middle, max(main_process[-2 * tenth :]), max(worker, default=0.0)
    )


def watch(process: subprocess.Popen[bytes]) -> tuple[list[float], list[float], list[float]]:
    """MiB of a command with its children, of itself alone, and of each child for itself, until it ends."""
    whole, alone, workers = [0.0], [0.0], []
    while process.poll() is None:
        try:
            own = pss_mib([process.pid])
            forked = children(process.pid)
            whole.append(own + pss_mib(forked))
            alone.append(own)
            workers += [private_mib(child) for child in forked]
        except OSError:
            pass  # one of them has just ended
        time.sleep(EVERY)
    return whole, alone, workers


def print_table(found: Mapping[str, Mapping[str, Sequence[Use]]]) -> None:
    """Medians of the rounds."""
    print(
        "| | seconds | views/s | user, s | system, s | MiB at most | main process: middle | end | one loading process |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for stage, columns in found.items():
        for name, uses in columns.items():
            seconds, rate, *others = (statistics.median(figures) for figures in zip(*uses, strict=True))
            print(
                f"| {stage}, {name} | {seconds:.1f} | {rate:.1f} | "
                + " | ".join(f"{figure:,.0f}" for figure in others)
                + " |"
            )


if __name__ == "__main__":
    main()
