"""``store show``: chosen samples as one picture, with their views and what the teacher said of each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tinyvit_kd.analysis.records.store_labels import find_labels, open_stored_shards, shards_beside
from tinyvit_kd.analysis.samples.drawing import Lettering
from tinyvit_kd.analysis.samples.replayed_views import ReplayedView
from tinyvit_kd.analysis.samples.sample_choice import Place, hole_places, named_places, random_places, suspect_places
from tinyvit_kd.analysis.samples.sheets import BEST, picture_beside, sample_sheet
from tinyvit_kd.analysis.samples.stored_samples import StoredSample, StoredSamples
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import BlockMissingError, ConfigError, reason_of
from tinyvit_kd.runtime.files import atomic_write
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.number_lists import listed_numbers
from tinyvit_kd.runtime.wording import counted, printable
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.selfcheck import check_renderers

Tree = dict[str, Any]
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
MAX_SAMPLES, MAX_VIEWS = 100, 16  # of a picture that can still be looked at; JPEG ends at 65,535 pixels
SHOWN_VIEWS = 4  # unless others are asked for


@dataclass(frozen=True)
class Choice:
    """Which samples are shown: all that any of these names.

    Attributes:
        names: SHARD:INDEX, or keys.
        random: how many at random.
        seed: of these.
        suspects, holes: whether to show some of these.
        limit: how many of them.
    """

    names: Sequence[str] = ()
    random: int = 0
    seed: int = 0
    suspects: bool = False
    holes: bool = False
    limit: int = 8


def show(
    path: str | PathLike[str],
    choice: Choice,
    output: Path | None = None,
    views: str | None = None,
    shards: str | None = None,
    trust_transform: bool = False,
    font: Path | None = None,
    processes: int = 1,
    **options: Any,
) -> tuple[str, Tree, bool]:
    """Draw samples of a store.

    Args:
        output: file of the picture; its ending decides the format. None: beside the store.
        views: numbers, as ``parse_views`` takes them; None: the first ones.
        shards: that the store was dumped from; None: those that its results name.
        trust_transform: whether a transform that the store names may be imported and called.
        font: a TrueType or OpenType file; None: Pillow's own.
        processes: that look for suspects.
        options: of ``ShardSet.load``.

    Returns:
        what was drawn, for people and as plain data, and whether every view is the one that the teacher saw.

    Raises:
        StoreError: there is no store.
        ConfigError: there is no such sample or view, nothing to show, or the picture cannot be written.
        ManifestMismatchError, ShardError: the shards are others or cannot be read.
    """
    output = output or picture_beside(path)
    image_format = require_picture(output)
    store = LogitStore.open(path)
    numbers = parse_views(views, store.manifest.views)
    opened = _open_shards(store, shards, options)
    places = _chosen(store, opened, choice, processes)
    check_renderers()
    samples = StoredSamples.open(store, opened, trusted=trust_transform, consent="add --trust-transform")
    with saying("rendering the views", len(places), "sample") as beat:
        found = []
        for place in places:
            found.append(samples.sample(*place, numbers))
            beat.at(len(found), len(places))
    lettering = Lettering(path=font)
    image = sample_sheet(found, samples.names, _title(store), lettering)
    buffer = io.BytesIO()
    image.save(buffer, image_format, **({"quality": 92} if image_format == "JPEG" else {}))
    _write(output, buffer.getvalue())
    result = {
        "picture": str(output),
        "width": image.width,
        "height": image.height,
        "views": numbers,
        "samples": [_told(sample, samples.names) for sample in found],
        "different": sum(view.differs for sample in found for view in sample.views),
        "unreadable_blocks": sum(_is_unreadable(view) for sample in found for view in sample.views),
    }
    faultless = not result["different"] and not result["unreadable_blocks"]
    return "\n".join(_lines(result, found, lettering)), result, faultless


def require_picture(output: Path) -> str:
    """The format of a picture, by the ending of its file, before seconds are spent on it.

    Raises:
        ConfigError: there is none for this ending, or no such folder.
    """
    image_format = FORMATS.get(output.suffix.lower())
    if image_format is None:
        expected = f"a name that ends in {', '.join(FORMATS)}"
        raise ConfigError("no picture has this ending", where="--output", found=str(output), expected=expected)
    if not output.parent.is_dir():
        raise ConfigError("there is no folder for the picture", where="--output", found=str(output.parent))
    return image_format


def parse_views(text: str | None, views: int) -> list[int]:
    """Numbers of views: ``0-3``, ``0,2,5-7``; None: the first ones.

    Args:
        views: V of the store.

    Raises:
        ConfigError: these are no numbers of views, or too many for a picture.
    """
    if text is None:
        return list(range(min(SHOWN_VIEWS, views)))
    numbers = listed_numbers(text, views)
    if numbers is None:
        raise _no_views(text, f"numbers from 0 to {views - 1}, such as 0-3 or 0,2")
    if not 0 < len(numbers) <= MAX_VIEWS:
        raise _no_views(text, f"1 to {MAX_VIEWS} views, the smaller number first")
    return numbers


def _no_views(found: str, expected: str) -> ConfigError:
    return ConfigError("these views cannot be shown", where="--views", found=found[:80], expected=expected)


def _open_shards(store: LogitStore, path: str | None, options: Tree) -> ShardSet:
    found = shards_beside(store) if path is None else open_stored_shards(store, path, **options)
    if found is None:
        raise ConfigError(
            "the images that the store was dumped from are not known",
            where=store.where,
            found=f"a store of {store.manifest.shard_set}, which does not say where its shards are",
            fix="name them with --shards PATH",
        )
    return found


def _chosen(store: LogitStore, shards: ShardSet, choice: Choice, processes: int) -> list[Place]:
    places = named_places(shards, choice.names)
    if choice.suspects:
        places += suspect_places(store, find_labels(store, shards), choice.limit, processes)
    if choice.holes:
        places += hole_places(store, choice.limit)
    if choice.random:
        places += random_places(store.manifest.shard_lengths, choice.random, choice.seed)
    places = list(dict.fromkeys(places))
    if not places:
        kinds = " or ".join(kind for kind, asked in (("suspects", choice.suspects), ("holes", choice.holes)) if asked)
        raise ConfigError(
            "there is nothing to show",
            where=store.where,
            found=f"no {kinds}" if kinds else "no samples",
            fix="name samples, or add --random 8",
        )
    if len(places) > MAX_SAMPLES:
        raise ConfigError(
            "these are too many samples for one picture",
            found=f"{len(places):,}",
            expected=f"at most {MAX_SAMPLES}",
            fix="show some of them; --seed gives others at random",
        )
    return places


def _title(store: LogitStore) -> str:
    manifest = store.manifest
    classes = manifest.class_list or "no class list"
    return (
        f"{store.where}: {manifest.teacher.name}, top {manifest.topk} of {manifest.num_classes:,} classes ({classes})"
    )


def _write(output: Path, data: bytes) -> None:
    try:
        atomic_write(output, data)
    except OSError as error:
        raise ConfigError("cannot write the picture", where=str(output), found=reason_of(error)) from None


def _lines(result: Tree, samples: Sequence[StoredSample], lettering: Lettering) -> list[str]:
    size = f"{result['width']:,} x {result['height']:,} pixels"
    views = counted(len(result["views"]), "view")
    lines = [f"{printable(result['picture'])}: {counted(len(samples), 'sample')} in {views} each, {size}"]
    for sample in samples:
        for view in sample.views:
            if view.error is not None and not view.hole:
                where = f"{sample.shard}:{sample.index} (key {sample.key}), view {view.number}"
                lines.append(printable(f"{where}: {view.error.what}; {view.error.found}"))
    if result["different"]:
        lines.append("views differ: restore the images that the store was dumped from (shards check, store verify)")
    if lettering.lacking:
        letters = "".join(sorted(lettering.lacking)[:20])
        lines.append(f"the font lacks {printable(letters)}, shown as ?; --font FILE gives another")
    return lines


def _told(sample: StoredSample, names: Sequence[str]) -> Tree:
    return {
        "shard": sample.shard_name,
        "index": sample.index,
        "key": sample.key,
        "label": sample.label.name,
        "label_class": sample.label.teacher_class if sample.label.teacher_class >= 0 else None,
        "views": [
            {
                "view": view.number,
                "hole": view.hole or None,
                "same": view.error is None,
                "problem": None if view.error is None or view.hole else view.error.what,
                "mixed_with": mixed and {"index": view.mixed_in, "label": mixed.name, "own_weight": view.lam},
                "top": _best(view, names),
            }
            for view, mixed in zip(sample.views, sample.mixed_labels, strict=True)
        ],
    }


def _best(view: ReplayedView, names: Sequence[str]) -> list[Tree]:
    if view.record is None or view.hole:
        return []
    classes, probs = view.record.indices[0], view.record.probs[0]
    return [
        {"class": int(classes[place]), "name": names[classes[place]], "probability": float(probs[place])}
        for place in np.argsort(-probs, kind="stable")[:BEST].tolist()
    ]


def _is_unreadable(view: ReplayedView) -> bool:
    """Whether a block is there that cannot be read; one that has not been dumped yet is no fault."""
    return view.record is None and not isinstance(view.error, BlockMissingError)
