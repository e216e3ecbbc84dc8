"""Sums over a store's records, which add up over blocks and processes. All figures of ``store_statistics`` follow."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

BINS = 200  # of a histogram, from which percentiles are taken
CONFIDENCE_BINS = 10  # of the calibration


@dataclass
class ViewSums:
    """Sums over the records of one view number."""

    records: int = 0  # holes are none
    confidence: float = 0.0  # probability of the best class
    entropy: float = 0.0  # nats
    residual: float = 0.0
    labelled: int = 0  # records whose label is known as a class of the teacher
    right: int = 0  # of these: the label is the best class
    right_top5: int = 0  # of these: it is one of the five best
    label_probability: float = 0.0  # of these

    def add(self, other: ViewSums) -> None:
        """Add other records' sums."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass
class FieldBytes:
    """Bytes of one field of a block."""

    raw: int = 0  # before zstd
    packed: int = 0  # packed on its own

    def add(self, other: FieldBytes) -> None:
        """Add another block's."""
        self.raw += other.raw
        self.packed += other.packed


@dataclass
class BytesSums:
    """Bytes of the blocks whose fields were packed one by one."""

    blocks: int = 0
    records: int = 0  # holes included
    file_bytes: int = 0  # of these blocks, as they are
    by_field: dict[str, FieldBytes] = field(default_factory=dict)

    def add(self, other: BytesSums) -> None:
        """Add other blocks' sums."""
        self.blocks += other.blocks
        self.records += other.records
        self.file_bytes += other.file_bytes
        for name, each in other.by_field.items():
            self.by_field.setdefault(name, FieldBytes()).add(each)


@dataclass
class PairSums:
    """How far the views of a sample agree with each other."""

    pairs: int = 0  # of views of one sample that were read together
    same_best: int = 0  # of these: both have the same best class
    compared: int = 0  # pairs of neighbours, whose distributions were compared
    divergence: float = 0.0  # Jensen-Shannon, nats, of these

    def add(self, other: PairSums) -> None:
        """Add other pairs' sums."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass
class ClassSums:
    """Records by class: int64 [C] each."""

    labelled: Int64  # the label is this class
    right: Int64  # of these: it is the best class
    right_top5: Int64  # of these: it is one of the five best
    best: Int64  # this class is the best one
    stored: Int64  # this class is one of the top K

    @classmethod
    def zeros(cls, num_classes: int) -> ClassSums:
        """Of no record."""
        return cls(*(np.zeros(num_classes, np.int64) for _ in fields(cls)))

    def add(self, other: ClassSums) -> None:
        """Add other records' sums."""
        for each in fields(self):
            getattr(self, each.name)[:] += getattr(other, each.name)


@dataclass
class StoreSums:
    """Everything that is summed up.

    Attributes:
        by_view: sums by view number.
        classes: sums by class.
        kept: float64 [K], what the 1, 2, … K best classes have together.
        histograms: int64 [``BINS``] by figure: confidence and residual from 0 to 1, entropy from 0 to ln C.
        calibration: float64 [``CONFIDENCE_BINS``, 3]: labelled records by confidence, their confidence, how many are
            right.
        pairs: how far views of a sample agree.
        bytes: of fields.
        blocks, block_bytes: number of blocks that were read, and their size on disk.
        samples: of the shards that were looked at.
        holes: samples without views by reason.
        unread: locations of blocks that cannot be read or are damaged, and what is wrong with each.
    """

    classes: ClassSums
    kept: Float64
    by_view: dict[int, ViewSums] = field(default_factory=dict)
    histograms: dict[str, Int64] = field(default_factory=dict)
    calibration: Float64 = field(default_factory=lambda: np.zeros((CONFIDENCE_BINS, 3)))
    pairs: PairSums = field(default_factory=PairSums)
    bytes: BytesSums = field(default_factory=BytesSums)
    blocks: int = 0
    block_bytes: int = 0
    samples: int = 0
    holes: Counter[str] = field(default_factory=Counter)
    unread: list[tuple[str, str]] = field(default_factory=list)

    @classmethod
    def zeros(cls, num_classes: int, topk: int) -> StoreSums:
        """Of no block."""
        return cls(ClassSums.zeros(num_classes), np.zeros(topk))

    def add(self, other: StoreSums) -> None:
        """Add what was found elsewhere in the store."""
        self.classes.add(other.classes)
        self.kept += other.kept
        for view, sums in other.by_view.items():
            self.by_view.setdefault(view, ViewSums()).add(sums)
        for name, counts in other.histograms.items():
            self.histograms[name] = self.histograms.get(name, 0) + counts
        self.calibration += other.calibration
        self.pairs.add(other.pairs)
        self.bytes.add(other.bytes)
        self.blocks += other.blocks
        self.block_bytes += other.block_bytes
        self.samples += other.samples
        self.holes += other.holes
        self.unread += other.unread

    @property
    def total(self) -> ViewSums:
        """The sums over all views."""
        total = ViewSums()
        for _, sums in sorted(self.by_view.items()):
            total.add(sums)
        return total
