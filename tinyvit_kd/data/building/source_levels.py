"""Whether the folders of a source can be its classes; where they may be something else, the build stops and asks."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from tinyvit_kd.data.building.class_source import ClassSource
from tinyvit_kd.data.building.left_out import MEANINGS, Cause
from tinyvit_kd.data.building.source_archives import folders_of, shared_folders
from tinyvit_kd.data.building.source_rules import Listing
from tinyvit_kd.data.building.sources import advice_on_metadata
from tinyvit_kd.errors import ShardError
from tinyvit_kd.runtime.wording import counted, first_few

_TRAINING = {"train", "training", "trn"}
_EVALUATION = {
    "val",
    "valid",
    "validation",
    "test",
    "testing",
    "tst",
    "eval",
    "evaluation",
    "dev",
    "holdout",
    "minival",
}
# Folders that hold images, or what belongs to them, whatever is on the images.
_NEITHER = {
    *("images", "image", "img", "imgs", "jpegimages", "pictures", "photos", "data", "dataset", "datasets", "samples"),
    *("unlabeled", "unlabelled", "extra", "masks", "annotations", "labels", "splits"),
}
_ARE_CLASSES = "if these are the classes, give --folders-are-classes"


def require_readable(listing: Listing) -> None:
    """Refuse a source of which a part may not be read, or leads elsewhere, unless the rules say what then.

    Raises:
        ShardError: there is such a part.
    """
    left_out = listing.left_out
    if left_out.counts[Cause.UNREADABLE]:
        raise ShardError(
            "files or folders of the source may not be read",
            where=str(listing.source),
            found=f"{left_out.counts[Cause.UNREADABLE]:,}: " + left_out.some(Cause.UNREADABLE),
            fix="allow it (chmod -R u+rX SOURCE), or move them away",
        )
    if left_out.counts[Cause.OUTSIDE_LINK] and listing.rules.outside_links == "stop":
        raise ShardError(
            "links lead out of the source",
            where=str(listing.source),
            found=f"{left_out.counts[Cause.OUTSIDE_LINK]:,}: " + left_out.some(Cause.OUTSIDE_LINK),
            fix="to pack what they lead to, give --outside-links follow; to leave it out, --outside-links leave-out",
        )


def require_class_level(listing: Listing, splits: Mapping[str, Sequence[ClassSource]], known: Collection[str]) -> None:
    """Refuse folders, tars or zips that look like splits, like one class, or like the folders above the classes.

    Args:
        listing: of the source.
        splits: its classes.
        known: classes of splits that were built earlier; folders that are named so are classes.

    Raises:
        ShardError: they may not be classes.
    """
    sources = [source for found in splits.values() for source in found]
    classes = [source for source in sources if len(source)]
    names = {source.class_name for source in classes}
    if classes and (listing.rules.folders_are_classes or names <= set(known)):
        return
    if 2 * listing.left_out.suffixes[".cls"] >= max(1, sum(map(len, classes))):
        raise ShardError(
            "the source holds webdataset tars, with labels beside the images; they are shards already",
            where=str(listing.source),
            found=f"{listing.left_out.suffixes['.cls']:,} .cls files",
            expected="one folder, tar or zip of images per class",
            fix="give them as shards.path in a recipe; shards info and shards check take them, too",
        )
    with_content = [source for source in sources if len(source) or source.archives]
    if _are_splits({source.class_name for source in with_content}):
        raise ShardError(
            "the folders of the source are named like parts of a data set, not like classes",
            where=str(listing.source),
            found=_describe_all(with_content),
            expected="one folder, tar or zip per class",
            fix=_advice(
                advice_on_metadata(listing.source),
                _one_level_down(listing, with_content[0]),
                "to build each as a split of its own, give --split-from-folders" if len(with_content) > 1 else "",
                _ARE_CLASSES if classes else "",
            ),
        )
    if not classes:
        raise _no_images(listing, with_content)
    if len(names) == 1 and not known:
        raise ShardError(
            "the source holds a single class",
            where=str(listing.source),
            found=_describe(classes[0]),
            expected="one folder, tar or zip for each of several classes",
            fix=_advice(
                advice_on_metadata(listing.source),
                _one_level_down(listing, classes[0]),
                "if one class is meant, give --folders-are-classes",
            ),
        )
    if deep := next((source for source in classes if folders_below(source)), None):
        raise ShardError(
            "images lie deeper than in the folders of their classes, so the classes may be the folders above or below",
            where=str(deep.path),
            found=_describe(deep),
            expected="images in the folder of their class itself, or all in one folder inside it",
            fix=_advice(
                _one_level_down(listing, deep),
                "if each folder is one class with all that lies below it, give --folders-are-classes",
            ),
        )


def folders_below(source: ClassSource) -> list[str]:
    """The folders among which a class's images are divided; empty if some lie in its own folder, or all in one."""
    folders = {folders_of(source.name(index)) for index in range(len(source))}
    shared = shared_folders(folders)
    return [] if shared in folders else sorted({folder[len(shared)] for folder in folders})


def _are_splits(names: Collection[str]) -> bool:
    kinds = [_kind(name) for name in names]
    of_splits = sum(kind != "" for kind in kinds)
    # "train" is a class of CIFAR-100, among a hundred; beside "val" it is none.
    return bool(of_splits) and (2 * of_splits >= len(kinds) or {"training", "evaluation"} <= set(kinds))


def _kind(name: str) -> str:
    words = re.findall(r"[^\W\d_]+", name.casefold())
    for kind, known in (("training", _TRAINING), ("evaluation", _EVALUATION), ("neither", _NEITHER)):
        if set(words) & known and (len(words) == 1 or set(words) <= {*_TRAINING, *_EVALUATION, *_NEITHER, "ilsvrc"}):
            return kind
    return ""


def _describe_all(sources: Sequence[ClassSource]) -> str:
    return ", ".join(map(_describe, sources[:5])) + (f" and {len(sources) - 5:,} more" if len(sources) > 5 else "")


def _describe(source: ClassSource) -> str:
    """One class: its name, its images, and the folders that they are in."""
    below = folders_below(source)
    inside = f", all in {counted(len(below), 'folder')} inside it: {first_few(below, 3)}" if below else ""
    archives = f", {counted(source.archives, 'archive')} inside it" if source.archives else ""
    return f"{source.class_name!r} ({counted(len(source), 'image')}{inside}{archives})"


def _advice(*options: str) -> str:
    return "; ".join(option for option in options if option)


def _one_level_down(listing: Listing, source: ClassSource) -> str:
    """What to give where the classes lie inside one of the source's folders, tars or zips; empty if none can."""
    if source.path == listing.source:
        return "if its folders hold the classes' folders, unpack it, and give one of them" if len(source) else ""
    if source.archives and not len(source):
        return (
            f"if {source.class_name!r} holds the classes' tars, give {source.path} as the source"
            if not source.is_folder
            else f"if each archive in {source.class_name!r} is one class, give {source.path} as the source; if "
            "they hold the classes' folders, give one of them"
        )
    if not folders_below(source):
        unsorted = _kind(source.class_name) == "evaluation"
        return f"if {source.class_name!r} holds images of many classes, sort them into one folder per class" * unsorted
    shared = shared_folders({folders_of(source.name(index)) for index in range(len(source))})
    place = source.path.joinpath(*shared) if source.is_folder else source.path
    return f"if the folders inside {source.class_name!r} are the classes, give {place} as the source"


def _no_images(listing: Listing, with_content: Sequence[ClassSource]) -> ShardError:
    where = str(listing.source)
    if with_content:
        return ShardError(
            "the source holds archives where images are expected",
            where=where,
            found=_describe_all(with_content),
            expected="one folder, tar or zip of images per class",
            fix=_advice(_one_level_down(listing, with_content[0]), "else unpack them"),
        )
    return ShardError(
        "there are no images in the source",
        where=where,
        found="; ".join(listing.left_out.lines(MEANINGS)) or "no files",
        expected="one folder, tar or zip of images per class",
    )
