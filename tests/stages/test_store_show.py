"""``store show``: what it draws, what it says, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.tiny_world import World, draw_shards, make_teacher
from tests.conftest import CommandLine, Ended
from tinyvit_kd.analysis.samples.sheets import picture_beside
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.store.show import parse_views
from tinyvit_kd.store.store import LogitStore

Show = Callable[..., Ended]


@pytest.fixture
def show(command_line: CommandLine, tmp_path: Path) -> Show:
    """The command for a world's store, with a picture in the test's folder."""

    def run(world: World, *options: str, output: str = "sheet.png") -> Ended:
        place = ("--shards", world.shards, "--split", "train", "--output", tmp_path / output, "--processes", "1")
        return command_line("store", "show", world.store, *place, *options)

    return run


def test_a_picture_has_a_row_per_sample_and_a_column_per_view(world: World, show: Show, tmp_path: Path) -> None:
    ended = show(world, "0:1", "train-000001.tar:2", "--json")
    assert ended.code == 0, ended
    told = json.loads(ended.out)
    assert [(each["shard"], each["index"]) for each in told["samples"]] == [
        ("train-000000.tar", 1),
        ("train-000001.tar", 2),
    ]
    assert [view["view"] for view in told["samples"][0]["views"]] == told["views"] == [0, 1]
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == (told["width"], told["height"])
    top = told["samples"][0]["views"][0]["top"]
    assert len(top) == 5
    assert top == sorted(top, key=lambda each: -each["probability"])


@pytest.mark.parametrize(("output", "written"), [("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.jpeg", "JPEG")])
def test_the_ending_decides_the_format(world: World, show: Show, tmp_path: Path, output: str, written: str) -> None:
    assert show(world, "0:1", "--views", "1", output=output).code == 0
    with Image.open(tmp_path / output) as image:
        assert image.format == written


def test_the_seed_chooses_random_samples(world: World, show: Show) -> None:
    options = ("--random", "3", "--views", "0", "--json")
    drawn = [json.loads(show(world, *options, "--seed", seed).out)["samples"] for seed in ("0", "0", "1")]
    assert [len(each) for each in drawn] == [3, 3, 3]
    assert drawn[0] == drawn[1] != drawn[2]


def test_suspects_are_those_that_the_other_command_finds(world: World, show: Show, command_line: CommandLine) -> None:
    place = ("--shards", str(world.shards), "--split", "train", "--processes", "1", "--limit", "3")
    found = command_line("store", "suspects", world.store, *place, "--json")
    suspects = json.loads(found.out)["suspects"]
    assert suspects
    told = json.loads(show(world, "--suspects", "--limit", "3", "--json").out)["samples"]
    assert [each["key"] for each in told] == [each["key"] for each in suspects]


def test_holes_are_shown_with_their_reason(tmp_path: Path, show: Show) -> None:
    draw_shards(tmp_path, 30, broken=[3])
    make_teacher(tmp_path)
    dump_logits(World(tmp_path).dump(), solo_job())
    ended = show(World(tmp_path), "--holes", "--json")
    assert ended.code == 0, "a hole is no difference"
    (hole,) = json.loads(ended.out)["samples"]
    assert [view["hole"] for view in hole["views"]] == ["unreadable"] * 2


def test_a_store_without_holes_has_none_to_show(world: World, show: Show) -> None:
    ended = show(world, "--holes")
    assert ended.code == 2
    assert "there is nothing to show" in ended.err
    assert "no holes" in ended.err


def test_views_that_differ_are_told_and_the_exit_code_is_one(world: World, show: Show) -> None:
    store = LogitStore.open(world.store, writable=True)
    block = store.read_block(0, 1)
    block.digests[1] ^= 1
    store.write_block(0, 1, block)
    ended = show(world, "0:0", "0:1")
    assert ended.code == 1
    assert ended.out.count("a replayed view is not the view that the teacher saw") == 1
    assert "0:1 (key " in ended.out


def test_other_shards_are_refused(world: World, show: Show, tmp_path: Path) -> None:
    draw_shards(tmp_path / "other", seed=1)
    world.shards = tmp_path / "other" / "shards"
    ended = show(world, "0:1")
    assert ended.code == 2
    assert "does not hold the samples that the teacher saw" in ended.err


def test_a_damaged_block_is_told_and_the_others_are_shown(world: World, show: Show, tmp_path: Path) -> None:
    path = world.store / "s000000" / "c.1.0.0"
    path.write_bytes(path.read_bytes()[:-1])
    ended = show(world, "0:1")
    assert ended.code == 1
    assert "view 1: a block is damaged" in ended.out
    assert (tmp_path / "sheet.png").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("9:0",), "there is no such sample"),
        (("--views", "0-2", "0:0"), "these views cannot be shown"),
        (("--font", "nowhere.ttf", "0:0"), "cannot read the font"),
    ],
)
def test_what_cannot_be_shown_is_refused(world: World, show: Show, options: tuple[str, ...], said: str) -> None:
    ended = show(world, *options)
    assert ended.code == 2
    assert said in ended.err


def test_a_store_that_does_not_say_where_its_shards_are_asks_for_them(world: World, command_line: CommandLine) -> None:
    (world.folder / "store.results.json").unlink(missing_ok=True)
    ended = command_line("store", "show", world.store)
    assert ended.code == 2
    assert "--shards PATH" in ended.err


def test_the_shards_are_those_that_the_dump_s_results_name(world: World, command_line: CommandLine) -> None:
    assert dump_logits(world.dump(), solo_job())["views"] == 0, "all is there, and the results are written again"
    ended = command_line("store", "show", world.store, "0:1")
    assert ended.code == 0, ended
    assert (world.folder / "store.show.png").is_file()


@pytest.mark.parametrize("name", ["sheet.gif", "sheet", "nowhere/sheet.png"])
def test_a_place_that_can_hold_no_picture_is_refused_at_once(world: World, show: Show, name: str) -> None:
    ended = show(world, "0:0", output=name)
    assert ended.code == 2
    assert "--output" in ended.err


def test_the_picture_is_beside_the_store_unless_a_place_is_given(tmp_path: Path) -> None:
    assert picture_beside(str(tmp_path / "store")) == tmp_path / "store.show.png"
    assert picture_beside(f"{tmp_path}/store/") == tmp_path / "store.show.png"
    assert picture_beside("s3://bucket/stores/first/") == Path("first.show.png")


@pytest.mark.parametrize(
    ("text", "numbers"), [(None, [0, 1, 2, 3]), ("2", [2]), ("0-3", [0, 1, 2, 3]), ("5, 0-1", [5, 0, 1]), ("1,1", [1])]
)
def test_views_are_numbers_and_ranges(text: str | None, numbers: list[int]) -> None:
    assert parse_views(text, 6) == numbers


@pytest.mark.parametrize("text", ["", "6", "a", "3-1", "0-", "-1", "0-99999999999", "0,,1", "²"])
def test_other_texts_are_no_views(text: str) -> None:
    with pytest.raises(ConfigError, match="these views cannot be shown"):
        parse_views(text, 6)


def test_no_more_views_are_shown_than_fit() -> None:
    with pytest.raises(ConfigError, match="cannot be shown") as caught:
        parse_views("0-16", 90)
    assert caught.value.expected.startswith("1 to 16")
