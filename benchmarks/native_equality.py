"""Are the native renderer's views those of the reference, byte for byte, and its holes the same holes?

Command:  python -m benchmarks.native_equality --photos FOLDER [--odd FOLDER] [--views 100000] [--damaged 20000] [--o1]
Result:   a table of views compared and of views that differ, and a last line of JSON.

FOLDER holds webdataset tars or image files. Every instruction set of this machine is compared. Damaged files are
copies of photos, and of their encodings in other kinds of JPEG, that were cut, changed or added to: where the native
renderer makes a view of one, the reference must make the same one. --o1 compares a copy that is compiled with -O1.

--through COMMAND compares what another program makes, for example one for another processor, under an emulator:

    cd tinyvit_kd/views/csrc
    aarch64-linux-gnu-gcc -std=c11 -O3 -ffp-contract=off -fwrapv -fno-math-errno -fno-trapping-math -I. \\
        -idirafter /usr/include -idirafter /usr/include/aarch64-linux-gnu \\
        -o /tmp/render_jobs ../../../benchmarks/render_jobs.c $(ls *.c | grep -v module.c) -ljpeg -lm
    python -m benchmarks.native_equality … --through "qemu-aarch64 -L /usr/aarch64-linux-gnu /tmp/render_jobs"
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.machine import describe
from benchmarks.photos import damaged, encodings, load
from benchmarks.remote_renderer import RemoteRenderer
from tinyvit_kd.config.view_spec import EvalViewSpec, ViewSpec
from tinyvit_kd.errors import BadImageError
from tinyvit_kd.views import native
from tinyvit_kd.views.mixing import Mix, reference_mix, sample_mix
from tinyvit_kd.views.render import reference_eval, reference_views

REPOSITORY = Path(__file__).resolve().parent.parent
PROCESSORS = ("baseline", "avx2", "avx512")
SPECS = {
    "default": ViewSpec(),
    "bilinear, plain": ViewSpec(size=160, interpolation="bilinear", auto_augment="rand-m9-n4-p1-mstd0.5"),
    "strong": ViewSpec(size=97, auto_augment="rand-m15-n4-p1-mmax20-mstd101-inc1", erase_mode="rand", erase_prob=1),
    "3-augment": ViewSpec(size=384, auto_augment="rand-m9-n3-p0.9-mstd1-t3aw", erase_mode="const"),
    "jitter": ViewSpec(size=64, auto_augment=None, color_jitter=0.4, mean=(0.5, 0.2, 0.9)),
}
MIXED_SPEC = ViewSpec(size=97, mixup=0.8, cutmix=1.0)
DAMAGED_SPEC = ViewSpec(size=32, scale=(0.02, 0.5), auto_augment=None, color_jitter=0, erase_prob=0)
EVALUATIONS = {
    "center": EvalViewSpec(),
    "center, bilinear": EvalViewSpec(size=384, crop_pct=1, interpolation="bilinear"),
    "squash": EvalViewSpec(size=512, mode="squash"),
    "squash, bilinear": EvalViewSpec(mode="squash", interpolation="bilinear"),
}
DAMAGED_EVALUATIONS = (
    EvalViewSpec(size=32),
    EvalViewSpec(size=21, crop_pct=0.4, interpolation="bilinear"),
    EvalViewSpec(size=32, mode="squash"),
)
UInt8 = npt.NDArray[np.uint8]


@dataclass
class Count:
    """Views compared, those that differ, and those that native gave to the reference."""

    compared: int = 0
    differing: int = 0
    given_up: int = 0

    def add(self, found: UInt8 | None, expected: UInt8 | None, views: int) -> None:
        """Count the native views of one image; ``expected`` is None where the image is a hole."""
        if found is None:
            self.given_up += views
            return
        self.compared += views
        same = (
            [False] * views
            if expected is None
            else [np.array_equal(*pair) for pair in zip(found, expected, strict=True)]
        )
        self.differing += same.count(False)


def main() -> None:
    """Parse the arguments, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--odd", type=Path)
    parser.add_argument("--views", type=int, default=100_000)
    parser.add_argument("--damaged", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--o1", action="store_true", help="compile a copy without optimisation and compare that")
    parser.add_argument("--through", help="command of a program made of render_jobs.c, whose views are compared")
    options = parser.parse_args()
    if options.through is not None:
        use(RemoteRenderer(options.through))
    if options.o1:
        sys.exit(unoptimised([argument for argument in sys.argv[1:] if argument != "--o1"]))
    print(native.describe(), native.path())
    begin = time.perf_counter()
    rows = compare(options)
    print_table(rows)
    result = {
        "machine": describe(),
        "compared": sum(row.compared for row in rows.values()),
        "differing": sum(row.differing for row in rows.values()),
        "rows": {name: vars(row) for name, row in rows.items()},
        "seconds": round(time.perf_counter() - begin),
    }
    print(json.dumps(result))
    sys.exit(1 if result["differing"] else 0)


def compare(options: argparse.Namespace) -> dict[str, Count]:
    """Every row of the table."""
    photos, draw = load(options.photos), random.Random(options.seed)
    rows: dict[str, Count] = {}
    views = options.views // (len(SPECS) + 2) // len(processors())
    for name, spec in SPECS.items():
        rows |= compare_photos(name, photos, spec, views, draw)
    if options.through is None:  # which mixes nothing
        rows |= compare_mixed(photos, views, draw)
    for name, evaluation in EVALUATIONS.items():
        rows |= compare_evaluations(name, photos, evaluation, views // len(EVALUATIONS), draw)
    if options.odd is not None:
        rows |= compare_files("odd images", load(options.odd) * 4, draw)
    sources = [*photos[::9], *(kind for photo in photos[::5] for kind in encodings(photo))]
    harmed = (damaged(draw.choice(sources), draw) for _ in range(options.damaged))
    return rows | compare_files("damaged files", harmed, draw)


def compare_photos(
    name: str, photos: Sequence[bytes], spec: ViewSpec, views: int, draw: random.Random
) -> dict[str, Count]:
    """A row for every instruction set: random views of random photos, two a decode."""
    rows = {f"{name}, {processor}": Count() for processor in processors()}
    for _ in range(-(-views // 2)):
        photo, seeds = draw.choice(photos), [draw.randrange(2**32), draw.randrange(2**32)]
        expected = reference_views(photo, seeds, spec)
        for processor in processors():
            rows[f"{name}, {processor}"].add(native.render_views(photo, seeds, spec, processor), expected, len(seeds))
    return rows


def compare_mixed(photos: Sequence[bytes], views: int, draw: random.Random) -> dict[str, Count]:
    """A row for every instruction set: random pairs, mixed with each other."""
    rows = {f"mixed, {processor}": Count() for processor in processors()}
    for _ in range(-(-views // 2)):
        pair, seeds = draw.choices(photos, k=2), [draw.randrange(2**32), draw.randrange(2**32)]
        mix = sample_mix(seeds[0], seeds[1], MIXED_SPEC)
        assert mix is not None
        expected = mixed_pair([reference_views(*each) for each in shots(pair, seeds)], mix, reference_mix)
        for processor in processors():
            found = [native.render_views(*each, processor) for each in shots(pair, seeds)]
            whole = [each for each in found if each is not None]
            native_mix = partial(mix_natively, processor=processor)
            rows[f"mixed, {processor}"].add(
                mixed_pair(whole, mix, native_mix) if len(whole) == 2 else None, expected, 2
            )
    return rows


def shots(pair: Sequence[bytes], seeds: Sequence[int]) -> list[tuple[bytes, list[int], ViewSpec]]:
    """What each of a pair's unmixed views is rendered from."""
    return [(photo, [seed], MIXED_SPEC) for photo, seed in zip(pair, seeds, strict=True)]


def mixed_pair(views: Sequence[UInt8], mix: Mix, mixing: Callable[[UInt8, UInt8, Mix], UInt8]) -> UInt8:
    """Both mixed views of two unmixed ones, each [1, 3, S, S]: uint8 [2, 3, S, S]."""
    first, second = views[0][0], views[1][0]
    return np.stack([mixing(first, second, mix), mixing(second, first, mix)])


def mix_natively(own: UInt8, partner: UInt8, mix: Mix, processor: str) -> UInt8:
    """``mix_views`` by one instruction set; CutMix only copies, by none of them."""
    out = np.empty_like(own)
    if mix.box is None:
        native.mixup(own, partner, mix.weight, out, processor)
    else:
        native.cutmix(own, partner, mix.box, out)
    return out


def compare_evaluations(
    name: str, photos: Sequence[bytes], spec: EvalViewSpec, views: int, draw: random.Random
) -> dict[str, Count]:
    """A row for every instruction set: the fixed view of random photos or of their encodings in other kinds of JPEG."""
    rows = {f"evaluation, {name}, {processor}": Count() for processor in processors()}
    for _ in range(views):
        photo = draw.choice(photos)
        file = photo if draw.random() < 0.5 else draw.choice(encodings(photo))
        expected = reference_eval(file, spec)[None]
        for processor in processors():
            rows[f"evaluation, {name}, {processor}"].add(native_eval(file, spec, processor), expected, 1)
    return rows


def native_eval(file: bytes, spec: EvalViewSpec, processor: str = "") -> UInt8 | None:
    """The native renderer's fixed view of a file, uint8 [1, 3, S, S]; None where Pillow must decode it."""
    view = np.empty((3, spec.size, spec.size), np.uint8)
    return view[None] if native.render_eval(file, spec, view, processor) else None


def compare_files(name: str, files: Iterable[bytes], draw: random.Random) -> dict[str, Count]:
    """Files that may be holes: a row for one view each, and one for one evaluation view each."""
    training, evaluation = Count(), Count()
    for file in files:
        seeds, spec = [draw.randrange(2**32)], draw.choice(DAMAGED_EVALUATIONS)
        training.add(native.render_views(file, seeds, DAMAGED_SPEC), reference_or_hole(file, seeds), 1)
        evaluation.add(native_eval(file, spec), reference_eval_or_hole(file, spec), 1)
    return {name: training, f"{name}, evaluation": evaluation}


def reference_or_hole(file: bytes, seeds: Sequence[int]) -> UInt8 | None:
    """The reference's views; None where the file is a hole."""
    try:
        return reference_views(file, seeds, DAMAGED_SPEC)
    except BadImageError:
        return None


def reference_eval_or_hole(file: bytes, spec: EvalViewSpec) -> UInt8 | None:
    """The reference's evaluation view, uint8 [1, 3, S, S]; None where there is none."""
    try:
        return reference_eval(file, spec)[None]
    except BadImageError:
        return None


def processors() -> list[str]:
    """The instruction sets that this machine has and this build knows; another program chooses its own."""
    return [name for name in PROCESSORS if native.supports(name)] or [""]


def use(renderer: RemoteRenderer) -> None:
    """Render by another program instead of the extension."""
    setattr(native, "module", lambda: renderer)  # noqa: B010  assigning to a function is what mypy refuses
    setattr(native, "_module", lambda: renderer)  # noqa: B010


def unoptimised(arguments: list[str]) -> int:
    """Build a copy with -O1 into a temporary folder and run this there: its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        flags = {"TINYVIT_KD_CFLAGS": "-O1"}
        build = [
            sys.executable,
            "setup.py",
            "-q",
            "build",
            "--build-base",
            f"{folder}/work",
            "--build-lib",
            f"{folder}/lib",
        ]
        subprocess.run(build, cwd=REPOSITORY, check=True, env=os.environ | flags)
        paths = {"PYTHONPATH": f"{folder}/lib{os.pathsep}{REPOSITORY}"}
        command = [sys.executable, "-P", "-m", "benchmarks.native_equality", *arguments]
        return subprocess.run(command, check=False, env=os.environ | paths).returncode


def print_table(rows: dict[str, Count]) -> None:
    """Compared, differing, and left to the reference."""
    print(f"| {'':40} | compared | differing | left to the reference |\n|---|---|---|---|")
    for name, row in rows.items():
        print(f"| {name:40} | {row.compared:8,} | {row.differing:9,} | {row.given_up:21,} |")


if __name__ == "__main__":
    main()
