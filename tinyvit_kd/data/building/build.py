"""Packs images into shards whose samples can be read in any order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tinyvit_kd.data.building.build_output import open_output, output_folder, require_room, write_info
from tinyvit_kd.data.building.build_report import BuildReport
from tinyvit_kd.data.building.build_source import Found, find_splits, number_source, require_same_classes
from tinyvit_kd.data.building.build_spec import BuildSpec, ImageAssignment, keep_build_spec, source_hash
from tinyvit_kd.data.building.class_source import ClassSource
from tinyvit_kd.data.building.left_out import Tally
from tinyvit_kd.data.building.shard_writer import Sample, ShardTask, write_shard
from tinyvit_kd.data.building.source_rules import Listing, SourceRules
from tinyvit_kd.data.building.split_names import require_plain_name
from tinyvit_kd.data.building.unpacking import Unpacked, unpacking
from tinyvit_kd.data.classes_beside import CLASS_LIST_FILE
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ShardError
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
    labels: Mapping[str, int]  # empty where there are none
    missing: list[int]  # shards
    said: Mapping[str, Any]  # of the split, in the description of the set
    reencode: Reencoding | None


class Reencoding(Protocol):
    """Makes a smaller JPEG file of a large image; it must be importable by name."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """All that its bytes depend on, besides the image."""

    def __call__(self, image: bytes, /) -> bytes | None:
        """The smaller file; None: the image is not too large, or none can be made of it."""


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
    source: Path | Sequence[Path],
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
    reencode: Reencoding | None = None,
) -> BuildReport:
    """Pack the images of a source of any kind, or of several, into webdataset tars.

    The images' bytes are kept as they are unless ``reencode`` is given, and the seed spreads the images over the
    shards. The result depends on nothing but the sources and the arguments. After an interruption, the same call makes
    the missing shards. Only one build at a time may write to a folder; at a URL nothing keeps two apart, but the first
    one's spec and classes hold for both, and what both write is the same. A second split uses the classes of the first.

    Args:
        source: folder, tar, zip or list of the images; or several of these, whose classes are merged by name.
        out: folder or URL for the shards, ``classes.txt`` and, written last, timm's ``_info.json``.
        split: name of the split; None: each folder, tar or zip of the source is a split of that name, or each split
            that a data set declares.
        samples_per_shard: the last shard may have fewer.
        seed: of the random assignment of images to shards.
        processes: how many shards are written at a time.
        on_shard: called after each shard with (finished shards, all shards).
        on_listed: called once before anything is written, with what is known of the source.
        rules: what to do with links, classes without images, and folders that do not look like classes.
        named: how many names are kept of what is left out, for each cause; None: all.
        reencode: makes smaller files of images that are too large.

    Raises:
        ConfigError: a split has other characters than letters, digits and underscores, or a list lacks a column.
        ShardError: the source cannot be read, its folders may not be its classes, its classes do not fit those of
            ``out``, or ``out`` holds shards of another build.
        DiskSpaceError: the shards would not fit on the disk; of those for a URL, the few that are being written.
        BusyError: another process is writing to ``out``.
        StorageError: the service of a URL does not answer, or refuses.
    """
    if split is not None:
        require_plain_name(split)
    rules, left_out = rules or SourceRules(), Tally(named)
    paths = [source] if isinstance(source, Path) else list(source)
    output = open_output(out, paths)
    folder = output_folder(output)
    listings = [Listing(each, rules, left_out, folder) for each in paths]
    with _left_out_told(left_out, on_listed):
        sources = find_splits(listings, split)
        begun = output.info(CLASS_LIST_FILE) is not None
        found = number_source(output, sources, rules)
    with nullcontext() if folder is None else sole_writer(folder):
        if not begun and output.info(CLASS_LIST_FILE) is not None:  # another build has just written its classes
            found = number_source(output, sources, rules)
        report = BuildReport(left_out, found.notes, Tally(named))
        if on_listed is not None:
            on_listed(report)
        size = seed, samples_per_shard
        builds = [_plan(output, each, *size, classes, found, reencode) for each, classes in found.splits.items()]
        with unpacking(output, builds) as unpacked:
            sizes = [_size_per_shard(build) for build in builds for _ in build.missing]
            require_room(output, sizes, processes, unpacked.size)
            _prepare(output, builds, found)
            unpacked.fill()
            _write_shards(builds, processes, report, unpacked, on_shard)
        for build in builds:
            write_info(output, build.spec, build.said)
    report.sets = [ShardSet.load(output.locate(), build.spec.split) for build in builds]
    return report


@contextmanager
def _left_out_told(left_out: Tally, on_listed: OnListed | None) -> Iterator[None]:
    """Tell what is left out before an error, which may be the reason."""
    try:
        yield
    except ShardError:
        if on_listed is not None:
            on_listed(BuildReport(left_out))
        raise


def _plan(
    out: Storage,
    split: str,
    seed: int,
    samples_per_shard: int,
    sources: Sequence[ClassSource],
    found: Found,
    reencode: Reencoding | None,
) -> _Build:
    """Decide which image goes where."""
    sources = [source for source in sources if len(source)]
    samples = sum(len(source) for source in sources)
    resized = None if reencode is None else json.dumps(reencode.facts)
    spec = BuildSpec(split, seed, samples_per_shard, samples, source_hash(sources), found.classes_hash, resized=resized)
    said: dict[str, Any] = {"unlabelled": True} if found.numbers is None else {}
    if reencode is not None:
        said |= {"resized": reencode.facts}
    present = out.infos()
    missing = [shard for shard, name in enumerate(spec.filenames) if name not in present]
    return _Build(spec, out, sources, found.labels, missing, said, reencode)


def _size_per_shard(build: _Build) -> int:
    """An upper limit of the size of a shard on average, bytes; deflated images count with their unpacked size."""
    size = sum(int(each.extents[:, 1:3].max(axis=1).sum()) + _TAR_OVERHEAD * len(each) for each in build.sources)
    return -(-size // len(build.spec.filenames))


def _prepare(out: Storage, builds: list[_Build], found: Found) -> None:
    """Write specs and classes to ``out``, and remove unfinished files that a killed build left behind.

    Raises:
        ShardError: another build has just written other classes, or shards of another spec are there.
    """
    for build in builds:
        keep_build_spec(out, f".{build.spec.split}.plan.json", build.spec)
    if (folder := output_folder(out)) is not None:
        remove_unfinished(folder)
    if found.numbers is None:
        return
    lines = ("\n".join(found.numbers.classes.ids) + "\n").encode()
    if not out.write_new(CLASS_LIST_FILE, lines):
        require_same_classes(out, found.numbers.classes)


def _write_shards(
    builds: list[_Build], processes: int, report: BuildReport, unpacked: Unpacked, on_shard: OnShard | None
) -> None:
    count = sum(len(build.spec.filenames) for build in builds)
    finished = count - sum(len(build.missing) for build in builds)
    tasks = (task for build in builds for task in _tasks(build, unpacked))
    for packed in run_parallel(write_shard, tasks, processes):
        report.undecodable.join(packed.odd)
        report.resized += packed.resized
        finished += 1
        if on_shard is not None:
            on_shard(finished, count)


def _tasks(build: _Build, unpacked: Unpacked) -> Iterator[ShardTask]:
    """For each missing shard, its place and samples."""
    assignment = ImageAssignment(build.spec, build.sources)
    for shard in build.missing:
        samples = [
            Sample(number, build.labels.get(name), name, unpacked.place_of(image), key)
            for number, name, key, image in assignment.images_of(shard)
        ]
        yield ShardTask(build.out, build.spec.filenames[shard], samples, build.reencode)
