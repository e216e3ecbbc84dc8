"""Labels that are texts: how an index keeps them, and how a class list makes numbers of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.data.labels.sample_labels import NO_LABEL, FoundLabel

Int64 = npt.NDArray[np.int64]
Uint8 = npt.NDArray[np.uint8]

_BETWEEN = "\n"  # between the texts of one sample; none contains a line feed


class TextLabels(NamedTuple):
    """Labels of one shard that are no numbers, as arrays that an index can keep.

    Attributes:
        codes: each sample's number in the table, -1 if its label is a number or missing: int64 [n], or [0] where no
            label is a text.
        table: the distinct texts, one after the other.
        ends: their ends in ``table``: int64 [distinct texts].
        notes: what was found instead of a number, for people: in the first sample that has no label at all, a line
            feed, and in the first one whose label is a text.
    """

    codes: Int64
    table: Uint8
    ends: Int64
    notes: Uint8

    def texts(self) -> list[tuple[str, ...]]:
        """The texts of each entry of the table, the likeliest first."""
        starts = [0, *self.ends.tolist()[:-1]]
        content = self.table.tobytes()
        entries = [content[start:end] for start, end in zip(starts, self.ends.tolist(), strict=True)]
        return [tuple(entry.decode("utf-8", "replace").split(_BETWEEN)) for entry in entries]


_NONE, _NO_BYTES = np.empty(0, np.int64), np.empty(0, np.uint8)
NO_TEXTS = TextLabels(_NONE, _NO_BYTES, _NONE, _NO_BYTES)


def pack_labels(found: Sequence[FoundLabel]) -> tuple[Int64, TextLabels]:
    """The labels of a shard's samples as arrays: int64 [n], -1 where there is no number, and the texts."""
    labels = np.array([each.number for each in found], dtype=np.int64)
    entries = [_BETWEEN.join(each.texts) for each in found]
    numbers: dict[str, int] = {}
    codes = [numbers.setdefault(entry, len(numbers)) if entry else -1 for entry in entries]
    without = next((each.note for each in found if each.number == NO_LABEL and not each.texts), "")
    with_text = next((each.note for each in found if each.texts), "")
    if not without and not with_text:
        return labels, NO_TEXTS
    encoded = [entry.encode("utf-8", "replace") for entry in numbers]
    return labels, TextLabels(
        codes=np.array(codes if numbers else [], dtype=np.int64),
        table=np.frombuffer(b"".join(encoded), dtype=np.uint8),
        ends=np.cumsum([len(each) for each in encoded], dtype=np.int64),
        notes=np.frombuffer(_BETWEEN.join((_one_line(without), _one_line(with_text))).encode(), dtype=np.uint8),
    )


@dataclass(frozen=True)
class LabelRule:
    """How labels become classes.

    Attributes:
        classes: the class list in which names and ids are looked up; None: it is not known.
        first: the number of the first class; 1 for labels that count from 1.
    """

    classes: ClassList | None = None
    first: int = 0

    def apply(self, labels: Int64, texts: TextLabels) -> Int64:
        """Classes of a shard's samples: int64 [n], -1 where there is none."""
        if self.first:
            labels = np.where(labels >= self.first, labels - self.first, NO_LABEL)
        if len(texts.codes) and self.classes is not None:
            classes = np.array([self._class_of(each) for each in texts.texts()], dtype=np.int64)
            labels = np.where(texts.codes >= 0, classes[texts.codes], labels)
        return labels

    def why_none(self, index: int, label: int, texts: TextLabels) -> str:
        """Why a sample has no class, for people, as far as its index says.

        Args:
            index: of a sample for which ``apply`` gives -1.
            label: its label in the index.
            texts: of its shard.
        """
        without, _, with_text = texts.notes.tobytes().decode("utf-8", "replace").partition(_BETWEEN)
        if label >= 0:
            return f"its label is {label}, and the first class is number {self.first}"
        if not len(texts.codes) or (code := int(texts.codes[index])) < 0:
            return without
        first_text = int(texts.codes[np.argmax(texts.codes >= 0)])
        said = with_text if code == first_text else f"its label is {' or '.join(map(repr, texts.texts()[code]))}"
        if self.classes is None:
            return f"{said}; no class list is known in which to look it up"
        return f"{said}; it is none of the {len(self.classes.ids):,} classes in the list {self.classes.name}"

    def _class_of(self, texts: tuple[str, ...]) -> int:
        assert self.classes is not None
        return next((found for text in texts if (found := self.classes.find(text)) >= 0), NO_LABEL)


def _one_line(text: str) -> str:
    return text.replace(_BETWEEN, " ")
