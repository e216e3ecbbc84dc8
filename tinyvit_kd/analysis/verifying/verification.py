"""A sample of a store's records computed anew by the teacher: views replayed, answers compared."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import groupby, islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tinyvit_kd.analysis.samples.replayed_views import ReplayedViews
from tinyvit_kd.analysis.verifying.agreement import Agreement, Ranges, agreement, ranges_of
from tinyvit_kd.analysis.verifying.rounding import other_precision, rounding
from tinyvit_kd.errors import BadImageError
from tinyvit_kd.models.answer import ready_to_answer
from tinyvit_kd.models.teacher import Teacher
from tinyvit_kd.runtime.seeding import Draws, hash64, permutation
from tinyvit_kd.store.codec import split_planes
from tinyvit_kd.store.records import Block
from tinyvit_kd.views.decode import decode

_DRAW = 0x766572696679  # keeps these draws apart from others with the same seed


class RecordPlace(NamedTuple):
    """Where a record is."""

    shard: int
    view: int
    number: int  # index of the sample in its shard


class _Seen(NamedTuple):
    """A record, what it may stand for, and the view that it is of."""

    place: RecordPlace
    block: Block  # of one record
    ranges: Ranges
    pixels: npt.NDArray[np.uint8]


@dataclass
class Verification:
    """What was found.

    Attributes:
        asked: records that were looked at.
        compared: of these, those whose view is the one that the teacher saw, so that answers were compared.
        holes: of these, images that cannot be decoded here either.
        different: views that are not those that the teacher saw, and why; holes that can be decoded here.
        unread: blocks that cannot be read, and why.
        agreement: of the answers; None where none was compared.
    """

    asked: int = 0
    compared: list[RecordPlace] = field(default_factory=list)
    holes: int = 0
    different: list[tuple[RecordPlace, str]] = field(default_factory=list)
    unread: list[tuple[RecordPlace, str]] = field(default_factory=list)
    agreement: Agreement | None = None


def choose_records(
    present: Sequence[tuple[int, int]], lengths: Sequence[int], count: int, seed: int
) -> list[RecordPlace]:
    """A random sample of records, spread over as many blocks as it can be; sorted.

    Args:
        present: (shard, view) of the blocks that are there.
        lengths: samples of each shard.
        count: of records; all are taken if there are no more.
    """
    order = permutation(hash64(seed, _DRAW), len(present))
    left, chosen = count, list[RecordPlace]()
    for done, number in enumerate(order.tolist()):
        shard, view = present[number]
        share = min(lengths[shard], -(-left // (len(present) - done)))
        draws = Draws(seed, _DRAW, shard, view)
        first = permutation(draws.bits(), lengths[shard])[:share]
        chosen += [RecordPlace(shard, view, index) for index in first.tolist()]
        left -= share
    return sorted(chosen)


def verify_records(
    views: ReplayedViews,
    teacher: Teacher,
    places: Sequence[RecordPlace],
    batch_size: int,
    tf32: bool,
    on_record: Callable[[int, int], None],
) -> Verification:
    """Replay the views of some records, ask the teacher again, and compare.

    Args:
        teacher: in the precision of its answers here.
        batch_size: views in one forward pass.
        tf32: whether float32 is TF32.
        on_record: called with (done, all).

    Raises:
        ShardError: a shard cannot be read.
    """
    found = Verification(asked=len(places))
    second = copy.copy(teacher)  # with the same network
    second.precision = other_precision(teacher.precision, views.store.manifest.teacher.precision)
    ready_to_answer(teacher.network, teacher.device)
    parts = []
    seen = _seen(views, places, found, on_record)
    while batch := list(islice(seen, batch_size)):
        parts.append(_compare(views, (teacher, second), batch, min(batch_size, len(places)), tf32))
        found.compared += [each.place for each in batch]
    found.agreement = Agreement.join(parts) if parts else None
    return found


def _seen(
    views: ReplayedViews, places: Sequence[RecordPlace], found: Verification, on_record: Callable[[int, int], None]
) -> Iterator[_Seen]:
    """The records whose views are those that the teacher saw; what is wrong with others is noted."""
    done = 0
    for (shard, view), group in groupby(places, key=lambda place: place[:2]):
        members = list(group)
        ranges = None
        for place in members:
            replayed = views.view(shard, place.number, view)
            done += 1
            on_record(done, len(places))
            if replayed.record is None:
                found.unread.append((place, str(replayed.error)))
                break  # so are the others of its block
            if replayed.hole:
                _note_hole(views, place, found)
            elif replayed.error is not None or replayed.pixels is None:
                found.different.append(
                    (place, f"{replayed.error.what}, {replayed.error.found}" if replayed.error else "")
                )
            else:
                ranges = _ranges(views, shard, view) if ranges is None else ranges
                yield _Seen(place, replayed.record, ranges.take([place.number]), replayed.pixels)


def _note_hole(views: ReplayedViews, place: RecordPlace, found: Verification) -> None:
    try:
        decode(views.reader.read(place.shard, place.number), views.spec.max_pixels)
    except BadImageError:
        found.holes += 1
    else:
        found.different.append((place, "a hole in the store, but its image can be decoded here"))


def _ranges(views: ReplayedViews, shard: int, view: int) -> Ranges:
    store = views.store
    header = store.header(shard, view)
    return ranges_of(split_planes(store.read_planes(shard, view), header), header.encoding)


def _compare(
    views: ReplayedViews, teachers: tuple[Teacher, Teacher], batch: Sequence[_Seen], rows: int, tf32: bool
) -> Agreement:
    """Ask the teacher, in both precisions, for a batch of views."""
    size = views.spec.size
    # Of full size always, as in a dump: a network's arithmetic may depend on the batch's shape.
    pixels = torch.zeros(rows, 3, size, size, dtype=torch.uint8)
    for row, each in enumerate(batch):
        pixels[row] = torch.from_numpy(each.pixels)
    with torch.inference_mode():
        logits, others = (
            teacher(pixels.to(teacher.device))[: len(batch)].double().cpu().numpy() for teacher in teachers
        )
    stored = views.store.manifest.teacher.precision
    apart = rounding(logits, others, (teachers[0].precision, teachers[1].precision), stored, tf32)
    block = Block(*(np.concatenate([getattr(each.block, one.name) for each in batch]) for one in fields(Block)))
    ranges = Ranges(*(np.concatenate([getattr(each.ranges, one.name) for each in batch]) for one in fields(Ranges)))
    return agreement(block, ranges, logits, apart)
