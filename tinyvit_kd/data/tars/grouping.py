"""Puts the files of a tar together as samples, and counts what belongs to none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from tinyvit_kd.data.labels.sample_labels import FoundLabel
from tinyvit_kd.data.tars.dotted_names import HoldsImage, Parts, Sample, companion_suffixes, divided, image_of
from tinyvit_kd.data.tars.leftovers import Leftovers
from tinyvit_kd.data.tars.member import Member
from tinyvit_kd.data.tars.member_names import (
    LABEL_SUFFIXES,
    PLAIN_LABELS,
    is_plain,
    kind_of_suffix,
    passed_over,
    split_name,
)

ReadLabel = Callable[[Parts], FoundLabel]


def samples_of(
    members: Iterable[Member], leftovers: Leftovers, read_label: ReadLabel, holds_image: HoldsImage
) -> list[Sample]:
    """The samples of a tar, in its order.

    Neighbours with the same key, which is their name up to the first dot, are a sample, as in webdataset; a repeated
    suffix begins a new one. Files of a key that stand apart are put together where that can be done in one way only.
    What has no image by that rule is divided by ``dotted_names.divided``.

    Args:
        members: of the tar, in order.
        leftovers: counts the files that are in no sample.
        read_label: reads the label of a sample. It is called as soon as a sample's neighbours are known, so that a tar
            is read from front to back.
        holds_image: whether a file of unknown suffix is an image, by its first bytes.
    """
    loose: list[Member] = []
    samples: list[Sample] = []
    for key, parts in group_members(members, leftovers, loose):
        image = image_of(parts)
        if image is not None and "cls" not in parts and len(parts) > 1:
            _adopt_labels(parts)
        samples.append(Sample(key, parts, image, None if image is None else read_label(parts)))
    apart = len({sample.key for sample in samples}) < len(samples)
    if apart:
        samples = _put_together(samples)
    samples = _with_loose(samples, loose, leftovers)
    imaged = {sample.key for sample in samples if sample.image is not None} if apart else set()
    companions = companion_suffixes(samples)
    found: list[Sample] = []
    for sample in samples:
        if sample.image is not None and is_plain(tuple(sample.parts)):
            found.append(sample)
            continue
        divided_samples = divided(sample, companions, leftovers, holds_image)
        if not divided_samples:
            _count_imageless(sample, leftovers, read_label, repeated=sample.key in imaged)
        found += divided_samples
    for sample in found:
        if sample.label is None:
            sample.label = read_label(sample.parts)
    return found


def group_members(
    members: Iterable[Member], leftovers: Leftovers | None = None, loose: list[Member] | None = None
) -> Iterator[tuple[str, Parts]]:
    """Group adjacent members with the same key into samples; a repeated suffix begins a new sample.

    Args:
        members: in the tar's order.
        leftovers: counts the files that are passed over for their names.
        loose: takes the files without a suffix.

    Yields:
        key and members by suffix, for each sample.
    """
    leftovers = Leftovers() if leftovers is None else leftovers
    key = ""
    parts: Parts = {}
    for member in members:
        if (cause := passed_over(member.name)) is not None:
            leftovers.count(cause, member.name)
            continue
        if (name := split_name(member.name)) is None:
            if loose is not None:
                loose.append(member)
            continue
        member_key, suffix = name
        if member_key != key or suffix in parts:
            if parts:
                yield key, parts
            key = member_key
            parts = {}
        parts[suffix] = member
    if parts:
        yield key, parts


def _adopt_labels(parts: Parts) -> None:
    """Take a label that is named after the whole name of an image (``a.jpg.json``) for the sample's."""
    if not LABEL_SUFFIXES.isdisjoint(parts):
        return
    for suffix, member in list(parts.items()):
        image, _, last = suffix.rpartition(".")
        if last in LABEL_SUFFIXES and kind_of_suffix(image) == "image":
            parts[last] = member


def _put_together(samples: list[Sample]) -> list[Sample]:
    """Join the files of each key that stand apart in a tar, or else those within each of the joined archives."""
    by_key: dict[str, list[Sample]] = {}
    for sample in samples:
        by_key.setdefault(sample.key, []).append(sample)
    gone: set[int] = set()
    for pieces in by_key.values():
        if len(pieces) == 1 or _join(pieces, gone):
            continue
        by_part: dict[int, list[Sample]] = {}
        for piece in pieces:
            by_part.setdefault(next(iter(piece.parts.values())).part, []).append(piece)
        for within in by_part.values():
            _join(within, gone)
    return [sample for sample in samples if id(sample) not in gone]


def _join(pieces: list[Sample], gone: set[int]) -> bool:
    """Join pieces into the one with the image, unless a suffix repeats or there are several images."""
    suffixes = [suffix for piece in pieces for suffix in piece.parts]
    with_image = [piece for piece in pieces if piece.image is not None]
    if len(set(suffixes)) < len(suffixes) or len(with_image) > 1:
        return False
    first = (with_image or pieces)[0]
    first.parts = {suffix: member for piece in pieces for suffix, member in piece.parts.items()}
    first.image = image_of(first.parts)
    first.label = None
    gone.update(id(piece) for piece in pieces if piece is not first)
    return True


def _with_loose(samples: list[Sample], loose: list[Member], leftovers: Leftovers) -> list[Sample]:
    """Add files without a suffix: to the sample of that key if it has no image, else as samples of their own."""
    if not loose:
        return samples
    by_key = {sample.key: sample for sample in samples}
    added = []
    for member in loose:
        key = member.name.rstrip(".")
        sample = by_key.get(key)
        if sample is None:
            added.append(Sample(key, {"": member}, None))
        elif sample.image is None and "" not in sample.parts:
            sample.parts[""] = member
        else:
            leftovers.count("other", member.name)
    return samples + added


def _count_imageless(sample: Sample, leftovers: Leftovers, read_label: ReadLabel, repeated: bool) -> None:
    """Count files of a key without an image: one lost sample if they have a label, else files that are nothing."""
    label = read_label(sample.parts)
    is_lost = (
        not PLAIN_LABELS.isdisjoint(sample.parts)
        or label.number >= 0
        or ("json" in sample.parts and label.texts)
        or any(kind_of_suffix(suffix) == "dotted_image" for suffix in sample.parts)
    )
    if is_lost:
        leftovers.count("repeated" if repeated else "no_image", next(iter(sample.parts.values())).name)
        return
    for member in sample.parts.values():
        leftovers.count("other", member.name)
