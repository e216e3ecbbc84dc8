"""What a check of a store found: faults, and counts of blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FaultKind = Literal[
    "damaged",  # a block that is damaged or belongs somewhere else, or a folder in place of a block
    "unread",  # what the system refused to read; it may be undamaged
    "array",  # a shard's zarr.json, without which its blocks cannot be read
    "classes",  # the class list
    "partial",  # an unfinished file that a killed writer left behind
    "foreign",  # what is not part of the store
]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a store.

    Attributes:
        kind: what sort of fault it is, which decides what can be done about it.
        name: the file's name in the store.
        where: the file's path or URL, for people.
        reason: what is wrong with the file, for people.
        block: (shard, view), if the file is a block.
        differing: fields of the block's header that are not as expected.
    """

    kind: FaultKind
    name: str
    where: str
    reason: str = ""
    block: tuple[int, int] | None = None
    differing: tuple[str, ...] = ()


@dataclass
class StoreReport:
    """What was found in a store, or in one shard of it."""

    present: int = 0  # blocks, damaged ones included
    missing: int = 0  # blocks; not a fault, because a dump may be unfinished
    unchecked: int = 0  # present blocks whose array cannot be opened
    unlisted: int = 0  # blocks that may be present or missing: the system refuses to list their folder
    undamaged: int = 0  # blocks that were read and are right
    bytes: int = 0  # of the undamaged blocks
    faults: list[Fault] = field(default_factory=list)
    recent_partials: list[str] = field(default_factory=list)  # unfinished files that a dump may still be writing

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    @property
    def complete(self) -> bool:
        """Whether no block is missing, as far as folders can be listed."""
        return not (self.missing or self.unlisted)

    def add(self, other: StoreReport) -> None:
        """Add what was found elsewhere in the store."""
        self.present += other.present
        self.missing += other.missing
        self.unchecked += other.unchecked
        self.unlisted += other.unlisted
        self.undamaged += other.undamaged
        self.bytes += other.bytes
        self.faults += other.faults
        self.recent_partials += other.recent_partials
