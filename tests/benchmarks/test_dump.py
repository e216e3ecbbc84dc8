"""The benchmark of stage one in small: that it runs, and that its figures are what they say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from benchmarks import dump
from benchmarks.arguments import parse, parser
from benchmarks.feeding import resident_views
from benchmarks.made_shards import grey_image, write_shards
from benchmarks.stage_one import seconds_between_commits
from tests.benchmarks.conftest import SMALL_TEACHER, Result
from tinyvit_kd.data.shards import ShardSet

ARGUMENTS = [*SMALL_TEACHER, "--batch", "8", "--batches", "3", "--groups", "3", "--workers", "1"]


def test_stage_one_is_compared_with_its_teacher(result: Result) -> None:
    dump.main(ARGUMENTS)
    found = result()
    assert found["settings"]["views"] == "synthetic"
    assert found["over_bare_forward"] > 0
    assert found["failed"] == {}
    rates = found["cases"]["auto"]["views_per_second"]
    assert all(len(each) == 1 and each[0] > 0 for each in rates.values())


def test_precisions_are_dumped_one_by_one(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    dump.main(["--device", "cpu", "--tiny", "--precision", "float32", "bfloat16", "--results", str(path)])
    found = result()
    assert {name: case["precision"] for name, case in found["cases"].items()} == {
        "float32": "float32",
        "bfloat16": "bfloat16",
    }
    assert found["over_bare_forward"] == min(found["over_bare_forward_by_case"].values())
    assert path.is_file()


def test_stage_one_is_timed_on_views_of_photos(result: Result, shared_data: Path) -> None:
    dump.main([*ARGUMENTS, "--views", "real", "--photos", str(shared_data / "photos")])
    assert result()["over_bare_forward"] > 0


def test_float32_comes_last_and_compiled_teachers_behind_eager_ones() -> None:
    assert dump.in_order(["float32", "float16"], compiled=True) == [
        ("float16", False),
        ("float16", True),
        ("float32", False),
        ("float32", True),
    ]
    assert dump.in_order(["auto"], compiled=False) == [("auto", False)]


@pytest.mark.parametrize(
    "wrong", [["--groups", "1"], ["--batch", "6"]], ids=["one group", "batches of parts of samples"]
)
def test_what_cannot_be_timed_is_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        dump.main([*ARGUMENTS, *wrong])
    assert "--groups must be at least 2" in capsys.readouterr().err


def test_commits_are_timed_from_the_first_group_to_the_last(tmp_path: Path) -> None:
    for shard, commit in enumerate((1000.0, 1004.0, 1006.0)):
        (tmp_path / f"s{shard:06d}").mkdir()
        for view, earlier in enumerate((1.0, 0.0)):
            path = tmp_path / f"s{shard:06d}" / f"c.{view}.0.0"
            path.touch()
            os.utime(path, (0, commit - earlier))
    assert seconds_between_commits(tmp_path) == 3.0


def test_a_shard_set_repeats_its_images(tmp_path: Path) -> None:
    shards = ShardSet.load(write_shards(tmp_path / "shards", [grey_image(), b"another"], shards=2, samples=3))
    assert shards.lengths.tolist() == [3, 3]
    assert [shards.reader().read(1, index) for index in range(3)] == [grey_image(), b"another", grey_image()]


def test_resident_views_are_of_photos_where_asked_for(shared_data: Path) -> None:
    given = ["--views", "real", "--photos", str(shared_data / "photos"), "--size", "16"]
    views = resident_views(parse(parser(None), given, {"cpu": {}, "cuda": {}}), 3)
    assert views.shape == (3, 3, 16, 16)
    assert views.dtype == torch.uint8


def test_what_is_not_said_is_the_devices_default() -> None:
    given = parser(None)
    given.add_argument("--batch", type=int)
    given.add_argument("--teacher")
    defaults = {"cpu": {"batch": 4, "teacher": "small"}, "cuda": {"batch": 128, "teacher": "large"}}
    options = parse(given, ["--device", "cpu", "--batch", "5"], defaults)
    assert (options.batch, options.teacher) == (5, "small")
