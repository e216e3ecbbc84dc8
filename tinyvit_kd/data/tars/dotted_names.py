"""Files whose names have several dots: which of them are samples of their own, and which go with another image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tinyvit_kd.data.image_formats import IMAGE_SUFFIXES
from tinyvit_kd.data.labels.sample_labels import FoundLabel
from tinyvit_kd.data.tars.leftovers import Leftovers
from tinyvit_kd.data.tars.member import Member
from tinyvit_kd.data.tars.member_names import LABEL_SUFFIXES, PLAIN_LABELS, is_field, kind_of_suffix, split_at_last_dot

Parts = dict[str, Member]  # the files of a sample, by suffix
HoldsImage = Callable[[Member], bool]


@dataclass(slots=True)
class Sample:
    """Files that share a key.

    Attributes:
        key: what their names begin with, folders included.
        parts: the files by suffix.
        image: the file that is the sample's image; None if there is none.
        label: None if it has not been looked for.
    """

    key: str
    parts: Parts
    image: Member | None
    label: FoundLabel | None = None


def image_of(parts: Mapping[str, Member]) -> Member | None:
    """The image of a sample: of several, the one whose suffix is first in ``IMAGE_SUFFIXES``."""
    for suffix in IMAGE_SUFFIXES:
        if suffix in parts:
            return parts[suffix]
    return None


def companion_suffixes(samples: Iterable[Sample]) -> set[str]:
    """Suffixes such as ``seg.png``, of files that stand beside an image somewhere in the tar."""
    return {
        suffix
        for sample in samples
        if sample.image is not None and len(sample.parts) > 2
        for suffix, member in sample.parts.items()
        if kind_of_suffix(suffix) == "dotted_image" and is_field(member.name)
    }


def divided(sample: Sample, companions: set[str], leftovers: Leftovers, holds_image: HoldsImage) -> list[Sample]:
    """The samples among files that have the same name up to its first dot.

    * If one of them is an image (``a.jpg``), they are one sample. Further images with further dots (``a.1.jpg``) are
      samples of their own if they have a label of their own (``a.1.cls``). If not, those with the name of a field
      (``a.seg.png``) belong to the sample, and the others are counted as lost.
    * Otherwise keys reach to the last dot: ``a.1.jpg`` and ``a.2.jpg`` are two samples, and ``a.cls`` labels both.
    * Where no suffix is that of an image, the first bytes of files of unknown suffix decide.

    Args:
        sample: the files, and their image if there is one by suffix.
        companions: suffixes that are not taken for images of their own, from ``companion_suffixes``.
        leftovers: counts images that are in no sample.
        holds_image: whether a file is an image, by its first bytes.
    """
    if sample.image is not None:
        return [sample, *_beside(sample, leftovers)]
    common = {suffix: member for suffix, member in sample.parts.items() if "." not in suffix}
    found = []
    for key, parts in _by_last_dot(sample.parts).items():
        wanted = {last: m for last, m in parts.items() if split_suffix(m, sample.key) not in companions}
        image = image_of(wanted) or _by_bytes(wanted, leftovers, holds_image)
        if image is not None:
            found.append(Sample(key, common | parts, image))
            _count_further(parts, image, leftovers)
    image = _by_bytes(common, leftovers, holds_image)
    if image is not None:
        found.insert(0, Sample(sample.key, sample.parts, image))
    return found


def _beside(sample: Sample, leftovers: Leftovers) -> list[Sample]:
    """Samples of their own beside an image that has the same name up to the first dot."""
    assert sample.image is not None
    _count_further(sample.parts, sample.image, leftovers)
    found = []
    for key, parts in _by_last_dot(sample.parts).items():
        image = image_of(parts)
        if image is None:
            continue
        own_labels = PLAIN_LABELS if is_field(image.name) else LABEL_SUFFIXES  # a mask may have a json of its own
        if not own_labels.isdisjoint(parts):
            found.append(Sample(key, parts, image))
            _count_further(parts, image, leftovers)
        else:
            leftovers.count("companion" if is_field(image.name) else "second_image", image.name)
    return found


def _by_last_dot(parts: Parts) -> dict[str, Parts]:
    """The files with several dots, by their names up to the last one and by what follows it."""
    divided: dict[str, Parts] = {}
    for suffix, member in parts.items():
        if "." in suffix:
            key, last = split_at_last_dot(member.name)
            divided.setdefault(key, {})[last] = member
    return divided


def split_suffix(member: Member, key: str) -> str:
    """The lower-case suffix of a file that follows its key."""
    return member.name[len(key) + 1 :].lower()


def _by_bytes(parts: Parts, leftovers: Leftovers, holds_image: HoldsImage) -> Member | None:
    images = [m for suffix, m in parts.items() if kind_of_suffix(suffix) == "unknown" and holds_image(m)]
    for image in images[1:]:
        leftovers.count("second_image", image.name)
    return images[0] if images else None


def _count_further(parts: Parts, image: Member, leftovers: Leftovers) -> None:
    """Count the other images of a sample: webdataset lets it have a jpg and a png."""
    for suffix, member in parts.items():
        if member is not image and kind_of_suffix(suffix) == "image":
            leftovers.count("companion", member.name)
