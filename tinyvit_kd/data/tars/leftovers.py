"""What of a tar is not in its samples: counted by cause, the first ones by name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

NAMED = 3  # names that are kept per cause and shard
_NAME_LENGTH = 200  # characters of a name that are kept

# Causes that lose a sample, an image or a label that somebody meant to be there.
LOST: Mapping[str, str] = {
    "link": "links to files that the tar lacks",
    "no_image": "samples that have a label or further files, but no image",
    "second_image": "images that share their key with another one",
    "repeated": "files of a key that the tar has several times, far apart",
    "sparse": "images stored as sparse files",
    "special": "images that are devices, pipes or parts of a split archive",
    "not_an_image": "files of a tar in which nothing is known to be an image",
}
# Causes that lose nothing.
PASSED_OVER: Mapping[str, str] = {
    "companion": "further images of a sample, such as masks",
    "other": "files that belong to no image",
    "system": "files of macOS or of tar itself (._…, __MACOSX, PaxHeader)",
    "hidden": "hidden files",
    "folder_link": "links to folders of the tar",
    "trailing": "tars that end with bytes which are no part of them",
}
CAUSES: Mapping[str, str] = {**LOST, **PASSED_OVER}


@dataclass
class Leftovers:
    """What was left out of the samples of a shard, or of several.

    Attributes:
        counts: files by cause, one of ``CAUSES``.
        names: the first names of each cause.
        joined: how many archives stand behind the first one in a tar; their sum over the shards.
        unknown: shards whose index does not say what was left out, because an older version made it.
    """

    counts: dict[str, int] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    joined: int = 0
    unknown: int = 0

    def count(self, cause: str, name: str) -> None:
        """Count one file."""
        assert cause in CAUSES
        self.counts[cause] = self.counts.get(cause, 0) + 1
        names = self.names.setdefault(cause, [])
        if len(names) < NAMED:
            names.append(readable(name)[:_NAME_LENGTH])

    def add(self, shard: str, other: Leftovers) -> None:
        """Add what was left out of another shard, whose name, if it is not "", is put before the names of its files."""
        prefix = f"{shard}:" if shard else ""
        for cause, count in other.counts.items():
            self.counts[cause] = self.counts.get(cause, 0) + count
            names = self.names.setdefault(cause, [])
            names += [f"{prefix}{name}" for name in other.names.get(cause, ())][: NAMED - len(names)]
        self.joined += other.joined
        self.unknown += other.unknown

    def rename(self, cause: str, new_cause: str) -> None:
        """Count what was counted by one cause by another one, which has not been used."""
        self.counts[new_cause] = self.counts.pop(cause)
        self.names[new_cause] = self.names.pop(cause)

    @property
    def lost(self) -> int:
        """How many files were lost: samples, images or labels that could not be taken."""
        return sum(self.counts.get(cause, 0) for cause in LOST)

    def lost_fraction(self, samples: int) -> float:
        """Share of the lost ones in all samples.

        Args:
            samples: those that are not lost.
        """
        return self.lost / max(1, samples + self.lost)

    def describe_lost(self, samples: int) -> str:
        """How many samples are lost and why, in one line; empty if none are.

        Args:
            samples: those that are not lost.
        """
        if not self.lost:
            return ""
        causes = "; ".join(self.lines(LOST))
        return f"{self.lost:,} of {samples + self.lost:,} ({self.lost_fraction(samples):.2%}): {causes}"

    def lines(self, causes: Iterable[str]) -> list[str]:
        """One line per cause that occurs, with its count and first names."""
        return [self._line(cause) for cause in causes if self.counts.get(cause)]

    def to_json(self) -> bytes:
        """Its bytes, for an index file."""
        return json.dumps({"counts": self.counts, "names": self.names, "joined": self.joined}).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Leftovers:
        """What ``to_json`` wrote.

        Raises:
            ValueError, TypeError, AttributeError, KeyError: these are not such bytes.
        """
        tree = json.loads(content)
        counts = {str(cause): int(count) for cause, count in tree["counts"].items() if cause in CAUSES and count > 0}
        names = {str(cause): [str(name) for name in tree["names"][cause][:NAMED]] for cause in counts}
        return cls(counts, names, int(tree["joined"]))

    def _line(self, cause: str) -> str:
        count, names = self.counts[cause], self.names.get(cause, [])
        more = ", …" if count > len(names) else ""
        return f"{CAUSES[cause]}: {count:,} ({', '.join(names)}{more})"


def readable(name: str) -> str:
    """A member's name for people; bytes that are not UTF-8 appear as ``\\xNN``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
