"""Is a teacher without labels worth something? CIFAR-10: students distilled through prototypes, and linearly probed.

Command:  python -m benchmarks.prototypes --data FOLDER_OF_CIFAR10_SHARDS --out FOLDER [--seeds 3]
          python -m benchmarks.prototypes --tiny --out FOLDER rehearses it on drawn images in a minute
Result:   a table, ``prototypes.json`` in OUT, and a last line of JSON.

Two teachers of one shape see the training images. One learns without labels by how many quarter turns an image was
rotated (RotNet, arXiv 1803.07728). The other learns the labels, so that it is not self-supervised, even where its
embeddings alone are used. Embeddings of each are clustered into prototypes, without labels, and a student learns
softmax(cosine / τ) over these through a store. What a student has learned is measured by a linear probe: its body is
frozen, and a new head is trained on the labels. The same probe follows

* random weights, and a student that was trained on the labels for as many epochs;
* a student that was distilled from the labelled teacher's logits;
* the teachers themselves.

Teachers are trained once. Each seed varies views, store, prototypes, order and first weights. What is finished in OUT
is not made again.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.distillation import Rows, table
from benchmarks.machine import describe
from benchmarks.tiny_world import draw_shards
from benchmarks.training_runs import (
    MILD,
    STUDENT,
    TEACHER,
    VIEWS,
    Recipe,
    dump,
    run_dump,
    run_finetune,
    run_pretrain,
    train_teacher,
    training,
    unpack,
)
from tinyvit_kd.config.load import validate
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.data.building.build import build_shards
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.runtime.distributed import Job, start_job
from tinyvit_kd.stages.head.prototypes import prototypes

TURNS = {
    "0": None,
    "90": Image.Transpose.ROTATE_90,
    "180": Image.Transpose.ROTATE_180,
    "270": Image.Transpose.ROTATE_270,
}
STORED_VIEWS, LOGITS = 2, 10
PROBE = {"base_lr": 1e-2, "warmup_lr": 1e-2, "min_lr": 0.0, "lr_batch": 256, "weight_decay": 0.0}
TINY_SAMPLES = 192  # of a split of drawn images


@dataclass(frozen=True)
class Bench:
    """What all students share.

    Attributes:
        shards: folder of the labelled shards.
        out: folder of all results.
    """

    shards: Path
    out: Path
    options: argparse.Namespace
    job: Job

    def brief(self, recipe: Recipe) -> Recipe:
        """A training as it is or, to rehearse, of small batches and without processes of its own."""
        if self.options.tiny:
            recipe["schedule"] |= {"global_batch_size": 32, "lanes": 4, "window": 64}
            recipe["runtime"] = {"workers": 0}
        return recipe

    def train_rotations(self) -> Path:
        """The self-supervised teacher; returns its folder."""
        rotated = self.out / "rotated"
        for split in ("train", "val"):
            if not (rotated / "shards" / "_info.json").exists() or split not in _splits(rotated / "shards"):
                _rotate(ShardSet.load(self.shards, split), rotated / split)
                build_shards(rotated / split, rotated / "shards", split, samples_per_shard=10_000, seed=0, processes=1)
        recipe = training(rotated / "shards", self.out / "rotations", self.options.teacher_epochs, 0) | {
            "views": MILD | {"hflip": 0.0},  # a mirrored quarter turn would be one the other way round
            "loss": {"label_smoothing": 0.0},
            "student": {"tiny_vit": TEACHER, "drop_path_rate": 0.0},
        }
        run_finetune(self.brief(recipe), self.job)
        return self.out / "rotations"

    def train_labelled(self) -> Path:
        """The labelled teacher; returns its folder."""
        output = self.out / "labelled"
        if self.options.tiny:
            recipe = training(self.shards, output, self.options.teacher_epochs, 0) | {
                "views": MILD,
                "student": {"tiny_vit": TEACHER, "drop_path_rate": 0.0},
            }
            run_finetune(self.brief(recipe), self.job)
        else:
            train_teacher(self.shards, output, self.options.teacher_epochs, self.job)
        return output

    def dumped(self, teacher: Recipe, store: Path, topk: int, seed: int) -> dict[str, float]:
        """Stage one; returns what it says of its answers."""
        return run_dump(self._dump(teacher, store, topk, seed), self.job)

    def with_prototypes(self, teacher: Path, folder: Path, seed: int) -> Recipe:
        """A teacher whose head are prototypes of its embeddings."""
        options, head = self.options, folder / "prototypes.safetensors"
        section = {"checkpoint": str(teacher), "head": str(head)}
        recipe = self._dump(section, folder / "store", options.topk, seed) | {"stage": "dump-logits"}
        config = validate(DumpConfig, recipe, "benchmark")
        if not head.exists():
            asked = (options.prototypes, options.samples, options.temperature, seed)
            print(prototypes(config, self.job, head, *asked)[0], flush=True)
        return section

    def distilled(self, store: Path, output: Path, seed: int) -> Path:
        """Stage two; its classes may be prototypes, so that nothing is scored."""
        recipe = training(self.shards, output, self.options.epochs, seed) | {
            "store": {"path": str(store)},
            "student": {"tiny_vit": STUDENT, "drop_path_rate": 0.0},
        }
        del recipe["eval"]
        run_pretrain(self.brief(recipe), self.job)
        return output

    def probed(self, start: Path | None, output: Path, seed: int) -> float:
        """Top-1 of a linear probe on the labels, percent.

        Args:
            start: folder of the body; None: random weights.
        """
        student: Recipe = {"tiny_vit": STUDENT, "drop_path_rate": 0.0}
        if start is not None:
            student = {"init_from": str(start), "head": "fresh"}
        recipe = training(self.shards, output, self.options.probe_epochs, seed, PROBE) | {
            "views": MILD,
            "loss": {"label_smoothing": 0.0},
            "student": student,
        }
        recipe["train"] |= {"trainable": "head"}
        return run_finetune(self.brief(recipe), self.job)["top1"]

    def trained_on_labels(self, output: Path, seed: int) -> Path:
        """A student from scratch, for as many epochs as stage two has."""
        recipe = training(self.shards, output, self.options.epochs, seed) | {
            "views": VIEWS,
            "student": {"tiny_vit": STUDENT, "drop_path_rate": 0.0},
        }
        run_finetune(self.brief(recipe), self.job)
        return output

    def _dump(self, teacher: Recipe, store: Path, topk: int, seed: int) -> Recipe:
        asked = {"path": store, "topk": topk, "views": STORED_VIEWS, "seed": seed}
        recipe = dump({"path": str(self.shards), "split": "train"}, Path(), asked) | {"teacher": teacher}
        return recipe | ({"runtime": {"workers": 0}, "batch_size": 32} if self.options.tiny else {})


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, run, print."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    begin = time.perf_counter()
    shards = _drawn(options.out) if options.tiny else unpack(options.data, options.out / "shards")
    with start_job("auto", threads=max(1, (os.cpu_count() or 1) - 1)) as job:
        rows, outside = compare(Bench(shards, options.out, options, job))
    settings = {name: value for name, value in vars(options).items() if name not in ("data", "out")}
    result = {
        "machine": describe(),
        "seconds": round(time.perf_counter() - begin),
        "settings": settings,
        "outside_topk": outside,
        "top1": rows,
    }
    (options.out / "prototypes.json").write_text(json.dumps(result, indent=1) + "\n")
    print(table(rows))
    print(json.dumps(result))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments, with what follows from others filled in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="CIFAR-10's shards; needed but with --tiny")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true", help="drawn images and few of everything, to rehearse it")
    given = {
        "seeds": (3, 1, ""),
        "teacher_epochs": (
            8,
            1,
            "of each teacher; an epoch of the one of rotations has four times the images",
        ),
        "epochs": (8, 1, "of stage two, and of the student from scratch"),
        "probe_epochs": (4, 1, ""),
        "prototypes": (256, 8, ""),
        "samples": (20_000, 96, "embedded images that are clustered"),
        "topk": (32, 4, "stored of the prototypes' probabilities; of logits all are"),
    }
    for name, (default, _, told) in given.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, help=f"{told} ({default})".strip())
    parser.add_argument("--temperature", type=float, default=0.1)
    options = parser.parse_args(arguments)
    if options.data is None and not options.tiny:
        parser.error("--data is needed, or --tiny")
    for name, (default, tiny, _) in given.items():
        if getattr(options, name) is None:
            setattr(options, name, tiny if options.tiny else default)
    return options


def compare(bench: Bench) -> tuple[Rows, dict[str, list[float]]]:
    """Top-1 of each probe, and what lies outside the stored probabilities; a seed each."""
    rows, outside = Rows(), Rows()
    teachers = {"rotations": bench.train_rotations(), "labels": bench.train_labelled()}
    for name, teacher in teachers.items():
        rows[f"teacher of {name}, probed"] = [bench.probed(teacher, bench.out / f"probe-{name}", 0)]
    for seed in range(bench.options.seeds):
        folder = bench.out / f"seed{seed}"

        def note(name: str, body: Path | None, folder: Path = folder, seed: int = seed) -> None:
            output = folder / f"probe {name}".replace(" ", "-").replace(",", "")
            rows.setdefault(f"{name}, probed", []).append(bench.probed(body, output, seed))

        note("random weights", None)
        note("scratch", bench.trained_on_labels(folder / "scratch", seed))
        for name, teacher in teachers.items():
            own = folder / f"prototypes-{name}"
            section = bench.with_prototypes(teacher, own, seed)
            told = bench.dumped(section, own / "store", bench.options.topk, seed)
            outside.setdefault(f"prototypes of {name}", []).append(told["outside_topk"])
            note(f"prototypes of {name}", bench.distilled(own / "store", own / "student", seed))
        logits = folder / "logits"
        told = bench.dumped({"checkpoint": str(teachers["labels"])}, logits / "store", LOGITS, seed)
        outside.setdefault("logits", []).append(told["outside_topk"])
        note("logits of labels", bench.distilled(logits / "store", logits / "student", seed))
        print(json.dumps(rows), flush=True)
    return rows, outside


def _drawn(out: Path) -> Path:
    """Shards of drawn images, to rehearse."""
    for split, seed in (("train", 0), ("val", 1)):
        if split not in _splits(out / "shards"):
            draw_shards(out, TINY_SAMPLES, split, seed)
    return out / "shards"


def _splits(shards: Path) -> Any:
    info = shards / "_info.json"
    return json.loads(info.read_text())["splits"] if info.exists() else {}


def _rotate(shards: ShardSet, folder: Path) -> None:
    """Every image of a shard set in its four orientations, as PNG, in a folder for each: the classes."""
    reader = shards.reader()
    for name in TURNS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for shard, length in enumerate(shards.lengths.tolist()):
        for index in range(length):
            image = Image.open(io.BytesIO(reader.read(shard, index))).convert("RGB")
            for name, turn in TURNS.items():
                turned = image if turn is None else image.transpose(turn)
                turned.save(folder / name / f"{shard:04d}{index:06d}.png", compress_level=1)


if __name__ == "__main__":
    main()
