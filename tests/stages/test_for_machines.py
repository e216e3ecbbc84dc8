"""What describes and checks shards and stores says the same to machines as to people."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.local_files import block_file
from benchmarks.tiny_world import World
from tests.conftest import CommandLine
from tests.damage import flip
from tinyvit_kd.store.store import LogitStore


def parsed(command_line: CommandLine, *words: object) -> tuple[int | str | None, Any]:
    code, out, _ = command_line(*words, "--json")
    (line,) = out.splitlines()
    return code, json.loads(line)


@pytest.mark.parametrize("command", ["index", "info"])
def test_a_shard_set_is_described(world: World, command_line: CommandLine, command: str) -> None:
    code, told = parsed(command_line, "shards", command, world.shards)
    assert code == 0
    assert told["samples"] == told["labelled"] > 0
    assert told["lost"] == {}
    assert f"{told['samples']:,}, {told['labelled']:,} of them" in command_line("shards", command, world.shards).out


def test_a_check_of_shards_lists_every_fault(world: World, command_line: CommandLine) -> None:
    code, told = parsed(command_line, "shards", "check", world.shards)
    assert (code, told["sound"], told["undecodable"]) == (0, True, [])
    code, told = parsed(command_line, "shards", "check", world.shards, "--first-label", "1")
    assert (code, told["sound"]) == (1, False)
    assert told["missing_labels"] or told["labels_out_of_range"]


def test_a_store_is_described(world: World, command_line: CommandLine) -> None:
    code, told = parsed(command_line, "store", "info", world.store)
    assert code == 0
    assert told["blocks"] == told["total_blocks"] > 0
    assert told["manifest"]["topk"] >= 1
    assert parsed(command_line, "store", "info", world.store, "--holes") == (0, [])


def test_a_check_of_a_store_lists_faults_and_what_a_repair_left(world: World, command_line: CommandLine) -> None:
    assert parsed(command_line, "store", "check", world.store)[1]["complete"] is True
    flip(block_file(LogitStore.open(world.store), 0, 1))
    code, told = parsed(command_line, "store", "check", world.store)
    assert (code, told["sound"], [fault["kind"] for fault in told["faults"]]) == (1, False, ["damaged"])
    code, told = parsed(command_line, "store", "check", world.store, "--repair")
    assert (code, told["sound"], told["missing"]) == (0, True, 1)
