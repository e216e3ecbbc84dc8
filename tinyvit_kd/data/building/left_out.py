"""What a build leaves out of a source: by cause, counted, the first ones by name."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath

NAMED = 5  # of each cause, unless all are asked for
SUFFIXES_NAMED = 6
UNNAMED = "others"  # stands for the suffixes of files that were counted without their names


class Cause(StrEnum):
    """Why something in a source becomes no sample; the values are names in the command's JSON."""

    HIDDEN = "hidden_or_system"
    NOT_AN_IMAGE = "not_an_image"
    ARCHIVE = "archive_inside"
    CAMERA_RAW = "camera_raw"
    OUTSIDE_CLASSES = "image_outside_classes"
    DANGLING = "dangling_link"
    LOOP = "link_loop"
    FOLDER_LINK = "folder_link_in_tar"
    OUTSIDE_LINK = "link_out_of_source"
    SPECIAL = "pipe_socket_or_device"
    UNREADABLE = "unreadable"
    EMPTY_CLASS = "empty_class"
    NO_IMAGE = "row_without_image"
    NAMES_FOLDER = "row_names_a_folder"


MEANINGS: Mapping[Cause, str] = {
    Cause.HIDDEN: "hidden, or made by a system",
    Cause.NOT_AN_IMAGE: "not images, by suffix and bytes",
    Cause.ARCHIVE: "archives, to unpack if they hold images",
    Cause.CAMERA_RAW: "raw files of cameras, to develop into JPEG or PNG",
    Cause.OUTSIDE_CLASSES: "images outside of the folders of classes",
    Cause.DANGLING: "links that lead nowhere",
    Cause.LOOP: "links to a folder that they lie in",
    Cause.FOLDER_LINK: "links to folders of the same tar",
    Cause.OUTSIDE_LINK: "links that lead out of the source",
    Cause.SPECIAL: "pipes, sockets, devices and sparse files",
    Cause.UNREADABLE: "files and folders that may not be read",
    Cause.EMPTY_CLASS: "classes without images",
    Cause.NO_IMAGE: "rows of a table without an image",
    Cause.NAMES_FOLDER: "rows of a table that name a folder",
}

_NO_FILES = (Cause.EMPTY_CLASS, Cause.NO_IMAGE, Cause.NAMES_FOLDER)


@dataclass
class Tally:
    """Counts by cause, with the first names of each.

    Args:
        named: how many names of each cause are kept; None: all.
    """

    named: int | None = NAMED
    counts: Counter[str] = field(default_factory=Counter)
    names: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    suffixes: Counter[str] = field(default_factory=Counter)  # of what is not an image
    file_suffixes: Counter[str] = field(default_factory=Counter)  # of all files

    def add(self, cause: str, name: str) -> None:
        """Count one thing."""
        self.add_many(cause, 1, [name])

    def add_many(self, cause: str, count: int, names: list[str]) -> None:
        """Count several things, of which some have names."""
        self.counts[cause] += count
        self._keep(cause, names)
        if cause in _NO_FILES:
            return
        suffixes = Counter(_suffix(name) for name in names)
        suffixes[UNNAMED] += count - len(names)
        self.file_suffixes += suffixes
        if cause == Cause.NOT_AN_IMAGE:
            self.suffixes += suffixes

    def join(self, other: Tally) -> None:
        """Add what another one has counted."""
        self.counts += other.counts
        self.suffixes += other.suffixes
        self.file_suffixes += other.file_suffixes
        for cause, names in other.names.items():
            self._keep(cause, names)

    def _keep(self, cause: str, names: list[str]) -> None:
        kept = self.names[cause]
        kept.extend(names if self.named is None else names[: max(0, self.named - len(kept))])

    def some(self, cause: str) -> str:
        """The names that are kept, and how many more there are."""
        more = self.counts[cause] - len(self.names[cause])
        return ", ".join(map(printable, self.names[cause])) + (f" and {more:,} more" if more > 0 else "")

    def lines(self, meanings: Mapping[Cause, str] | Mapping[str, str]) -> list[str]:
        """One line per cause, for people; with all names, one further line for each."""
        lines = []
        for cause, meaning in meanings.items():
            if not self.counts[cause]:
                continue
            kinds = f": {self._kinds()}" if cause == Cause.NOT_AN_IMAGE else ""
            title = f"{meaning} ({self.counts[cause]:,}{kinds}):"
            if self.named is None:
                lines += [title, *(f"  {printable(name)}" for name in self.names[cause])]
            else:
                lines += [f"{title} {self.some(cause)}"]
        return lines

    def files_by_suffix(self) -> str:
        """How many files of each suffix were counted, in one line; empty if none was."""
        return _most(self.file_suffixes)

    def _kinds(self) -> str:
        return _most(self.suffixes)


def _most(suffixes: Counter[str]) -> str:
    named = Counter({suffix: count for suffix, count in suffixes.items() if suffix != UNNAMED})
    most = named.most_common(SUFFIXES_NAMED)
    rest = suffixes.total() - sum(count for _, count in most)
    return ", ".join(f"{count:,} {suffix}" for suffix, count in most) + (f", {rest:,} others" if rest else "")


def _suffix(name: str) -> str:
    base = PurePath(name).name
    return printable(f".{base.rpartition('.')[2].lower()}") if "." in base.lstrip(".") else "no suffix"


def printable(name: str) -> str:
    """A name as it can be shown: whole if it can be printed and has no marks of its own, else with escapes."""
    return name if name.isprintable() else ascii(name)[1:-1]
