"""``shards build`` from ImageNet, ImageNet-21k and Tiny-ImageNet in the layouts in which they are handed out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.data.handed_out import ILSVRC, TRUTH, VAL, development_kit, tiny_imagenet, validation_images, zipped
from tests.data.source_trees import tar_of, tar_of_tars, write_tree
from tests.stages.built import build, built, labels_by_image, refused

SORTED = sorted(ILSVRC.values())
EXPECTED = {content: SORTED.index(ILSVRC[truth]) for (_, content), truth in zip(VAL, TRUTH, strict=True)}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return validation_images(tmp_path / "ILSVRC2012_img_val.tar")


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    return development_kit(tmp_path)


def test_validation_labels_come_from_the_development_kit(
    images: Path, kit: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    build(command_line, images, tmp_path / "out", "--split", "val", "--labels", kit)
    assert labels_by_image(tmp_path / "out", "val") == EXPECTED
    assert (tmp_path / "out" / "classes.txt").read_text().split() == SORTED
    assert {sample.said["wnid"] for sample in built(tmp_path / "out", "val").values()} == set(SORTED)
    truth = kit / "data" / "ILSVRC2012_validation_ground_truth.txt"
    build(command_line, images, tmp_path / "above", "--labels", truth)
    assert labels_by_image(tmp_path / "above") == EXPECTED
    build(command_line, images, tmp_path / "from_parent", "--labels", tmp_path)
    assert labels_by_image(tmp_path / "from_parent") == EXPECTED


def test_validation_labels_may_be_wordnet_ids_or_kaggles_list(
    images: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    ids = [ILSVRC[each] for each in TRUTH]
    (tmp_path / "synsets.txt").write_text("\n".join(ids))
    rows = [f"{name.removesuffix('.JPEG')},{each} 1 2 3 4 " for (name, _), each in zip(VAL, ids, strict=True)]
    (tmp_path / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *reversed(rows)]))
    folder = write_tree(tmp_path / "val", [])
    folder.mkdir()
    for name, content in VAL:
        (folder / name).write_bytes(content)
    for number, (source, labels) in enumerate(
        [(images, "synsets.txt"), (images, "LOC_val_solution.csv"), (folder, "synsets.txt")]
    ):
        build(command_line, source, tmp_path / f"{number}", "--labels", tmp_path / labels)
        assert labels_by_image(tmp_path / f"{number}") == EXPECTED


def test_a_later_split_takes_the_numbers_of_the_training_images(
    images: Path, kit: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    train = tar_of_tars(tmp_path / "ILSVRC2012_img_train.tar", ("n02119789", "n01440764", "n02110185", "n02100735"))
    build(command_line, train, tmp_path / "out")
    build(command_line, images, tmp_path / "out", "--split", "val", "--labels", kit)
    all_sorted = ["n01440764", *SORTED]
    shifted = {content: label + 1 for content, label in EXPECTED.items()}
    assert (tmp_path / "out" / "classes.txt").read_text().split() == all_sorted
    assert labels_by_image(tmp_path / "out", "val") == shifted


def test_numbers_of_ilsvrc_are_refused_without_what_they_mean(
    images: Path, kit: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    out, data = tmp_path / "out", kit / "data"
    assert "--labels names the file" in refused(command_line, images, out)
    (data / "meta.mat").write_bytes(b"torn")
    assert "meta.mat cannot be read" in refused(command_line, images, out, "--labels", kit)
    (data / "meta.mat").unlink()
    told = refused(command_line, images, out, "--labels", kit)
    assert "not those of the sorted WordNet ids: 1 is n02119789, not n01440764" in told
    truth = data / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("1\n2\n")
    assert "2 lines for 4 images" in refused(command_line, images, out, "--labels", truth)
    truth.write_text("1\nn01440764\n3\ncat\n")
    assert "line 1" in refused(command_line, images, out, "--labels", truth)
    truth.unlink()
    assert "not the development kit" in refused(command_line, images, out, "--labels", kit)
    (tmp_path / "LOC_val_solution.csv").write_text(f"ImageId,PredictionString\n{VAL[0][0][:-5]},n01440764 1 2 3 4\n")
    told = refused(command_line, images, out, "--labels", tmp_path / "LOC_val_solution.csv")
    assert "3 of 4 images: ILSVRC2012_val_00000002.JPEG" in told


@pytest.mark.parametrize("form", ["winter21_whole", "fall11_whole.tar"])
def test_imagenet_21k_comes_as_a_tar_per_class(form: str, tmp_path: Path, command_line: CommandLine) -> None:
    wordnet_ids = ["n00004475", "n00005787"]
    if form.endswith(".tar"):
        source = tar_of_tars(tmp_path / form, wordnet_ids)
    else:
        source = tmp_path / form
        for each in wordnet_ids:
            tar_of(source / f"{each}.tar", [f"{each}_1.JPEG", f"{each}_2.JPEG"])
    build(command_line, source, tmp_path / "out")
    assert (tmp_path / "out" / "classes.txt").read_text().split() == wordnet_ids
    assert sorted(labels_by_image(tmp_path / "out").values(), key=str) == [0, 0, 1, 1]
    compressed = tmp_path / "winter21_whole.tar.gz"
    compressed.write_bytes(b"\x1f\x8b")
    assert "gunzip" in refused(command_line, compressed, tmp_path / "other")


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_tiny_imagenet_is_read_as_it_is_handed_out(form: str, tmp_path: Path, command_line: CommandLine) -> None:
    source = tiny_imagenet(tmp_path / "tiny-imagenet-200")
    source = zipped(source) if form == "zip" else source
    out = tmp_path / "out"
    build(command_line, source, out)
    build(command_line, source, out, "--split", "val")
    assert (out / "classes.txt").read_text().split() == ["n01443537", "n02124075"]
    wordnet_ids = {sample.said["filename"].split("/")[1]: sample.label for sample in built(out).values()}
    assert wordnet_ids == {"n02124075": 1, "n01443537": 0}
    val = {sample.said["filename"]: sample.label for sample in built(out, "val").values()}
    assert val == {"val/images/val_0.JPEG": 1, "val/images/val_1.JPEG": 0, "val/images/val_2.JPEG": 1}
    build(command_line, source, tmp_path / "both", "--split-from-folders")
    assert labels_by_image(tmp_path / "both", "val") == labels_by_image(out, "val")
    assert "one of train, val" in refused(command_line, source, out, "--split", "test")


def test_damaged_labels_of_tiny_imagenet_are_named(tmp_path: Path, command_line: CommandLine) -> None:
    source, out = tiny_imagenet(tmp_path / "tiny"), tmp_path / "out"
    annotations = source / "val" / "val_annotations.txt"
    lines = annotations.read_text().splitlines()
    annotations.write_text("\n".join(lines[:2]))
    told = refused(command_line, source, out, "--split", "val")
    assert "1 of 3 images: val/images/val_2.JPEG" in told
    annotations.write_text(f"{lines[0]}\nval_1.JPEG n01443537\n")
    assert "line 2" in refused(command_line, source, out, "--split", "val")
