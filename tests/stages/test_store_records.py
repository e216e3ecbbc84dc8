"""``store stats`` and ``store suspects``, as they are typed."""

from __future__ import annotations

import csv
import json
import shutil
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from benchmarks.local_files import block_file
from tests.analysis.labelled_stores import TOPK, VIEWS, labelled_shards, store_of
from tests.conftest import CommandLine
from tests.damage import flip
from tests.store.blocks import random_block
from tinyvit_kd.analysis.records.statistics_text import describe
from tinyvit_kd.analysis.records.store_labels import find_labels
from tinyvit_kd.analysis.records.store_statistics import store_statistics
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.stages.store.suspects import COLUMNS, as_csv
from tinyvit_kd.store.label_sample import write_label_sample
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore

ALL = ("--contradicted", "0", "--label-probability", "1", "--teacher-probability", "0")
ONE = ("--processes", "1")


def anything(shards: ShardSet, shard: int, view: int) -> Block:
    return random_block(int(shards.lengths[shard]), TOPK, 24, 10 * shard + view, holes=0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with shards and a store of them."""
    folder = tmp_path_factory.mktemp("labelled")
    store_of(folder / "store", labelled_shards(folder), anything)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "labelled")
    return tmp_path / "labelled"


def shards_of(folder: Path) -> tuple[str, str, str, str]:
    return "--shards", str(folder / "shards"), "--split", "train"


def test_statistics_are_tables_for_people(command_line: CommandLine, folder: Path) -> None:
    ended = command_line("store", "stats", folder / "store", *shards_of(folder), *ONE)
    assert ended.code == 0
    for words in ("12 of 12 blocks, 384 records", "384 views: of the shards, shards", "known worst", "digests"):
        assert words in ended.out
    assert "known worst\n  " in ended.out


def test_statistics_are_json_for_machines(command_line: CommandLine, folder: Path) -> None:
    ended = command_line("store", "stats", folder / "store", *shards_of(folder), *ONE, "--json")
    figures = json.loads(ended.out)
    assert figures["read"] | {"seed": None} == figures["read"]
    assert figures["labels"]["views"] == figures["read"]["records"] == 384
    assert figures["agreement"]["views"] == 384


def test_a_sample_says_that_it_is_one(command_line: CommandLine, folder: Path) -> None:
    ended = command_line("store", "stats", folder / "store", *ONE, "--sample", "50%", "--seed", "3")
    assert "6 of 12 blocks" in ended.out
    assert "a sample, evenly spread (--seed 3)" in ended.out
    assert "not known without labels" in ended.out


def test_a_sample_is_of_shards_whose_labels_the_store_keeps(command_line: CommandLine, folder: Path) -> None:
    write_label_sample(LogitStore.open(folder / "store").storage, {2: np.zeros(16, np.int64)})
    ended = command_line("store", "stats", folder / "store", *ONE, "--sample", "2", "--json")
    figures = json.loads(ended.out)
    assert figures["labels"]["kind"] == "sample"
    assert figures["labels"]["views"] == figures["read"]["records"] == 32


def test_statistics_of_a_damaged_and_unfinished_store_name_what_is_left_out(
    command_line: CommandLine, folder: Path
) -> None:
    store = LogitStore.open(folder / "store")
    flip(block_file(store, 0, 0), 30)
    block_file(store, 1, 1).unlink()
    ended = command_line("store", "stats", folder / "store", *ONE)
    assert ended.code == 0
    assert "1 block not dumped yet" in ended.out
    assert f"1 block, the first is {store.block_location(0, 0)}" in ended.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("store", "stats", "{folder}/nothing"), "there is no store here"),
        (("store", "stats", "{folder}/store", "--sample", "many"), "no such sample"),
        (("store", "stats", "{folder}/store", "--shards", "{folder}/nothing"), "{folder}/nothing"),
        (("store", "suspects", "{folder}/store"), "--shards"),
        (("store", "suspects", "{folder}/store", "--output", "{folder}/no/where.csv"), "no folder {folder}/no"),
        (("store", "suspects", "{folder}/store", "--output", "{folder}"), "it is a folder"),
        (("store", "suspects", "{folder}/store", "--output", "/proc/a.csv"), "/proc takes no file"),
    ],
    ids=["no store", "no sample", "no shards", "no keys", "no folder", "a folder", "takes no file"],
)
def test_wrong_input_gives_a_paragraph(
    command_line: CommandLine, folder: Path, arguments: tuple[str, ...], words: str
) -> None:
    ended = command_line(*(each.format(folder=folder) for each in arguments), *ONE)
    assert ended.code == 2
    assert words.format(folder=folder) in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert ended.out == ""


def test_a_store_without_a_block_has_no_statistics(command_line: CommandLine, folder: Path) -> None:
    for array in (folder / "store").glob("s0*"):
        for block in array.glob("c.*"):
            block.unlink()
    ended = command_line("store", "stats", folder / "store", *ONE)
    assert (ended.code, ended.out) == (2, "")
    assert "the store has no block" in ended.err


def test_suspects_are_csv(command_line: CommandLine, folder: Path) -> None:
    ended = command_line("store", "suspects", folder / "store", *shards_of(folder), *ONE, *ALL)
    rows = list(csv.DictReader(StringIO(ended.out)))
    assert len(rows) == 96
    assert tuple(rows[0]) == COLUMNS
    shards = ShardSet.load(folder / "shards", "train")
    for row in rows:
        number = shards.names.index(row["shard"])
        assert row["key"] == shards.index(number).key(int(row["index"]))
        assert int(row["label"]) == shards.index(number).labels[int(row["index"])]
        assert int(row["views"]) == VIEWS
    assert "suspects: 96 of 96 labelled samples (100.00%)" in ended.err


def test_a_file_holds_what_would_be_printed(command_line: CommandLine, folder: Path) -> None:
    arguments = ("store", "suspects", folder / "store", *shards_of(folder), *ONE, *ALL, "--limit", "7")
    printed = command_line(*arguments)
    written = command_line(*arguments, "--output", folder / "suspects.csv")
    assert written.out == ""
    assert (folder / "suspects.csv").read_text() == printed.out
    assert len(printed.out.splitlines()) == 8
    assert "the 7 surest are told" in printed.err


def test_suspects_are_json_for_machines(command_line: CommandLine, folder: Path) -> None:
    ended = command_line("store", "suspects", folder / "store", *shards_of(folder), *ONE, *ALL, "--json")
    found = json.loads(ended.out)
    assert found["count"] == len(found["suspects"]) == found["samples"] == 96
    sureness = [each["teacher_probability"] - each["label_probability"] for each in found["suspects"]]
    assert sureness == sorted(sureness, reverse=True)


@pytest.mark.parametrize("key", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_finds_no_formula(key: str) -> None:
    (row,) = csv.DictReader(StringIO(as_csv({"suspects": [told(key=key)]})))
    assert row["key"].startswith("'")
    assert row["label_probability"] == "0.0100"


def test_a_key_cannot_break_a_line_or_control_a_terminal() -> None:
    text = as_csv({"suspects": [told(key='a,"b"\n\x1b[2J')]})
    assert "\x1b" not in text
    assert len(text.splitlines()) == 2
    (row,) = csv.DictReader(StringIO(text))
    assert row["key"] == 'a,"b"\\n\\x1b[2J'


def told(**changes: object) -> dict[str, object]:
    names = {"shard": "a.tar", "key": "k", "label_name": "cat", "teacher_name": "dog"}
    counts = {"index": 1, "label": 2, "teacher_class": 3, "label_not_stored": 0, "views": 4}
    means = {"contradicted": 1.0, "label_probability": 0.01, "teacher_probability": 0.9}
    return names | counts | means | changes


@pytest.mark.parametrize("key", ["\uff1d1+1", "\uff0b1", "\uff0d1", "\uff20a"])
def test_a_spreadsheet_finds_no_formula_of_full_width_either(key: str) -> None:
    (row,) = csv.DictReader(StringIO(as_csv({"suspects": [told(key=key)]})))
    assert row["key"] == f"'{key}"


def test_a_teachers_name_cannot_forge_a_line_of_the_statistics(folder: Path) -> None:
    store = LogitStore.open(folder / "store")
    block = [(0, 0)]
    figures = store_statistics(store, find_labels(store), block, 1).as_dict()
    figures["read"]["seed"] = 0
    figures["store"]["teacher"] = "a\nagreement      100%"
    figures["classes"]["never_best"]["first"][0]["name"] = "b\nexpected calibration error 0"
    lines = describe(figures).splitlines()
    assert not [line for line in lines if line.startswith(("agreement      100%", "expected calibration"))]
