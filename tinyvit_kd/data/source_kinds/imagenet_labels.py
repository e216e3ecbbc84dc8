"""The labels of ImageNet's validation images, in the forms in which they are handed out.

ILSVRC numbers its classes from 1 to 1000 in an order of its own: class 1 is n02119789, a kit fox. Labels of models
count from 0 in the order of the sorted WordNet ids: class 0 is n01440764, a tench. A list of numbers alone therefore
says nothing: the development kit's meta.mat says which WordNet id each number is.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinyvit_kd.data.labels.class_list_text import WORDNET_ID
from tinyvit_kd.data.labels.plain_text import decode_text
from tinyvit_kd.errors import ConfigError, ShardError, reason_of
from tinyvit_kd.runtime.foreign_errors import first_line_of

_TRUTH, _META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
_OF_KIT = ("", "data", "ILSVRC2012_devkit_t12/data")  # folders in which these two may lie
_CLASSES = 1000


def validation_classes(labels: Path, names: Sequence[str]) -> dict[str, str]:
    """The WordNet id of each validation image.

    Args:
        labels: the folder of the development kit, its file of numbers, a text with a WordNet id in each line, in the
            order of the images' names, or Kaggle's LOC_val_solution.csv.
        names: of the images, without folders, sorted.

    Raises:
        ShardError: the labels cannot be read, or do not fit the images.
        ConfigError: there are no such labels, or what is needed to read them is missing.
    """
    file = labels if labels.is_file() else _in_kit(labels, _TRUTH)
    try:
        lines = [line.strip() for line in decode_text(file.read_bytes()).splitlines() if line.strip()]
    except OSError as error:
        raise ConfigError("cannot read a file of labels", where=str(file), found=reason_of(error)) from None
    except UnicodeDecodeError:
        lines = []
    if lines and lines[0].startswith("ImageId"):
        return _of_kaggle(file, lines)
    if len(lines) != len(names):
        raise ShardError(
            "ImageNet's validation labels are not as many as its images",
            where=str(file),
            found=f"{len(lines):,} lines for {len(names):,} images",
            expected="a line for each image, in the order of the images' names",
        )
    ids = lines
    if all(line.isdigit() for line in lines):
        classes = _ilsvrc_classes(file.parent, file)
        ids = [classes.get(int(line), line) for line in lines]
    return dict(zip(names, _wordnet_ids(file, ids), strict=True))


def _wordnet_ids(file: Path, ids: Sequence[str]) -> Sequence[str]:
    odd = next((line for line, each in enumerate(ids, 1) if not WORDNET_ID.fullmatch(each)), None)
    if odd is None:
        return ids
    raise ShardError(
        "a line of ImageNet's validation labels is no class",
        where=f"{file}, line {odd}",
        found=ascii(ids[odd - 1][:60]),
        expected="a WordNet id, such as n01440764, or a number of ILSVRC from 1 to 1000 in every line",
    )


def _of_kaggle(file: Path, lines: Sequence[str]) -> dict[str, str]:
    """Classes from lines such as ``ILSVRC2012_val_00048981,n03995372 85 1 499 272``."""
    rows = [row for row in csv.reader(lines[1:]) if row]
    ids = [row[1].split(" ")[0] if len(row) > 1 else "" for row in rows]
    return {f"{row[0]}.JPEG": each for row, each in zip(rows, _wordnet_ids(file, ids), strict=True)}


def _in_kit(folder: Path, name: str) -> Path:
    for part in _OF_KIT:
        if (folder / part / name).is_file():
            return folder / part / name
    raise ConfigError(
        "a folder is not the development kit of ImageNet",
        where=str(folder),
        expected=f"{_OF_KIT[-1]}/{name} in it",
        fix="unpack ILSVRC2012_devkit_t12.tar.gz, and give its folder with --labels",
    )


def _ilsvrc_classes(folder: Path, truth: Path) -> dict[int, str]:
    """The WordNet id of each of ILSVRC's numbers, from the development kit's meta.mat."""
    if not (folder / _META).is_file():
        raise ConfigError(
            "ILSVRC's numbers of classes say nothing without the development kit's meta.mat",
            where=str(truth),
            found="numbers, which are not those of the sorted WordNet ids: 1 is n02119789, not n01440764",
            expected=f"{_META} beside them, or WordNet ids",
            fix="give the folder of the unpacked ILSVRC2012_devkit_t12.tar.gz with --labels, or a file with a WordNet "
            "id in each line",
        )
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ConfigError(
            "the package that reads meta.mat is not installed",
            where=str(folder / _META),
            found=first_line_of(error),
            fix="pip install 'tinyvit_kd[devkit]', or give a file with a WordNet id in each line with --labels",
        ) from None
    try:
        synsets: Any = loadmat(folder / _META, squeeze_me=True)["synsets"]
        numbered = {int(each["ILSVRC2012_ID"]): str(each["WNID"]) for each in synsets}
    except Exception as error:  # loadmat raises nearly anything on damaged files
        raise ShardError(
            "the development kit's meta.mat cannot be read",
            where=str(folder / _META),
            found=first_line_of(error),
            fix="unpack the kit again",
        ) from None
    # Beyond the thousandth come the inner nodes of WordNet's tree, which no image has as its label.
    return {number: each for number, each in numbered.items() if 1 <= number <= _CLASSES}
