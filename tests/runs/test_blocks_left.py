"""A dump is done when the store has its blocks, not when it has made them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.fault_injection.compare import store_differences
from benchmarks.tiny_world import World
from tests.conftest import CommandLine
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.errors import WorkerError
from tinyvit_kd.runs.blocks_left import ROUNDS
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.store.store import LogitStore


class LateJob(Job):
    """A job whose first counters do not begin at 0, so that a dump leaves groups out."""

    late: int

    def counter(self) -> Iterator[int]:
        object.__setattr__(self, "late", self.late - 1)
        return itertools.count(1 if self.late >= 0 else 0)


def late_job(late: int) -> LateJob:
    job = LateJob(0, 1, torch.device("cpu"))
    object.__setattr__(job, "late", late)
    return job


@pytest.fixture
def fresh(tmp_path: Path) -> dict[str, Any]:
    return {"store": {"path": str(tmp_path / "store"), "topk": 5, "views": 2}}


def test_blocks_that_were_left_out_are_made_in_a_further_round(
    fresh: dict[str, Any], dumped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = dump_logits(World(dumped).dump(**fresh), late_job(1))
    assert store_differences(tmp_path / "store", dumped / "store") == []
    assert result["views"] == 2 * 96
    assert "2 block(s) not in the store though they were made: making them again" in capsys.readouterr().err


def test_a_dump_whose_blocks_stay_missing_fails_and_can_be_started_again(
    fresh: dict[str, Any], dumped: Path, tmp_path: Path
) -> None:
    with pytest.raises(WorkerError, match="some are not in the store") as caught:
        dump_logits(World(dumped).dump(**fresh), late_job(ROUNDS + 1))
    assert caught.value.can_be_retried
    missing = LogitStore.open(tmp_path / "store").missing_blocks()
    assert missing
    assert caught.value.found.startswith(f"{len(missing)} block(s) missing, the first of them view {missing[0][1]} of ")


def test_a_dump_from_which_somebody_takes_blocks_does_not_end_with_zero(
    world: World, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = LogitStore.write_block

    def write_and_lose(store: LogitStore, shard: int, view: int, block: Any) -> None:
        write(store, shard, view, block)
        if (shard, view) == (1, 0):
            Path(store.block_location(shard, view)).unlink()

    monkeypatch.setattr(LogitStore, "write_block", write_and_lose)
    recipe = world.folder / "dump.yaml"
    recipe.write_text(dump_yaml(world.dump(store={"path": str(world.folder / "another"), "topk": 5, "views": 2})))
    ended = command_line("dump-logits", recipe)
    assert ended.code == REQUEUE_EXIT_CODE
    assert ended.out == ""
    assert "1 block(s) missing, the first of them view 0 of shard 1" in ended.err
