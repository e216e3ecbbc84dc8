"""A run uses its store's views by its schedule, and later ones once it is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.local_files import block_file
from benchmarks.tiny_world import TRAINING, World
from tests.runs.recorder import RunRecorder
from tinyvit_kd.batches.view_schedule import ViewSchedule
from tinyvit_kd.errors import BlockMissingError, ConfigError
from tinyvit_kd.runs.stored_views import schedule_stored_views
from tinyvit_kd.runtime.distributed import Job, solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.checkpoint import load_checkpoint


def test_a_run_uses_the_views_of_its_schedule(dumped: Path, tmp_path: Path) -> None:
    store = {"path": str(dumped / "store"), "view_schedule": "permutation"}
    schedule = TRAINING["schedule"] | {"epochs": 4, "seed": 3}
    recorder = RunRecorder()
    recorder.pretrain(World(dumped).pretrain(store=store, schedule=schedule, output=str(tmp_path / "run")))
    expected = ViewSchedule(1, ((0, 2),), seed=3)  # not that of seed 0
    assert recorder.views == [(epoch, expected.numbers(epoch)) for epoch in range(4)]


def test_fewer_views_than_the_store_has_can_be_used(dumped: Path, tmp_path: Path) -> None:
    store = {"path": str(dumped / "store"), "views": 1}
    recorder = RunRecorder()
    recorder.pretrain(World(dumped).pretrain(store=store, output=str(tmp_path / "run")))
    assert recorder.views == [(0, (0,)), (1, (0,))]


def test_more_views_than_the_store_has_are_refused(dumped: Path, tmp_path: Path) -> None:
    schedule = TRAINING["schedule"] | {"views_per_sample": 4}
    with pytest.raises(ConfigError, match=r"4 views per sample, 2 in the store"):
        pretrain(World(dumped).pretrain(schedule=schedule, output=str(tmp_path / "run")), solo_job())


def test_a_resumed_run_takes_in_views_that_were_dumped_meanwhile(world: World) -> None:
    """Two more views are dumped while the run is stopped in the middle of the second of six epochs."""
    schedule = TRAINING["schedule"] | {"epochs": 6}
    train = TRAINING["train"] | {"checkpoint_every": 3}
    config = world.pretrain(schedule=schedule, train=train)
    RunRecorder().pretrain_up_to(9, config)
    dump_four_views(world)
    recorder = RunRecorder()
    recorder.pretrain(config)
    assert recorder.views == [(1, (1,)), (2, (2,)), (3, (3,)), (4, (0,)), (5, (1,))]
    last = load_checkpoint(sorted((world.folder / "distilled" / "checkpoints").glob("*.pt"))[-1])
    assert last["kept"]["stored_views"] == ((0, 2), (2, 4))


def dump_four_views(world: World) -> None:
    dump_logits(world.dump(store={"path": str(world.store), "topk": 5, "views": 4}), solo_job())


def test_views_that_are_still_being_dumped_do_not_stop_a_resumed_run(world: World) -> None:
    config = world.pretrain()
    RunRecorder().pretrain_up_to(9, config)
    dump_four_views(world)
    block_file(LogitStore.open(world.store), 1, 3).unlink()  # not there yet
    pretrain(config, solo_job())
    with pytest.raises(BlockMissingError, match="view 3 of shard"):
        pretrain(
            world.pretrain(schedule=TRAINING["schedule"] | {"epochs": 4}, output=str(world.folder / "new")),
            solo_job(),
        )


class Behind(Job):
    """A job whose other process opened the store when it had one view."""

    def gather(self, value: Any) -> list[Any]:
        return [value, 1 if isinstance(value, int) else []]


def test_processes_that_opened_a_store_while_it_grew_use_the_views_that_all_of_them_know(world: World) -> None:
    config, stores = world.pretrain(), [LogitStore.open(world.store)]
    for job, used in ((solo_job(), (0, 1)), (Behind(0, 2, torch.device("cpu")), (0, 0))):
        schedule = schedule_stored_views(config, stores, job, None, 0)
        assert tuple(number for epoch in range(2) for number in schedule.numbers(epoch)) == used


def test_a_run_cannot_be_continued_with_fewer_views(world: World) -> None:
    RunRecorder().pretrain_up_to(9, world.pretrain())
    with pytest.raises(ConfigError, match="has used more views already"):
        pretrain(world.pretrain(store={"path": str(world.store), "views": 1}), solo_job())
