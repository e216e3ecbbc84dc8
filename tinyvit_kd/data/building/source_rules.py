"""What in a source becomes a sample, by its name and its first bytes, and what is told by the user."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from tinyvit_kd.data.building.left_out import Cause, Tally
from tinyvit_kd.data.image_formats import HEAD_BYTES, IMAGE_SUFFIXES, image_format
from tinyvit_kd.runtime.log import warn

OutsideLinks = Literal["stop", "follow", "leave-out"]
EmptyClasses = Literal["stop", "keep", "leave-out"]
LabelsAre = Literal["numbers", "names"]

_TELL_SECONDS = 8.0
_IMAGES = frozenset(IMAGE_SUFFIXES)
# What systems, file servers and archivers leave in folders; the names that begin with a dot come on top.
_SYSTEM = {
    *("@eadir", "#recycle", "__macosx", "lost+found", "$recycle.bin", "system volume information"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
}
# Raw files are TIFF by their first bytes, but what a TIFF reader finds in them is a thumbnail.
_CAMERA_RAW = {"dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "srf", "sr2", "orf", "rw2", "raf", "pef", "raw", "3fr"}
_ARCHIVES = {"tar", "zip", "gz", "tgz", "bz2", "tbz2", "xz", "txz", "zst", "tzst", "7z", "rar"}
# Other names of a format, by the one that readers of webdataset know.
_ALIASES = {**dict.fromkeys(("jpeg", "jpe", "jfif", "jif", "jfi", "pjpeg", "pjp", "mpo"), "jpg"), "apng": "png"}


@dataclass(frozen=True)
class ColumnNames:
    """Columns of a table, as the user names them; None: a usual name.

    Attributes:
        image: of the images' paths or bytes.
        label: of their labels.
        key: of the samples' keys; empty: there is none, and samples are numbered.
        root: the folder that paths are relative to; None: the one that the table lies in.
    """

    image: str | None = None
    label: str | None = None
    key: str | None = None
    root: Path | None = None


@dataclass(frozen=True)
class SourceRules:
    """What the user says of a source.

    Attributes:
        outside_links: what to do with links that lead out of the source.
        empty_classes: what to do with classes that have no images: ``keep`` gives them a number.
        folders_are_classes: every folder, tar or zip is a class, whatever it is named, even if there is only one, and
            all that lies below it belongs to it.
        unlabelled: the samples get no labels, whatever the source has.
        class_list: the classes in their order, as ``load_class_list`` takes it; None: the source's own.
        first_label: the number of the first class in lists whose labels are numbers.
        labels_are: what the labels in lists are; None: numbers of classes if all of them are numbers, else names.
        labels: what has the labels of ImageNet's validation images: a file, or the folder of its development kit.
        split: the split of the source, if it has another name than the one that is built.
        columns: of tables.
    """

    outside_links: OutsideLinks = "stop"
    empty_classes: EmptyClasses = "stop"
    folders_are_classes: bool = False
    unlabelled: bool = False
    class_list: str | None = None
    first_label: int = 0
    labels_are: LabelsAre | None = None
    labels: Path | None = None
    split: str | None = None
    columns: ColumnNames = field(default_factory=lambda: ColumnNames())


@dataclass
class Listing:
    """One look through a source.

    Attributes:
        source: the folder, tar or zip.
        rules: what the user says of it.
        left_out: filled while the source is listed.
        output: where the shards go; where it lies in the source, it is no class.
        folders: of each archive, all folders in it that hold files; filled, too.
    """

    source: Path
    rules: SourceRules = field(default_factory=SourceRules)
    left_out: Tally = field(default_factory=Tally)
    output: Path | None = None
    folders: defaultdict[Path, set[tuple[str, ...]]] = field(default_factory=lambda: defaultdict(set))
    _seen: int = 0  # files
    _told: float = field(default_factory=time.monotonic)

    @cached_property
    def real_source(self) -> Path:
        """The source with all links resolved."""
        return Path(os.path.realpath(self.source))

    def shown(self, path: Path) -> str:
        """A path for people, from the source on."""
        return path.relative_to(self.source).as_posix() if self.source in path.parents else str(path)

    def _tell_progress(self) -> None:
        """Say once in a while how far the listing is: it may take minutes, and there is no total yet."""
        self._seen += 1
        if self._seen % 1024 == 0 and time.monotonic() > self._told + _TELL_SECONDS:
            self._told = time.monotonic()
            warn(f"listing {self.source}: {self._seen:,} files so far")

    def takes(self, name: str, shown: Callable[[], str], read_head: Callable[[], bytes]) -> bool:
        """Whether a regular file becomes a sample; if not, it is counted.

        A file with the suffix of an image always does: where it is damaged, it is a hole, which is counted later on.

        Args:
            name: of the file, without folders.
            shown: gives its name in messages.
            read_head: gives its first bytes; called where the suffix says nothing.
        """
        self._tell_progress()
        suffix = suffix_of(name)
        if suffix in _IMAGES:
            return True
        if suffix in _CAMERA_RAW:
            cause = Cause.CAMERA_RAW
        elif suffix in _ARCHIVES:
            cause = Cause.ARCHIVE
        elif image_format(read_head()[:HEAD_BYTES]):
            return True
        else:
            cause = Cause.NOT_AN_IMAGE
        self.left_out.add(cause, shown())
        return False


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or belongs to a system or a file server."""
    return name.startswith(".") or name.lower() in _SYSTEM


def is_compressed_tar(name: str) -> bool:
    """Whether a name is that of a compressed tar."""
    return name.lower().endswith((".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst"))


def suffix_of(name: str) -> str:
    """What follows the last dot, in lower case; empty if there is no dot."""
    return name.rpartition(".")[2].lower() if "." in name else ""


def sample_suffix(name: str, content: bytes) -> str:
    """The suffix of an image's member in a shard: of its name if that is an image's, else of its format."""
    suffix = suffix_of(name)
    if suffix not in _IMAGES:
        suffix = image_format(content[:HEAD_BYTES]) or IMAGE_SUFFIXES[0]
    return _ALIASES.get(suffix, suffix)
