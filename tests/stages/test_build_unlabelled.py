"""``shards build --unlabelled``: shards without labels are sound, and a student is distilled from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from benchmarks.tiny_world import dump_recipe, make_teacher, pretrain_recipe
from tests.conftest import CommandLine
from tests.data.source_trees import classes, tar_of, tar_of_tars, write_tree, zip_of
from tests.stages.built import build, built, refused
from tinyvit_kd.config.load import validate
from tinyvit_kd.config.recipes import DumpConfig, PretrainConfig
from tinyvit_kd.data.source_kinds.keys import keys_of_paths
from tinyvit_kd.data.synthetic import write_image_folder
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain


def test_keys_are_paths(tmp_path: Path, command_line: CommandLine) -> None:
    names = ["flat.jpg", "a/1.jpg", "a/1.png", "a/b.c/x.y.jpeg", "d/ä b.JPG"]
    source = write_tree(tmp_path / "images", names)
    write_tree(source, ["a/notes.txt"], b"text")
    ended = build(command_line, source, tmp_path / "out", "--unlabelled")
    found = built(tmp_path / "out")
    assert {key: sample.said for key, sample in found.items()} == {
        "flat": {"filename": "flat.jpg"},
        "a/1_jpg": {"filename": "a/1.jpg"},
        "a/1_png": {"filename": "a/1.png"},
        "a/b.c/x_y": {"filename": "a/b.c/x.y.jpeg"},
        "d/ä b": {"filename": "d/ä b.JPG"},
    }
    assert all(sample.label is None for sample in found.values())
    assert found["d/ä b"].image == (source / "d/ä b.JPG").read_bytes()
    assert not (tmp_path / "out" / "classes.txt").exists()
    assert "labels     none, as the set was built" in ended.out
    indexed = json.loads(command_line("shards", "info", tmp_path / "out", "--json").out)
    assert (indexed["samples"], indexed["labelled"], indexed["lost"]) == (5, 0, {})
    info = json.loads((tmp_path / "out" / "_info.json").read_text())
    assert info["splits"]["train"]["unlabelled"] is True


def test_keys_of_one_folder_are_made_distinct_whatever_their_order() -> None:
    names = ["a.jpg", "a.png", "a_jpg.gif", "b.c.jpg", "b_c.jpg", "d/b_c.jpg", "e.jpg"]
    keys = dict(zip(names, keys_of_paths(names), strict=True))
    assert len(set(keys.values())) == len(names)
    assert (keys["a.png"], keys["d/b_c.jpg"], keys["e.jpg"]) == ("a_png", "d/b_c", "e")
    assert keys["b.c.jpg"].startswith("b_c_jpg-")
    assert [keys[name] for name in reversed(names)] == keys_of_paths(names[::-1])


def test_archives_may_have_no_labels_either(tmp_path: Path, command_line: CommandLine) -> None:
    sources = [tar_of(tmp_path / "a.tar", ["x/1.jpg"]), zip_of(tmp_path / "b.zip", ["y/2.jpg"])]
    sources.append(tar_of_tars(tmp_path / "c.tar", ("n1", "n2")))
    build(command_line, *sources, tmp_path / "out", "--unlabelled")
    assert built(tmp_path / "out").keys() == {"x/1", "y/2", "n1/n1_0", "n1/n1_1", "n2/n2_0", "n2/n2_1"}


def test_lists_and_folders_may_be_packed_without_their_labels(tmp_path: Path, command_line: CommandLine) -> None:
    source = write_tree(tmp_path / "images", classes("cat", "dog"))
    (source / "list.csv").write_text("path,label\ncat/0.jpg,\ndog/1.jpg,dog\n")
    build(command_line, source / "list.csv", tmp_path / "out", "--unlabelled")
    assert {sample.label for sample in built(tmp_path / "out").values()} == {None}
    build(command_line, source, tmp_path / "splits", "--unlabelled", "--split-from-folders")
    assert built(tmp_path / "splits", "dog").keys() == {"0", "1"}


def test_keys_that_clash_and_folders_without_images_are_refused(tmp_path: Path, command_line: CommandLine) -> None:
    for name in ("a", "b"):
        write_tree(tmp_path / name, ["1.jpg"])
    told = refused(command_line, tmp_path / "a", tmp_path / "b", tmp_path / "out", "--unlabelled")
    assert "samples would share their keys" in told
    assert "Found: 1: 1. " in told
    write_tree(tmp_path / "none", ["a/b.txt"], b"text")
    assert "no images in the source" in refused(command_line, tmp_path / "none", tmp_path / "out", "--unlabelled")
    both = refused(command_line, tmp_path / "a", tmp_path / "out", "--unlabelled", "--labels", tmp_path)
    assert "exclude each other" in both


def test_check_counts_no_missing_label_of_such_a_set_as_a_fault(tmp_path: Path, command_line: CommandLine) -> None:
    write_image_folder(tmp_path / "images", 6, 0)
    build(command_line, tmp_path / "images", tmp_path / "out", "--unlabelled")
    ended = command_line("shards", "check", tmp_path / "out", "--processes", "1", "--json")
    assert ended.code == 0
    found = json.loads(ended.out)
    assert (found["sound"], found["missing_labels"], found["unlabelled"]) == (True, [], 6)
    said = command_line("shards", "check", tmp_path / "out", "--processes", "1").out
    assert "6 without labels, as the set was built" in said
    info = tmp_path / "out" / "_info.json"
    info.write_text(info.read_text().replace('"unlabelled": true', '"unlabelled": false'))
    assert command_line("shards", "check", tmp_path / "out", "--processes", "1").code == 1


def test_a_student_is_distilled_from_images_without_labels(tmp_path: Path, command_line: CommandLine) -> None:
    write_image_folder(tmp_path / "images", 48, 0)
    build(command_line, tmp_path / "images", tmp_path / "shards", "--unlabelled", "--samples-per-shard", "24")
    make_teacher(tmp_path)
    dump = dump_recipe(tmp_path / "shards", tmp_path / "teacher", tmp_path / "store")
    dump_logits(validate(DumpConfig, dump, "dump"), solo_job())
    recipe = pretrain_recipe(tmp_path / "shards", tmp_path / "store", tmp_path / "run")
    distilled = pretrain(validate(PretrainConfig, recipe, "pretrain"), solo_job())
    assert np.isfinite(distilled["loss"])
    assert distilled["digests_checked"] == 2 * 48
