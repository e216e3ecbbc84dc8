"""How fast are views? Native and reference renderer over timm's own transform, on one core.

Command:  taskset -c 1 python -m benchmarks.views --photos FOLDER [--images 150] [--rounds 7] [--peer TINYVIT]
          taskset -c 1 python -m benchmarks.views --photos FOLDER --evaluation
Result:   tables of microseconds of processor time a view, and a last line of JSON.

timm's ``create_transform`` makes the same views, decodes an image for each, ends in normalised float32, and has its
three generators reseeded for each view, as a replay by seed must. FOLDER holds webdataset tars or JPEG files. Rounds
are interleaved: each takes every image once through every column, and medians of the rounds are shown. --peer: the
folder TinyViT of a checkout of github.com/microsoft/Cream, whose transform is then timed in the same rounds.
--evaluation times the fixed views of evaluation alone. Decoding the last 8 x 8 pixels of a file shows what reading
its Huffman codes takes, which no view can do without.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform

from benchmarks.machine import describe
from benchmarks.photos import load
from tinyvit_kd.config.view_spec import EvalViewSpec, ViewSpec
from tinyvit_kd.views import native
from tinyvit_kd.views.params import sample_params
from tinyvit_kd.views.render import decode, reference_eval, reference_views, render_eval, render_views

COUNTS = (1, 2, 4, 10)
EVALUATIONS = tuple(
    EvalViewSpec.model_validate({"size": size, "mode": mode, "interpolation": interpolation})
    for mode in ("center", "squash")
    for size, interpolation in ((224, "bicubic"), (224, "bilinear"), (384, "bicubic"))
)
Work = Callable[[bytes, int], object]
"""Image and the number of the first seed → anything."""


def main() -> None:
    """Parse the arguments, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peer", type=Path, help="folder TinyViT of a checkout of microsoft/Cream")
    parser.add_argument("--evaluation", action="store_true", help="time evaluation views alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    photos = load(options.photos)
    photos = photos[:: max(1, len(photos) // options.images)][: options.images]
    columns = evaluations()
    if not options.evaluation:
        columns |= whole_views(ViewSpec()) | stages(ViewSpec()) | decoded_by_pillow(ViewSpec(), photos)
    if options.peer is not None:
        columns["official TinyViT transform"] = (peer_transform(options.peer), 1)
    times = measure(columns, photos, options.rounds)
    print(f"{len(photos)} images of {sum(map(len, photos)) / len(photos) / 1000:.0f} KB on average\n")
    if not options.evaluation:
        print_table(times)
    print_evaluations(times)
    print(json.dumps(result_of(times, photos, options)))


def whole_views(spec: ViewSpec) -> dict[str, tuple[Work, int]]:
    """By name what makes views, and how many it makes of one image."""
    columns: dict[str, tuple[Work, int]] = {"timm to float32, reseeded": (timm_transform(spec), 1)}
    for count in COUNTS:
        columns[f"reference, {count} a decode"] = (rendering(reference_views, spec, count), count)
        columns[f"native, {count} a decode"] = (rendering(native.render_views, spec, count), count)
    return columns


def rendering(render: Callable[[bytes, Sequence[int], ViewSpec], object], spec: ViewSpec, count: int) -> Work:
    """Views of consecutive seeds from one decoding."""
    return lambda image, seed: render(image, range(count * seed, count * (seed + 1)), spec)


def timm_transform(spec: ViewSpec) -> Work:
    """timm's transform with the spec's settings, normalised on the CPU."""
    transform = create_transform(
        spec.size,
        is_training=True,
        scale=spec.scale,
        ratio=spec.ratio,
        hflip=spec.hflip,
        auto_augment=spec.auto_augment,
        interpolation=spec.interpolation,
        mean=spec.mean,
        std=spec.std,
        re_prob=spec.erase_prob,
        re_mode=spec.erase_mode,
        re_count=spec.erase_count,
    )

    def work(image: bytes, seed: int) -> object:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        return attempt(transform, image)

    return work


def attempt(transform: Callable[[Image.Image], object], image: bytes) -> object:
    """The view, or None: Pillow 13 refuses to posterize to 0 bits, which RandAugment draws in .2 % of views."""
    try:
        return transform(Image.open(BytesIO(image)).convert("RGB"))
    except ValueError:
        return None


def peer_transform(checkout: Path) -> Work:
    """The official code's training transform, which it seeds for each view where it distils."""
    sys.path.insert(0, str(checkout / "data"))
    augmentation = importlib.import_module("augmentation")
    context = importlib.import_module("augmentation.aug_random").AugRandomContext
    transform = augmentation.create_transform(
        input_size=224,
        is_training=True,
        color_jitter=0.4,
        auto_augment="rand-m9-mstd0.5-inc1",
        re_prob=0.25,
        re_mode="pixel",
        re_count=1,
        interpolation="bicubic",
    )

    def work(image: bytes, seed: int) -> object:
        with context(seed=seed):
            return attempt(transform, image)

    return work


def stages(spec: ViewSpec) -> dict[str, tuple[Work, int]]:
    """Parts of a native view."""
    if not native.is_on():
        return {}
    plain = spec.model_copy(update={"auto_augment": None, "color_jitter": 0.0, "erase_prob": 0.0})
    module: Any = native.module()

    def decoding(decoder: str) -> Work:
        def work(image: bytes, seed: int) -> object:
            width, height, _ = module.size(image)
            return module.decode(image, sample_params(seed, spec, width, height).crop, decoder)

        return work

    return {
        "parameters": (lambda _image, seed: sample_params(seed, spec, 500, 375), 1),
        "parameters, decode of the crop": (decoding(module.processor()), 1),
        "the same by libjpeg-turbo": (decoding("libjpeg"), 1),
        "parameters, decode, resize": (rendering(native.render_views, plain, 1), 1),
        "libjpeg-turbo, Huffman alone": (lambda image, _seed: module.coefficients(image), 1),
    }


def evaluations() -> dict[str, tuple[Work, int]]:
    """Fixed views of evaluation by both renderers, and what the native one cannot do without."""
    columns: dict[str, tuple[Work, int]] = {}
    for spec in EVALUATIONS:
        columns[f"{spec}, reference"] = (evaluating(reference_eval, spec), 1)
        columns[f"{spec}, native"] = (evaluating(render_eval, spec), 1)
    if native.is_on():
        columns["our Huffman decoding alone"] = (last_pixels, 1)
    return columns


def evaluating(render: Callable[[bytes, EvalViewSpec], object], spec: EvalViewSpec) -> Work:
    """The fixed view, which has no seed."""
    return lambda image, _seed: render(image, spec)


def last_pixels(image: bytes, _seed: int) -> object:
    """The last pixels of a file by our decoder, which reads all blocks before them; None of a progressive file."""
    module: Any = native.module()
    width, height, _ = module.size(image)
    return module.decode(
        image, (max(0, width - 8), max(0, height - 8), min(8, width), min(8, height)), module.processor()
    )


def decoded_by_pillow(spec: ViewSpec, photos: list[bytes]) -> dict[str, tuple[Work, int]]:
    """Views of which Pillow decodes the file, whatever renders them: of the photos as PNG."""
    files = {photo: _as_png(photo) for photo in photos}
    return {
        "PNG, reference": (lambda image, seed: reference_views(files[image], [seed], spec), 1),
        "PNG, native from pixels": (lambda image, seed: render_views(files[image], [seed], spec), 1),
        "PNG, decoding alone": (lambda image, _seed: decode(files[image], spec.max_pixels), 1),
    }


def _as_png(photo: bytes) -> bytes:
    file = BytesIO()
    Image.open(BytesIO(photo)).convert("RGB").save(file, "PNG", compress_level=1)
    return file.getvalue()


def measure(columns: dict[str, tuple[Work, int]], photos: list[bytes], rounds: int) -> dict[str, float]:
    """Microseconds a view by column, the median of the rounds after one to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in columns}
    for number in range(rounds + 1):
        for name, (work, views) in columns.items():
            begin = time.process_time()
            for index, photo in enumerate(photos):
                work(photo, number * len(photos) + index)
            seconds[name].append((time.process_time() - begin) / len(photos) / views)
    return {name: 1e6 * statistics.median(found[1:]) for name, found in seconds.items()}


def print_table(times: dict[str, float]) -> None:
    """Microseconds, views a second and the ratio to timm of all but evaluation views."""
    timm, evaluation = times["timm to float32, reseeded"], evaluations()
    print("| one core | µs a view | views/s | over timm |\n|---|---|---|---|")
    for name, found in times.items():
        if name not in evaluation:
            print(f"| {name:32} | {found:6.0f} | {1e6 / found:7.0f} | {timm / found:6.2f} |")
    print()


def print_evaluations(times: dict[str, float]) -> None:
    """Microseconds of both renderers for each fixed view of evaluation, and their ratio."""
    print("| evaluation, one core | reference, µs | native, µs | times as fast |\n|---|---|---|---|")
    for spec, ratio in evaluation_ratios(times).items():
        reference, found = times[f"{spec}, reference"], times[f"{spec}, native"]
        print(f"| {spec:46} | {reference:6.0f} | {found:6.0f} | {ratio:6.2f} |")
    if native.is_on():
        print(f"| our Huffman decoding alone | | {times['our Huffman decoding alone']:6.0f} | |")


def evaluation_ratios(times: dict[str, float]) -> dict[str, float]:
    """How many times as fast as the reference the native renderer is, by evaluation view."""
    return {str(spec): round(times[f"{spec}, reference"] / times[f"{spec}, native"], 2) for spec in EVALUATIONS}


def result_of(times: dict[str, float], photos: list[bytes], options: argparse.Namespace) -> dict[str, object]:
    """What the last line says."""
    timm = times.get("timm to float32, reseeded")
    ratios = {
        f"{renderer}_over_timm_{count}": round(timm / times[f"{renderer}, {count} a decode"], 3)
        for renderer in ("native", "reference")
        for count in COUNTS
        if timm is not None
    }
    pinned = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "machine": describe(),
        "pinned_to_cores": pinned,
        "images": len(photos),
        "rounds": options.rounds,
        "renderer": native.describe(),
        **ratios,
        "evaluation_native_over_reference": evaluation_ratios(times),
        "microseconds": {name: round(found, 1) for name, found in times.items()},
    }


if __name__ == "__main__":
    main()
