"""``demo``: images, a teacher, the three stages and a baseline, in a few minutes on a laptop."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tinyvit_kd.config.base import Section
from tinyvit_kd.config.load import load_recipe, validate
from tinyvit_kd.config.recipes import DumpConfig, FinetuneConfig, PretrainConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.building.build import build_shards
from tinyvit_kd.data.shard_reader import ShardReader
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.data.synthetic import DRAWN_CLASSES, write_image_folder
from tinyvit_kd.errors import ConfigError, TinyVitKdError
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.log import say
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.stages.report import report
from tinyvit_kd.store.statistics import statistics
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.render import render_views, view_digest

TRAIN_IMAGES = 6000
VAL_IMAGES = 2400
SAMPLES_PER_SHARD = 1000
REPORT = "report.html"
Recipe = TypeVar("Recipe", bound=Section)
Result = dict[str, float | int | str]


def demo(folder: Path, seed: int, job: Job, train_images: int = TRAIN_IMAGES, val_images: int = VAL_IMAGES) -> Result:
    """Run everything in ``folder``. A demo that was interrupted continues where it stopped.

    Args:
        folder: for shards, store and run folders.
        seed: varies images, initial weights, views and order.
        train_images: images to train on.
        val_images: images to score on.

    Returns:
        the figures of the table, by name.
    """
    begin = time.perf_counter()
    say(
        job,
        f"1/6 drawing {train_images + val_images:,} images of {len(DRAWN_CLASSES)} classes into {folder}/shards",
    )
    if job.is_main:
        draw_shards(folder, seed, train_images, val_images)
    job.barrier()
    say(job, "2/6 training a teacher on the labels")
    teacher = finetune(_recipe(FinetuneConfig, "teacher", folder, seed), job)
    say(job, "3/6 stage one: the teacher sees every view once")
    dumped = dump_logits(_recipe(DumpConfig, "dump", folder, seed), job)
    say(job, "4/6 stage two: a smaller student, from the store alone")
    distilled = pretrain(_recipe(PretrainConfig, "pretrain", folder, seed), job)
    say(job, "5/6 stage three: the student meets the labels")
    finetuned = finetune(_recipe(FinetuneConfig, "finetune", folder, seed), job)
    say(job, "6/6 the baseline: the same student from labels alone, with the same number of steps")
    scratch = finetune(_recipe(FinetuneConfig, "scratch", folder, seed), job)
    return {
        "seed": seed,
        "teacher_top1": round(teacher["top1"], 2),
        "scratch_top1": round(scratch["top1"], 2),
        "distilled_top1": round(distilled["top1"], 2),
        "finetuned_top1": round(finetuned["top1"], 2),
        **_store_figures(folder, distilled),
        "teacher_images_per_second": round(teacher["images_per_second"]),
        "dump_images_per_second": round(dumped["views_per_second"]),
        "pretrain_images_per_second": round(distilled["images_per_second"]),
        "finetune_images_per_second": round(finetuned["images_per_second"]),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def write_report(folder: Path) -> str:
    """Write a report of the demo's runs and store into its folder; returns what to say of it, for people.

    A demo without one is a demo still: where it cannot be written, that is what is said.
    """
    path = folder / REPORT
    try:
        report([str(folder)], path, title="The demo: a teacher, a student from its store, and a baseline")
    except TinyVitKdError as error:
        return f"no report was written: {error}"
    return f"the report, for a browser: {path}"


def table(result: Result) -> str:
    """The figures of a demo as one table."""
    rows = [
        ("teacher, top-1", f"{result['teacher_top1']:.2f} %"),
        ("student from scratch, as many steps", f"{result['scratch_top1']:.2f} %"),
        ("student distilled (stages 1, 2)", f"{result['distilled_top1']:.2f} %"),
        ("student distilled and finetuned (1, 2, 3)", f"{result['finetuned_top1']:.2f} %"),
        ("store, bytes per record", f"{result['store_bytes_per_record']:.1f}"),
        ("  of dense float32 probabilities", f"{result['dense_bytes_per_record']}"),
        ("  of raw int16 + float16 + seed", f"{result['raw_bytes_per_record']}"),
        ("digests checked / equal", f"{result['digests_checked']:,} / {result['digests_equal']:,}"),
        ("teacher passes in stage one", f"{result['teacher_passes']:,}"),
        ("teacher passes saved in stage two", f"{result['teacher_passes_saved']:,}"),
        ("images/s: teacher training", f"{result['teacher_images_per_second']:,}"),
        ("images/s: dump-logits", f"{result['dump_images_per_second']:,}"),
        ("images/s: pretrain", f"{result['pretrain_images_per_second']:,}"),
        ("images/s: finetune", f"{result['finetune_images_per_second']:,}"),
        ("seconds in all", f"{result['seconds']:.0f}"),
    ]
    width = max(len(name) for name, _ in rows)
    rule = "-" * (width + 22)
    return "\n".join([rule, *(f"{name:<{width}}  {value:>20}" for name, value in rows), rule])


def draw_shards(folder: Path, seed: int, train_images: int, val_images: int) -> None:
    """Draw the images of both splits in ``folder/images``, and pack them into ``folder/shards``."""
    for split, count, salt in (("train", train_images, 0), ("val", val_images, 1)):
        images = folder / "images" / split
        if not (images / ".drawn").exists():
            with saying(f"drawing the images of {split}, {count:,} in all"):
                write_image_folder(images, count, 2 * seed + salt)
            (images / ".drawn").touch()
        build_shards(images, folder / "shards", split, samples_per_shard=SAMPLES_PER_SHARD, seed=seed, processes=1)


def _recipe(kind: type[Recipe], name: str, folder: Path, seed: int) -> Recipe:
    """A recipe of ``configs/demo`` with its seed set, and with its paths in ``folder`` instead of ``demo-run``."""
    key = "store.seed" if kind is DumpConfig else "schedule.seed"
    recipe = load_recipe(kind, _configs() / f"{name}.yaml", [f"{key}={seed}"])
    return validate(kind, _with_paths_in(folder, recipe.model_dump(mode="json")), name)


def _with_paths_in(folder: Path, tree: Any) -> Any:
    """Replace ``demo-run`` by ``folder`` at the beginning of every text in a tree."""
    if isinstance(tree, dict):
        return {name: _with_paths_in(folder, value) for name, value in tree.items()}
    if isinstance(tree, str) and tree.startswith("demo-run"):
        return f"{folder}{tree.removeprefix('demo-run')}"
    return tree


def _configs() -> Path:
    """The folder of the demo's recipes: in the repository, or where a wheel installs them."""
    candidates = (
        Path(__file__).parents[2] / "configs" / "demo",
        Path(sys.prefix) / "share/tinyvit_kd/configs/demo",
    )
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise ConfigError("the demo's recipes are missing", where=" or ".join(map(str, candidates)), fix="reinstall")


def _store_figures(folder: Path, distilled: dict[str, float]) -> Result:
    store = LogitStore.open(folder / "store")
    figures = statistics(store)
    checked, equal = _compare_digests(store, ShardSet.load(folder / "shards", "train").reader())
    checked_in_training = int(distilled["digests_checked"])  # all equal: a difference would have stopped stage two
    return {
        "store_bytes_per_record": round(figures.bytes_per_record, 2),
        "dense_bytes_per_record": figures.dense_bytes_per_record,
        "raw_bytes_per_record": figures.raw_bytes_per_record,
        "digests_checked": checked_in_training + checked,
        "digests_equal": checked_in_training + equal,
        "teacher_passes": figures.records,
        # With the teacher in the training loop, every view of every step would be a pass of the teacher.
        "teacher_passes_saved": int(distilled["samples_seen"]) - figures.records,
    }


def _compare_digests(store: LogitStore, reader: ShardReader) -> tuple[int, int]:
    """Render the last view of the first shard's samples again, independently of training.

    Returns:
        how many digests were compared, and how many are equal to the stored ones.
    """
    spec = ViewSpec.model_validate(store.manifest.view_spec)
    block = store.read_block(0, store.manifest.views - 1)
    rows = np.flatnonzero(block.valid).tolist()
    equal = sum(
        view_digest(render_views(reader.read(0, row), [int(block.seeds[row])], spec)[0]) == block.digests[row]
        for row in rows
    )
    return len(rows), int(equal)
