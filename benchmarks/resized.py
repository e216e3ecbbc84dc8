"""What does ``shards build --resize`` change? Bytes, views per second, and a teacher's answers on the same views.

Command:  taskset -c 1 python -m benchmarks.resized --photos FOLDER --teacher CHECKPOINT [--images 300] [--rounds 5]
Result:   a table over sides, and a last line of JSON.

FOLDER holds webdataset tars or JPEG files, and CHECKPOINT weights of timm's tf_efficientnet_lite0 for ImageNet. Each
photo is encoded anew at each side; a view's seed is the same for all. Rounds of timing are interleaved: each takes
every image once through every column, and medians of the rounds are shown. Answers are compared as a store would keep
them: the total variation between two targets is half the sum of the differences of their stored probabilities, the
mass outside of the top K counted as one class. Two rows say what that is worth: the photos encoded anew without
resizing, and a second view of the same photo.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks.machine import describe
from benchmarks.photos import load
from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.models.teacher import Teacher, build_teacher, topk_probs
from tinyvit_kd.views import native
from tinyvit_kd.views.render import render_views
from tinyvit_kd.views.smaller import Smaller

SIDES = (256, 288, 384)
COUNTS = (1, 4)  # views per decoding
TOPK = 10
_BATCH = 50
ORIGINAL, REENCODED, ANOTHER = "original", "encoded anew, same size", "another view"


class Targets(NamedTuple):
    """A teacher's answers as a store keeps them: classes and probabilities [N, K], and the mass of the others [N]."""

    classes: torch.Tensor
    probs: torch.Tensor
    rest: torch.Tensor

    @property
    def best(self) -> torch.Tensor:
        """The likeliest class of each view: [N]."""
        return self.classes.gather(1, self.probs.argmax(dim=1, keepdim=True)).squeeze(1)

    def dense(self, num_classes: int) -> torch.Tensor:
        """Probabilities over all classes and the others: [N, C + 1]."""
        full = torch.zeros(len(self.rest), num_classes + 1).scatter_(1, self.classes, self.probs)
        full[:, -1] = self.rest
        return full


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quality", type=int, default=90)
    options = parser.parse_args()
    torch.set_num_threads(1)
    photos = load(options.photos)
    photos = photos[:: max(1, len(photos) // options.images)][: options.images]
    config = TeacherConfig(name="tf_efficientnet_lite0", checkpoint=str(options.teacher), class_list="imagenet")
    teacher = build_teacher(config, torch.device("cpu"), "float32")
    result = measure(photos, teacher, options.quality, options.rounds)
    print_table(result)
    print(json.dumps({"machine": describe(), "renderer": native.describe(), **result}))


def measure(photos: Sequence[bytes], teacher: Teacher, quality: int, rounds: int) -> dict[str, object]:
    """All figures, by row."""
    files = {ORIGINAL: list(photos)} | {str(side): smaller(photos, side, quality) for side in SIDES}
    speeds = views_per_second(files, rounds)
    files[REENCODED] = [encoded_anew(photo, quality) for photo in photos]
    targets = {name: answers(teacher, each, 0) for name, each in files.items()}
    targets[ANOTHER] = answers(teacher, photos, 1)
    rows = {}
    for name, found in targets.items():
        agree, variation = difference(found, targets[ORIGINAL], teacher.facts.num_classes)
        rows[name] = {"top1_agreement": agree, "total_variation": variation}
        if name in files:
            changed = [new is not old for new, old in zip(files[name], photos, strict=True)]
            rows[name] |= {
                "kilobytes": round(statistics.mean(map(len, files[name])) / 1000, 2),
                "encoded_anew": round(statistics.mean(changed), 3),
            }
        rows[name] |= {f"views_per_second_{count}": speeds[name, count] for count in COUNTS if (name, count) in speeds}
    facts = {"images": len(photos), "rounds": rounds, "quality": quality, "topk": TOPK, "teacher": teacher.facts.name}
    return {**facts, "mean_side": round(statistics.mean(map(shorter_side, photos)), 1), "rows": rows}


def smaller(photos: Sequence[bytes], side: int, quality: int) -> list[bytes]:
    """The files that a build with ``--resize`` would pack; those that it copies are the same objects."""
    encode = Smaller(side, quality)
    return [encode(photo) or photo for photo in photos]


def encoded_anew(photo: bytes, quality: int) -> bytes:
    """The same pixels, as the quality leaves them."""
    file = BytesIO()
    Image.open(BytesIO(photo)).convert("RGB").save(file, "JPEG", quality=quality)
    return file.getvalue()


def shorter_side(photo: bytes) -> int:
    """In pixels."""
    return min(Image.open(BytesIO(photo)).size)


def views_per_second(files: Mapping[str, Sequence[bytes]], rounds: int) -> dict[tuple[str, int], float]:
    """Views per second of one core, by row and views per decoding: medians of the rounds after one to warm up."""
    spec = ViewSpec()
    seconds: dict[tuple[str, int], list[float]] = {(name, count): [] for name in files for count in COUNTS}
    for number in range(rounds + 1):
        for name, count in seconds:
            begin = time.process_time()
            for index, image in enumerate(files[name]):
                first = (number * len(files[name]) + index) * count
                render_views(image, range(first, first + count), spec)
            seconds[name, count].append((time.process_time() - begin) / len(files[name]) / count)
    return {column: round(1 / statistics.median(found[1:]), 1) for column, found in seconds.items()}


def answers(teacher: Teacher, images: Sequence[bytes], view: int) -> Targets:
    """The teacher's answers to one view of each image; a seed belongs to an image and a view."""
    spec, found = ViewSpec(), []
    for start in range(0, len(images), _BATCH):
        batch = enumerate(images[start : start + _BATCH], start)
        views = np.concatenate([render_views(image, [2 * number + view], spec) for number, image in batch])
        with torch.inference_mode():
            found.append(topk_probs(teacher(torch.from_numpy(views)), TOPK))
    classes, probs, rest = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Targets(classes, probs, rest)


def difference(found: Targets, reference: Targets, num_classes: int) -> tuple[float, float]:
    """The fraction of views with the same best class, and the mean total variation."""
    agree = (found.best == reference.best).double().mean().item()
    variation = (found.dense(num_classes) - reference.dense(num_classes)).abs().sum(dim=1).mean().item() / 2
    return round(agree, 4), round(variation, 4)


def print_table(result: Mapping[str, object]) -> None:
    """A row for each side, and those that say what the differences are worth."""
    rows = result["rows"]
    assert isinstance(rows, dict)
    print("| shorter side | encoded anew | KB an image | views/s, 1 a decode | 4 a decode | same best class | TV |")
    print("|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        cells = [
            f"{row['encoded_anew']:.0%}" if "encoded_anew" in row else "",
            f"{row['kilobytes']:.1f}" if "kilobytes" in row else "",
            *(f"{row[key]:.0f}" if (key := f"views_per_second_{count}") in row else "" for count in COUNTS),
            f"{row['top1_agreement']:.1%}",
            f"{row['total_variation']:.3f}",
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    print()


if __name__ == "__main__":
    main()
