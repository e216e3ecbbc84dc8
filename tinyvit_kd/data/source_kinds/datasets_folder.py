"""Folders as Hugging Face's ``datasets`` saves them, and as its hub holds them: Arrow or Parquet files with splits.

Sources: ``datasets/arrow_dataset.py`` (``save_to_disk``: data-*.arrow, state.json, dataset_info.json),
``datasets/dataset_dict.py`` (dataset_dict.json) and the hub's pages on repository structure
(data/train-00000-of-00002.parquet, or a folder for each split).
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tinyvit_kd.data.building.source_rules import Listing
from tinyvit_kd.data.building.split_names import plain_splits
from tinyvit_kd.data.source_kinds.arrow_tables import find_in_arrow_files
from tinyvit_kd.data.source_kinds.found import FoundSource
from tinyvit_kd.errors import ConfigError, ShardError
from tinyvit_kd.runtime.files import read_small_json
from tinyvit_kd.runtime.wording import first_few

_STATE, _INFO, _DICT = "state.json", "dataset_info.json", "dataset_dict.json"
_NUMBERED = re.compile(r"(?P<split>.+?)-(?P<number>\d{3,})-of-(?P<count>\d{3,})(-[0-9a-f]{8,})?")
_DEPTH = 2  # folders below the source in which its files may lie
_LOOKED_AT, _FOLDERS = 1000, 20  # entries of a folder, and folders in it, that are looked at to tell what it is
_SHOWN = 5  # names in a message
_SAME = (("train", "training"), ("val", "validation", "valid", "dev"), ("test", "testing"))


@dataclass(frozen=True)
class _Split:
    files: Sequence[Path]
    features: Mapping[str, Any]


def is_datasets_folder(path: Path) -> bool:
    """Whether a path is such a folder."""
    if not path.is_dir():
        return False
    return (path / _DICT).is_file() or (path / _STATE).is_file() or _holds_parquet(path, _DEPTH)


def find_in_datasets_folder(listing: Listing, split: str | None) -> FoundSource:
    """The images of a split, or of all.

    Raises:
        ShardError: files are missing, or cannot be read.
        ConfigError: there is no such split, or a column is missing.
    """
    splits = _splits(listing.source)
    if split is not None:
        chosen = splits[_choose(listing, split, list(splits))]
        _require_all_parts(chosen.files)
        return find_in_arrow_files(listing, split, chosen.files, chosen.features)
    for each in splits.values():
        _require_all_parts(each.files)
    found = [
        find_in_arrow_files(listing, name, each.files, each.features)
        for name, each in plain_splits(listing.source, splits).items()
    ]
    declared = [each.declared for each in found]
    if any(each != declared[0] for each in declared):
        raise ShardError(
            "the splits of a data set have different classes",
            where=str(listing.source),
            fix="build each by itself, with --split NAME",
        )
    labels = "names" if any(each.labels == "names" for each in found) else found[0].labels
    splits_found = {name: each.splits[name] for each in found for name in each.splits}
    notes = tuple(dict.fromkeys(note for each in found for note in each.notes))
    return FoundSource(listing, splits_found, labels, declared[0], notes)


def _choose(listing: Listing, split: str, present: Sequence[str]) -> str:
    """The split of the source that a split is built from."""
    wanted = listing.rules.split or split
    alike: tuple[str, ...] = next((names for names in _SAME if wanted in names), ())
    candidates: tuple[str, ...] = (wanted, *(alike if listing.rules.split is None else ()))
    for name in candidates:
        if name in present:
            return name
    if len(present) == 1 and present[0] == "":
        return ""
    raise ConfigError(
        "the data set has no such split",
        where=str(listing.source),
        found=wanted,
        expected=f"one of {', '.join(present)}",
        fix="name it with --source-split, or give the name of one of these with --split",
    )


def _splits(path: Path) -> dict[str, _Split]:
    """The splits of a folder; one without a name where it is one split by itself."""
    if (path / _DICT).is_file():
        names = read_small_json(path / _DICT).get("splits")
        if not isinstance(names, list) or not names:
            raise _damaged(path / _DICT, "no splits")
        return {str(name): _saved(path / str(name)) for name in names}
    if (path / _STATE).is_file():
        return {"": _saved(path)}
    return _hub_splits(path)


def _saved(folder: Path) -> _Split:
    """A split that ``save_to_disk`` has written."""
    state = read_small_json(folder / _STATE)
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise ShardError(
            "a data set was saved as a selection of its rows",
            where=str(folder / _STATE),
            fix="save dataset.flatten_indices() instead",
        )
    listed = state.get("_data_files")
    entries = [each.get("filename") for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    names = [name for name in entries if isinstance(name, str) and name == Path(name).name]
    if not names or len(names) < len(entries):
        raise _damaged(folder / _STATE, "no _data_files")
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise _damaged(folder / _STATE, f"{missing[0]} is missing")
    features = read_small_json(folder / _INFO).get("features")
    return _Split([folder / name for name in names], features if isinstance(features, dict) else {})


def _damaged(where: Path, found: str) -> ShardError:
    return ShardError(
        "a data set is not whole",
        where=str(where),
        found=found,
        expected="a folder that save_to_disk has written",
        fix="save or fetch it again",
    )


def _hub_splits(path: Path) -> dict[str, _Split]:
    """Splits of Parquet files, by their names or by those of their folders.

    Raises:
        ConfigError: several folders have a split of the same name.
    """
    found: defaultdict[tuple[Path, str], list[Path]] = defaultdict(list)
    for file in _parquet_files(path):
        match = _NUMBERED.fullmatch(file.stem)
        if match is None and file.stem.isdigit() and file.parent != path:  # as the hub converts: train/0000.parquet
            found[file.parent.parent, file.parent.name].append(file)
        else:
            found[file.parent, match["split"] if match else file.stem].append(file)
    names = [name for _, name in found]
    if len(set(names)) < len(names):
        folders = sorted({str(folder) for folder, _ in found})
        raise ConfigError(
            "several folders of a data set have splits of the same name",
            where=str(path),
            found=first_few(folders, 5),
            expected="one configuration of the data set",
            fix="give one of these folders as the source",
        )
    return {name: _Split(files, {}) for (_, name), files in found.items()}


def _require_all_parts(files: Sequence[Path]) -> None:
    """Check that a split's files are as many as their names say: train-00000-of-00002.parquet is one of two.

    Raises:
        ShardError: one is missing, or some belong to another version of the split.
    """
    named = [(file, match) for file in files if (match := _NUMBERED.fullmatch(file.stem))]
    if not named:
        return
    first, match = named[0]
    count, digits = int(match["count"]), len(match["number"])
    numbers = [int(each["number"]) for _, each in named]
    if any(int(each["count"]) != count for _, each in named) or len(set(numbers)) < len(numbers):
        raise ShardError(
            "the files of a split come from several versions of it",
            where=str(first.parent),
            found=first_few([file.name for file, _ in named], _SHOWN),
            expected=f"{count:,} files of different numbers",
            fix="remove the files of the other version",
        )
    counted_from = 1 if count in numbers and 0 not in numbers else 0
    expected, there = range(counted_from, counted_from + count), set(numbers)
    if missing := list(islice((number for number in expected if number not in there), _SHOWN + 1)):
        stem, suffix = f"{match['split']}-", f"-of-{match['count']}{first.suffix}"
        raise ShardError(
            "files of a split are missing",
            where=str(first.parent),
            found=f"{len(numbers):,} of {count:,}; "
            f"no {first_few([f'{stem}{number:0{digits}d}{suffix}' for number in missing], _SHOWN)}",
            expected=f"all {count:,}, as their names say",
            fix="fetch the missing ones; to pack a part alone, give its file as the source",
        )


def _holds_parquet(path: Path, depth: int) -> bool:
    """Whether a Parquet file is among the first entries of a folder, or of a folder in it."""
    try:
        with os.scandir(path) as scan:
            found = [each for each in islice(scan, _LOOKED_AT) if not each.name.startswith(".")]
        folders = sorted(each.path for each in found if each.is_dir())[:_FOLDERS] if depth else []
    except OSError:
        return False
    here = any(each.name.endswith(".parquet") for each in found)
    return here or any(_holds_parquet(Path(folder), depth - 1) for folder in folders)


def _parquet_files(path: Path) -> list[Path]:
    """Parquet files in a folder and a few levels below it, by name; hidden ones left out."""
    files = [file for depth in range(_DEPTH + 1) for file in path.glob("*/" * depth + "*.parquet")]
    visible = (file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts))
    return sorted(file for file in visible if file.is_file())
