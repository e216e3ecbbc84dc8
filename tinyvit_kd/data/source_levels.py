"""Whether the folders of a source can be its classes; where they may be something else, the build stops and asks."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from tinyvit_kd.data.left_out import MEANINGS, Cause
from tinyvit_kd.data.source_archives import folders_of, shared_folders
from tinyvit_kd.data.source_rules import Listing
from tinyvit_kd.data.sources import ClassSource
from tinyvit_kd.errors import ShardError

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
            f"{left_out.counts[Cause.UNREADABLE]:,} files or folders of the source may not be read",
            where=str(listing.source),
            found=left_out.some(Cause.UNREADABLE),
            fix="allow it (chmod -R u+rX SOURCE), or move them away",
        )
    if left_out.counts[Cause.OUTSIDE_LINK] and listing.rules.outside_links == "stop":
        raise ShardError(
            f"{left_out.counts[Cause.OUTSIDE_LINK]:,} links lead out of the source",
            where=str(listing.source),
            found=left_out.some(Cause.OUTSIDE_LINK),
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
    classes = [each for each in (source for sources in splits.values() for source in sources) if len(each)]
    names = {each.class_name for each in classes}
    if not classes:
        _refuse_archives_inside(listing, [each for sources in splits.values() for each in sources])
        raise ShardError(
            "there are no images in the source",
            where=str(listing.source),
            found="; ".join(listing.left_out.lines(MEANINGS)) or "no files",
            expected="one folder, tar or zip of images per class",
        )
    if listing.rules.folders_are_classes or names <= set(known):
        return
    if _are_splits(names):
        raise ShardError(
            "the folders of the source are named like parts of a data set, not like classes",
            where=str(listing.source),
            found=", ".join(_describe(each) for each in classes[:5]),
            expected="one folder, tar or zip per class",
            fix=f"{_one_level_down(listing, classes[0])}; or build each as a split of its own with "
            f"--split-from-folders; {_ARE_CLASSES}",
        )
    if len(names) == 1 and not known:
        raise ShardError(
            "the source holds a single class",
            where=str(listing.source),
            found=_describe(classes[0]),
            expected="one folder, tar or zip for each of several classes",
            fix=f"{_one_level_down(listing, classes[0])}; {_ARE_CLASSES}",
        )
    for each in classes:
        if folders_below(each):
            raise ShardError(
                "images lie deeper than in the folders of their classes, so that classes cannot be told from the "
                "folders above or below them",
                where=str(each.path),
                found=_describe(each),
                expected="images in the folder of their class itself, or all in one folder inside it",
                fix=f"{_one_level_down(listing, each)}; if all below {each.class_name!r} belongs to one class, give "
                "--folders-are-classes",
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


def _describe(source: ClassSource) -> str:
    """One class: its name, its images, and the folders that they are in."""
    below = folders_below(source)
    inside = f", all in {len(below):,} folders inside it ({', '.join(below[:3])}, …)" if below else ""
    return f"{source.class_name!r} ({len(source):,} images{inside})"


def _one_level_down(listing: Listing, source: ClassSource) -> str:
    if listing.source.is_dir() and (source.is_folder or source.path != listing.source):
        return f"if the classes lie inside {source.class_name!r}, give {source.path} as the source"
    return "if the classes lie one level down, unpack the archive and give the folder that holds them"


def _refuse_archives_inside(listing: Listing, classes: Sequence[ClassSource]) -> None:
    if listing.left_out.counts[Cause.ARCHIVE]:
        place = classes[0].path if len(classes) == 1 else f"one of {', '.join(each.path.name for each in classes[:5])}"
        raise ShardError(
            "the source holds archives inside folders or archives, and no images beside them",
            where=str(listing.source),
            found=listing.left_out.some(Cause.ARCHIVE),
            expected="one folder, tar or zip per class",
            fix=f"give {place} itself as the source, which may be a tar with one tar per class in it; else unpack it",
        )
