"""Packs images into shards whose samples can be read in any order."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tinyvit_kd.data.building.build_report import BuildReport
from tinyvit_kd.data.building.build_source import find_splits, number_source
from tinyvit_kd.data.building.build_spec import BuildSpec, ImageAssignment, keep_build_spec, source_hash
from tinyvit_kd.data.building.class_numbers import ClassNumbers
from tinyvit_kd.data.building.left_out import Tally
from tinyvit_kd.data.building.shard_writer import Sample, write_shard
from tinyvit_kd.data.building.source_rules import Listing, SourceRules
from tinyvit_kd.data.building.sources import ClassSource
from tinyvit_kd.data.classes_beside import CLASS_LIST_FILE
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.data.locating.undescribed import INFO_NAMES
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError, ShardError
from tinyvit_kd.runtime.files import atomic_write, remove_unfinished, require_free_space, sole_writer, write_json
from tinyvit_kd.runtime.parallel import run_parallel

OnShard = Callable[[int, int], None]
OnListed = Callable[[BuildReport], None]
_TAR_OVERHEAD = 4096  # bytes per sample at most: three headers, label, description, padding


class _Build(NamedTuple):
    """All that is decided before the first shard of a split is written."""

    spec: BuildSpec
    out: Path
    sources: Sequence[ClassSource]
    labels: Mapping[str, int]
    missing: list[int]  # shards


def build_shards(
    source: Path,
    out: Path,
    split: str,
    *,
    samples_per_shard: int,
    seed: int,
    processes: int,
    on_shard: OnShard | None = None,
    rules: SourceRules | None = None,
) -> ShardSet:
    """Pack the images of one split into webdataset tars; arguments and errors are those of ``build_splits``."""
    report = build_splits(
        source,
        out,
        split,
        samples_per_shard=samples_per_shard,
        seed=seed,
        processes=processes,
        on_shard=on_shard,
        rules=rules,
    )
    return report.sets[0]


def build_splits(
    source: Path,
    out: Path,
    split: str | None,
    *,
    samples_per_shard: int,
    seed: int,
    processes: int,
    on_shard: OnShard | None = None,
    on_listed: OnListed | None = None,
    rules: SourceRules | None = None,
    named: int | None = Tally.named,
) -> BuildReport:
    """Pack a folder of class folders, class tars or class zips, or an archive of them, into webdataset tars.

    The images' bytes are kept as they are, and the seed spreads the images over the shards. The result depends on
    nothing but the source and the arguments. After an interruption, the same call makes the missing shards. Only one
    build at a time may write to ``out``. A second split uses the classes of the first.

    Args:
        source: folder, tar or zip of the images.
        out: folder for the shards, ``classes.txt`` and, written last, timm's ``_info.json``.
        split: name of the split; None: each folder, tar or zip of the source is a split of that name.
        samples_per_shard: the last shard may have fewer.
        seed: of the random assignment of images to shards.
        processes: how many shards are written at a time.
        on_shard: called after each shard with (finished shards, all shards).
        on_listed: called once before anything is written, with what is known of the source.
        rules: what to do with links, classes without images, and folders that do not look like classes.
        named: how many names are kept of what is left out, for each cause; None: all.

    Raises:
        ConfigError: a split has other characters than letters, digits and underscores.
        ShardError: the source cannot be read, its folders may not be its classes, its classes do not fit those of
            ``out``, or ``out`` holds shards of another build.
        DiskSpaceError: the shards would not fit on the disk.
        BusyError: another process is writing to ``out``.
    """
    if split is not None:
        _require_plain_name(split)
    if out.resolve() == source.resolve():
        raise ConfigError(
            "the shards cannot lie among the folders of the classes",
            where=str(out),
            expected="another folder than the source",
            fix="give another output, for example a folder inside the source",
        )
    listing = Listing(source, rules or SourceRules(), Tally(named), out)
    with _left_out_told(listing, on_listed):
        splits = find_splits(listing, split)
        begun = (out / CLASS_LIST_FILE).exists()
        numbers = number_source(out, splits, listing)
    with sole_writer(out):
        if not begun and (out / CLASS_LIST_FILE).exists():  # another build has just written its classes
            numbers = number_source(out, splits, listing)
        report = BuildReport(listing.left_out, numbers.notes, Tally(named))
        if on_listed is not None:
            on_listed(report)
        builds = [_plan(out, each, seed, samples_per_shard, found, numbers) for each, found in splits.items()]
        require_free_space(out, sum(map(_missing_size, builds)))
        _prepare(out, builds, numbers.classes)
        _write_shards(builds, processes, report.undecodable, on_shard)
        for build in builds:
            _write_info(out, build.spec)
    report.sets = [ShardSet.load(out, each) for each in splits]
    return report


def _require_plain_name(split: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_]+", split):
        raise ConfigError("a split cannot have this name", where="split", found=split, expected="letters, digits and _")


@contextmanager
def _left_out_told(listing: Listing, on_listed: OnListed | None) -> Iterator[None]:
    """Tell what is left out before an error, which may be the reason."""
    try:
        yield
    except ShardError:
        if on_listed is not None:
            on_listed(BuildReport(listing.left_out))
        raise


def _plan(
    out: Path,
    split: str,
    seed: int,
    samples_per_shard: int,
    sources: Sequence[ClassSource],
    numbers: ClassNumbers,
) -> _Build:
    """Decide which image goes where."""
    sources = [source for source in sources if len(source)]
    samples = sum(len(source) for source in sources)
    spec = BuildSpec(split, seed, samples_per_shard, samples, source_hash(sources), numbers.classes.hash)
    missing = [shard for shard, name in enumerate(spec.filenames) if not (out / name).exists()]
    return _Build(spec, out, sources, numbers.labels, missing)


def _missing_size(build: _Build) -> int:
    """An upper limit of the size of missing shards, bytes; deflated images count with their unpacked size."""
    size = sum(int(each.extents[:, 1:3].max(axis=1).sum()) + _TAR_OVERHEAD * len(each) for each in build.sources)
    return size * len(build.missing) // len(build.spec.filenames)


def _prepare(out: Path, builds: list[_Build], classes: ClassList) -> None:
    """Write specs and classes to ``out``, and remove unfinished files that a killed build left behind."""
    for build in builds:
        keep_build_spec(out / f".{build.spec.split}.plan.json", build.spec)
    remove_unfinished(out)
    if not (out / CLASS_LIST_FILE).exists():
        atomic_write(out / CLASS_LIST_FILE, ("\n".join(classes.ids) + "\n").encode())


def _write_shards(builds: list[_Build], processes: int, undecodable: Tally, on_shard: OnShard | None) -> None:
    count = sum(len(build.spec.filenames) for build in builds)
    finished = count - sum(len(build.missing) for build in builds)
    tasks = (task for build in builds for task in _tasks(build))
    for odd in run_parallel(write_shard, tasks, processes):
        undecodable.join(odd)
        finished += 1
        if on_shard is not None:
            on_shard(finished, count)


def _tasks(build: _Build) -> Iterator[tuple[Path, list[Sample]]]:
    """For each missing shard, its path and samples."""
    assignment = ImageAssignment(build.spec, build.sources)
    for shard in build.missing:
        samples = [
            Sample(number, build.labels[name], name, image) for number, name, image in assignment.images_of(shard)
        ]
        yield build.out / build.spec.filenames[shard], samples


def _write_info(out: Path, spec: BuildSpec) -> None:
    """Write timm's ``_info.json``, keeping other splits that are in it."""
    path = out / INFO_NAMES[0]
    info: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {"name": out.name, "splits": {}}
    info["splits"][spec.split] = {
        "name": spec.split,
        "filenames": spec.filenames,
        "shard_lengths": spec.lengths,
        "num_samples": spec.samples,
    }
    write_json(path, info)
