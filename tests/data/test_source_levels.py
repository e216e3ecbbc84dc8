"""Folders that may be something else than classes stop the build, which says what to give instead."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.data.source_trees import classes, tar_of, tar_of_tars, write_tree, zip_of
from tests.data.tars import write_samples
from tests.data.test_sources import build, class_names
from tinyvit_kd.data.building.source_rules import SourceRules
from tinyvit_kd.errors import ConfigError, ShardError

SPLITS = [*classes("train/cat", "train/dog"), *classes("val/cat", "val/dog", count=1)]
Make = Callable[[Path], object]


def folders(*names: str) -> Make:
    return lambda source: write_tree(source, names)


REFUSED: dict[str, tuple[Make, str]] = {
    "train and val": (
        folders(*SPLITS),
        r"not like classes.*'train' \(4 images, all in 2 folders inside it: cat, dog\), 'val'.*"
        r"give \S+/train as the source.*--split-from-folders.*--folders-are-classes",
    ),
    "train and val beside classes": (folders(*SPLITS, *classes("a", "b", "c", "d", "e")), "--split-from-folders"),
    "train2017 and val2017, without classes": (folders(*classes("train2017", "val2017")), "not like classes"),
    "images and masks": (folders(*classes("images", "masks")), "not like classes"),
    "one folder of class folders": (
        folders(*classes("pets/cat", "pets/dog")),
        r"a single class.*'pets' \(4 images.*give \S+/pets as the source",
    ),
    "one folder of images": (folders(*classes("cat")), "a single class.*To do: if one class is meant"),
    "class folders two levels down": (
        folders(*classes("a/b/cat", "a/b/dog", "c/d/rose")),
        r"deeper.*'a' \(4 images, all in 2 folders inside it: cat, dog\).*give \S+/a/b as the source",
    ),
    "images without folders": (folders("0.jpg", "1.jpg"), r"in no class's folder.*2 images \(0.jpg, …\)"),
    "one zip of class folders": (
        lambda source: zip_of(source / "pets.zip", classes("cat", "dog")),
        r"a single class.*give \S+/pets\.zip as the source",
    ),
    "one zip with train in it": (
        lambda source: zip_of(source / "data.zip", SPLITS),
        r"'data' \(6 images, all in 2 folders inside it: train, val\).*give \S+/data\.zip as the source",
    ),
    "one tar of class tars": (
        lambda source: tar_of_tars(source / "all.tar", ("a", "b")),
        r"archives where images are expected.*'all' \(0 images, 2 archives inside it\).*give \S+/all\.tar as",
    ),
    "ImageNet's tars": (
        lambda source: (
            tar_of_tars(source / "ILSVRC2012_img_train.tar", ("n01440764", "n01443537")),
            tar_of(source / "ILSVRC2012_img_val.tar", ["ILSVRC2012_val_00000001.JPEG"]),
        ),
        r"'ILSVRC2012_img_train' \(0 images, 2 archives.*give \S+/ILSVRC2012_img_train\.tar as the source",
    ),
    "a folder of class tars": (
        lambda source: (
            tar_of(write_tree(source, ["train/"]) / "train" / "n01.tar", ["0.jpg"]),
            tar_of(source / "train" / "n02.tar", ["0.jpg"]),
        ),
        r"'train' \(0 images, 2 archives inside it\).*if each archive in 'train' is one class, give \S+/train as the",
    ),
    "one tar of unsorted images": (
        lambda source: tar_of(source / "ILSVRC2012_img_val.tar", ["ILSVRC2012_val_00000001.JPEG"]),
        r"'ILSVRC2012_img_val' \(1 image\).*holds images of many classes, sort them into one folder per class",
    ),
    "a compressed tar per class": (folders("cat.tar.gz", "dog.tar.gz"), "compressed tars.*cat.tar.gz, dog.tar.gz"),
    "shards": (
        lambda source: (
            write_samples(write_tree(source, ["classes.txt"], b"") / "train-000000.tar", 0, 3),
            write_samples(source / "train-000001.tar", 3, 3),
        ),
        "shards already.*6 .cls files.*shards.path",
    ),
    "nothing but texts": (folders("cat/", "dog/"), "no images in the source"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_may_not_be_classes_is_refused_with_what_to_give(make: Make, message: str, tmp_path: Path) -> None:
    make(tmp_path / "source")
    with pytest.raises(ShardError, match=message):
        build(tmp_path / "source")
    assert not (tmp_path / "shards").exists()


TAKEN: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "a folder inside each class": (classes("n01", "n02", inside="images/"), ("n01", "n02")),
    "folders beside a class's images": ([*classes("cat", "dog"), "cat/more/a.jpg", "cat/b/c/d.jpg"], ("cat", "dog")),
    "a class named train among others": (classes("car", "bus", "train", "ship"), ("bus", "car", "ship", "train")),
    "names with such words in them": (classes("test tube", "bullet train", "data glove"), ()),
}


@pytest.mark.parametrize(("names", "expected"), TAKEN.values(), ids=TAKEN)
def test_what_can_only_be_classes_is_taken(names: list[str], expected: tuple[str, ...], tmp_path: Path) -> None:
    report = build(write_tree(tmp_path / "source", names))
    assert report.sets[0].total == len(names)
    assert class_names(report.sets[0]) == (expected or tuple(sorted({name.partition("/")[0] for name in names})))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (SPLITS, ("train", "val")),
        (classes("cat"), ("cat",)),
        (classes("a/b/cat", "a/b/dog", "c/d/rose"), ("a", "c")),
    ],
    ids=["splits", "a single class", "deep"],
)
def test_folders_are_classes_when_told(names: list[str], expected: tuple[str, ...], tmp_path: Path) -> None:
    source = write_tree(tmp_path / "source", names)
    report = build(source, SourceRules(folders_are_classes=True))
    assert class_names(report.sets[0]) == expected
    assert report.sets[0].total == len(names)
    # What a set has as classes is not asked for again.
    assert build(source).sets[0].total == len(names)


def test_a_wrong_level_is_refused_for_a_later_split_too(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "source", SPLITS)
    build(source / "train").sets[0]
    with pytest.raises(ShardError, match="not like classes"):
        build_into(source, source / "shards", "val")
    assert build_into(source / "val", source / "shards", "val") == 2


def build_into(source: Path, out: Path, split: str) -> int:
    from tinyvit_kd.data.building.build import build_shards

    return build_shards(source, out, split, samples_per_shard=9, seed=0, processes=1).total


MAKE_SPLITS: dict[str, Callable[[Path], Path]] = {
    "folders": lambda path: write_tree(path, [*SPLITS, "val/eel/0.jpg", "notes/"]),
    "zips": lambda path: (
        (
            zip_of(path / "train.zip", classes("train/cat", "train/dog")),
            zip_of(path / "val.zip", [*classes("cat", "dog", count=1), "eel/0.jpg"]),
        )[0].parent
    ),
    "one zip": lambda path: zip_of(path.with_suffix(".zip"), [f"d/{name}" for name in (*SPLITS, "val/eel/0.jpg")]),
}


@pytest.mark.parametrize("make", MAKE_SPLITS.values(), ids=MAKE_SPLITS)
def test_each_folder_is_a_split_when_told_and_all_share_one_class_list(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    report = build(make(tmp_path / "source"), split=None)
    assert [(each.split, each.total) for each in report.sets] == [("train", 4), ("val", 3)]
    assert {class_names(each) for each in report.sets} == {("cat", "dog", "eel")}
    labels = [sorted(each.reader().labels(0, np.arange(each.total)).tolist()) for each in report.sets]
    assert labels == [[0, 0, 1, 1], [0, 1, 2]]
    assert report.notes == ("split train has images of 2 of 3 classes of all splits; none of eel",)
    assert list(json.loads((tmp_path / "shards" / "_info.json").read_text())["splits"]) == ["train", "val"]


def test_one_split_built_alone_is_the_same_as_among_the_others(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "source", SPLITS)
    build(source, split=None)
    together = {path.name: path.read_bytes() for path in (tmp_path / "shards").glob("*.tar")}
    for split in ("train", "val"):
        build_into(source / split, tmp_path / "alone", split)
    assert {path.name: path.read_bytes() for path in (tmp_path / "alone").glob("*.tar")} == together


def test_splits_get_plain_names_and_never_the_same_one(tmp_path: Path) -> None:
    source = write_tree(tmp_path / "source", classes("train-1/cat", "train-1/dog"))
    assert [each.split for each in build(source, split=None).sets] == ["train_1"]
    write_tree(source, classes("train 1/cat", "train 1/dog"))
    with pytest.raises(ConfigError, match=r"the same name.*train 1, train-1"):
        build(source, split=None)
