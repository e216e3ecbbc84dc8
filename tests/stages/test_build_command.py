"""``shards build`` says what it took, what it left and why; its last line is JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.data.source_trees import HEIC, classes, tar_of_tars, write_tree


def test_what_is_left_out_is_counted_by_cause_and_named(tmp_path: Path, command_line: CommandLine) -> None:
    names = [*classes("cat", "dog"), *(f"cat/{number}.txt" for number in range(7)), "dog/.ipynb_checkpoints/0.jpg"]
    source = write_tree(tmp_path / "source", names[:4])
    write_tree(source, names[4:], b"text")
    (source / "dog" / "gone.jpg").symlink_to("nothing")
    (source / "dog" / "phone.heic").write_bytes(HEIC)
    ended = command_line("shards", "build", source, tmp_path / "shards", "--processes", "1")
    assert ended.code == 0
    assert "not images, by suffix and bytes (7: 7 .txt): cat/0.txt, cat/1.txt" in ended.err
    assert "cat/4.txt and 2 more" in ended.err
    assert "hidden, or made by a system (1): dog/.ipynb_checkpoints" in ended.err
    assert "links that lead nowhere (1): dog/gone.jpg" in ended.err
    assert "packed, but will be holes:\n  HEIC, which Pillow cannot open" in ended.out
    assert json.loads(ended.out.splitlines()[-1]) == {
        "splits": {"train": {"samples": 5, "shards": 1}},
        "classes": 2,
        "left_out": {"not_an_image": 7, "hidden_or_system": 1, "dangling_link": 1},
        "undecodable": {"heic": 1},
        "left_out_by_suffix": {".txt": 7, "no suffix": 1, ".jpg": 1},
    }
    assert "left out   9 files: 7 .txt, 1 no suffix, 1 .jpg\n" in ended.out
    listed = command_line("shards", "build", source, tmp_path / "shards", "--processes", "1", "--list")
    assert all(f"    cat/{number}.txt\n" in listed.err for number in range(7))


def test_what_is_left_out_is_told_before_an_error(tmp_path: Path, command_line: CommandLine) -> None:
    source = write_tree(tmp_path / "source", [*classes("cat", "dog"), "eel/a.psd"], b"8BPS")
    ended = command_line("shards", "build", source, tmp_path / "shards", "--list")
    assert ended.code == 2
    assert "    eel/a.psd\n" in ended.err
    assert "'eel' (with 1 things of other kinds)" in ended.err
    ended = command_line("shards", "build", source, tmp_path / "shards", "--empty-classes", "keep", "--processes", "1")
    assert ended.code == 0
    assert (tmp_path / "shards" / "classes.txt").read_text() == "cat\ndog\neel\n"


def test_splits_are_built_from_folders(tmp_path: Path, command_line: CommandLine) -> None:
    source = write_tree(tmp_path / "source", classes("train/cat", "train/dog", "val/cat"))
    out = tmp_path / "shards"
    refused = command_line("shards", "build", source, out)
    assert (refused.code, "--split-from-folders" in refused.err) == (2, True)
    both = command_line("shards", "build", source, out, "--split-from-folders", "--split", "train")
    assert (both.code, "exclude each other" in both.err) == (2, True)
    ended = command_line("shards", "build", source, out, "--split-from-folders", "--processes", "1")
    assert ended.code == 0
    counts = json.loads(ended.out.splitlines()[-1])
    assert counts["splits"] == {"train": {"samples": 4, "shards": 1}, "val": {"samples": 2, "shards": 1}}
    assert "split val has images of 1 of 2 classes of all splits; none of dog" in ended.err


def test_an_archive_is_a_source(tmp_path: Path, command_line: CommandLine) -> None:
    tar = tar_of_tars(tmp_path / "all.tar", ("a", "b"))
    ended = command_line("shards", "build", tar, tmp_path / "shards", "--processes", "1")
    assert ended.code == 0
    assert json.loads(ended.out.splitlines()[-1])["splits"] == {"train": {"samples": 4, "shards": 1}}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        pytest.param(classes("cat", "dog"), "of 2 samples each", id="alike"),
        pytest.param([*classes("cat", "dog"), "cat/more.jpg"], "of 1 to 2 samples each", id="last-is-shorter"),
    ],
)
def test_shards_of_one_length_are_not_of_n_to_n_samples(
    tmp_path: Path, command_line: CommandLine, names: list[str], said: str
) -> None:
    source = write_tree(tmp_path / "source", names)
    ended = command_line("shards", "build", source, tmp_path / "o", "--processes", "1", "--samples-per-shard", "2")
    assert said in ended.out


def test_labels_that_a_build_has_given_are_not_suspected_to_count_from_one(
    tmp_path: Path, command_line: CommandLine
) -> None:
    command_line("shards", "build", write_tree(tmp_path / "a", classes("ape", "cat", "dog")), tmp_path / "o")
    later = write_tree(tmp_path / "b", classes("cat", "dog"))
    ended = command_line("shards", "build", later, tmp_path / "o", "--split", "val")
    assert "labels     1 to 2\n" in ended.out
    assert "first-label" not in ended.out
