"""Packs images into shards whose samples can be read in any order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

from tinyvit_kd.data.building.build_output import open_output, output_folder, require_room, write_info
from tinyvit_kd.data.building.build_report import BuildReport
from tinyvit_kd.data.building.build_source import find_splits, number_source, require_same_classes
from tinyvit_kd.data.building.build_spec import BuildSpec, ImageAssignment, keep_build_spec, source_hash
from tinyvit_kd.data.building.class_numbers import ClassNumbers
from tinyvit_kd.data.building.left_out import Tally
from tinyvit_kd.data.building.shard_writer import Sample, ShardTask, write_shard
from tinyvit_kd.data.building.source_rules import Listing, SourceRules
from tinyvit_kd.data.building.sources import ClassSource
from tinyvit_kd.data.classes_beside import CLASS_LIST_FILE
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError, ShardError
from tinyvit_kd.runtime.files import remove_unfinished, sole_writer
from tinyvit_kd.runtime.parallel import run_parallel
from tinyvit_kd.storage.base import Storage

OnShard = Callable[[int, int], None]
OnListed = Callable[[BuildReport], None]
_TAR_OVERHEAD = 4096  # bytes per sample at most: three headers, label, description, padding


class _Build(NamedTuple):
    """All that is decided before the first shard of a split is written."""

    spec: BuildSpec
    out: Storage
    sources: Sequence[ClassSource]
    labels: Mapping[str, int]
    missing: list[int]  # shards


def build_shards(
    source: Path,
    out: Path | str,
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
    out: Path | str,
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
    build at a time may write to a folder; at a URL nothing keeps two apart, but the first one's spec and classes hold
    for both, and what both write is the same. A second split uses the classes of the first.

    Args:
        source: folder, tar or zip of the images.
        out: folder or URL for the shards, ``classes.txt`` and, written last, timm's ``_info.json``.
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
        DiskSpaceError: the shards would not fit on the disk; of those for a URL, the few that are being written.
        BusyError: another process is writing to ``out``.
        StorageError: the service of a URL does not answer, or refuses.
    """
    if split is not None:
        _require_plain_name(split)
    output = open_output(out, source)
    folder = output_folder(output)
    listing = Listing(source, rules or SourceRules(), Tally(named), folder)
    with _left_out_told(listing, on_listed):
        splits = find_splits(listing, split)
        begun = output.info(CLASS_LIST_FILE) is not None
        numbers = number_source(output, splits, listing)
    with nullcontext() if folder is None else sole_writer(folder):
        if not begun and output.info(CLASS_LIST_FILE) is not None:  # another build has just written its classes
            numbers = number_source(output, splits, listing)
        report = BuildReport(listing.left_out, numbers.notes, Tally(named))
        if on_listed is not None:
            on_listed(report)
        builds = [_plan(output, each, seed, samples_per_shard, found, numbers) for each, found in splits.items()]
        require_room(output, [_size_per_shard(build) for build in builds for _ in build.missing], processes)
        _prepare(output, builds, numbers.classes)
        _write_shards(builds, processes, report.undecodable, on_shard)
        for build in builds:
            write_info(output, build.spec)
    report.sets = [ShardSet.load(output.locate(), each) for each in splits]
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
    out: Storage,
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
    present = out.infos()
    missing = [shard for shard, name in enumerate(spec.filenames) if name not in present]
    return _Build(spec, out, sources, numbers.labels, missing)


def _size_per_shard(build: _Build) -> int:
    """An upper limit of the size of a shard on average, bytes; deflated images count with their unpacked size."""
    size = sum(int(each.extents[:, 1:3].max(axis=1).sum()) + _TAR_OVERHEAD * len(each) for each in build.sources)
    return -(-size // len(build.spec.filenames))


def _prepare(out: Storage, builds: list[_Build], classes: ClassList) -> None:
    """Write specs and classes to ``out``, and remove unfinished files that a killed build left behind.

    Raises:
        ShardError: another build has just written other classes, or shards of another spec are there.
    """
    for build in builds:
        keep_build_spec(out, f".{build.spec.split}.plan.json", build.spec)
    if (folder := output_folder(out)) is not None:
        remove_unfinished(folder)
    lines = ("\n".join(classes.ids) + "\n").encode()
    if not out.write_new(CLASS_LIST_FILE, lines):
        require_same_classes(out, classes)


def _write_shards(builds: list[_Build], processes: int, undecodable: Tally, on_shard: OnShard | None) -> None:
    count = sum(len(build.spec.filenames) for build in builds)
    finished = count - sum(len(build.missing) for build in builds)
    tasks = (task for build in builds for task in _tasks(build))
    for odd in run_parallel(write_shard, tasks, processes):
        undecodable.join(odd)
        finished += 1
        if on_shard is not None:
            on_shard(finished, count)


def _tasks(build: _Build) -> Iterator[ShardTask]:
    """For each missing shard, its place and samples."""
    assignment = ImageAssignment(build.spec, build.sources)
    for shard in build.missing:
        samples = [
            Sample(number, build.labels[name], name, image) for number, name, image in assignment.images_of(shard)
        ]
        yield ShardTask(build.out, build.spec.filenames[shard], samples)
