"""Any number of views for any number of epochs: in turn or permuted, even if the store grows during a run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.local_files import block_file
from tests.stages.world import TRAINING, World
from tinyvit_kd.batches.stored import StoredBatches
from tinyvit_kd.batches.view_schedule import ViewSchedule
from tinyvit_kd.config.recipes import PretrainConfig
from tinyvit_kd.errors import BlockMissingError, ConfigError
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.checkpoint import load_checkpoint


def test_modulo_takes_the_next_views_in_turn() -> None:
    assert [ViewSchedule(1, ((0, 3),)).numbers(epoch) for epoch in range(5)] == [(0,), (1,), (2,), (0,), (1,)]
    assert [ViewSchedule(2, ((0, 3),)).numbers(epoch) for epoch in range(3)] == [(0, 1), (2, 0), (1, 2)]


@given(st.integers(1, 40), st.integers(0, 1 << 40), st.integers(0, 200))
def test_a_permuted_cycle_has_every_view_once(count: int, seed: int, cycle: int) -> None:
    views = ViewSchedule(1, ((0, count),), seed)
    cycle_views = [views.numbers(epoch)[0] for epoch in range(cycle * count, (cycle + 1) * count)]
    assert sorted(cycle_views) == list(range(count))


def test_every_cycle_and_every_seed_has_its_own_permutation() -> None:
    def cycle(seed: int, number: int) -> list[tuple[int, ...]]:
        return [ViewSchedule(1, ((0, 10),), seed).numbers(epoch) for epoch in range(number * 10, number * 10 + 10)]

    assert cycle(0, 0) == cycle(0, 0)
    assert cycle(0, 0) != cycle(0, 1)
    assert cycle(0, 0) != cycle(1, 0)


@given(st.integers(1, 6), st.integers(0, 12), st.none() | st.integers(0, 99), st.integers(0, 50))
def test_an_epoch_has_no_view_twice(chosen: int, more: int, seed: int | None, epoch: int) -> None:
    numbers = ViewSchedule(chosen, ((0, chosen + more),), seed).numbers(epoch)
    assert len(set(numbers)) == chosen
    assert set(numbers) <= set(range(chosen + more))


@pytest.mark.parametrize("seed", [None, 3])
def test_later_views_are_used_from_their_epoch_on_and_change_nothing_before(seed: int | None) -> None:
    before = ViewSchedule(1, ((0, 4),), seed)
    grown = before.grown(10, 6)
    assert [grown.numbers(epoch) for epoch in range(6)] == [before.numbers(epoch) for epoch in range(6)]
    assert Counter(grown.numbers(epoch) for epoch in range(6, 16)) == Counter((view,) for view in range(10))
    assert grown.used(range(6)) == [0, 1, 2, 3]
    assert grown.used(range(16)) == list(range(10))


def test_a_store_that_grows_twice_within_an_epoch_is_noted_once() -> None:
    views = ViewSchedule(1, ((0, 4),)).grown(6, 3)
    assert views.counts == ((0, 4), (3, 6))
    assert views.grown(9, 3).counts == ((0, 4), (3, 9))
    assert views.grown(9, 5).counts == ((0, 4), (3, 6), (5, 9))
    assert views.grown(6, 5) == views
    assert ViewSchedule(1, ((0, 4),)).grown(9, 0).counts == ((0, 9),)


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, tuple[int, ...]]]:
    """Epoch and view numbers of every batch that is made."""
    noted: list[tuple[int, tuple[int, ...]]] = []
    fill = StoredBatches.fill

    def noting(self: StoredBatches, task: int, arrays: Any) -> int:
        epoch = self.plan.samples(task)[0]
        noted.append((epoch, tuple(self.plan.view_numbers(epoch))))
        return fill(self, task, arrays)

    monkeypatch.setattr(StoredBatches, "fill", noting)
    return noted


def test_a_run_uses_the_views_of_its_schedule(
    dumped: Path, tmp_path: Path, epochs: list[tuple[int, tuple[int, ...]]]
) -> None:
    store = {"path": str(dumped / "store"), "view_schedule": "permutation"}
    schedule = TRAINING["schedule"] | {"epochs": 4, "seed": 3}
    pretrain(World(dumped).pretrain(store=store, schedule=schedule, output=str(tmp_path / "run")), solo_job())
    expected = ViewSchedule(1, ((0, 2),), seed=3)  # not that of seed 0
    assert sorted(set(epochs)) == [(epoch, expected.numbers(epoch)) for epoch in range(4)]


def test_fewer_views_than_the_store_has_can_be_used(
    dumped: Path, tmp_path: Path, epochs: list[tuple[int, tuple[int, ...]]]
) -> None:
    store = {"path": str(dumped / "store"), "views": 1}
    pretrain(World(dumped).pretrain(store=store, output=str(tmp_path / "run")), solo_job())
    assert set(epochs) == {(0, (0,)), (1, (0,))}


def test_a_resumed_run_takes_in_views_that_were_dumped_meanwhile(
    world: World, epochs: list[tuple[int, tuple[int, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two more views are dumped while the run is stopped in the middle of the second of six epochs."""
    schedule = TRAINING["schedule"] | {"epochs": 6}
    train = TRAINING["train"] | {"checkpoint_every": 3}
    config = world.pretrain(schedule=schedule, train=train)
    stop_at(9, config, monkeypatch)
    dump_logits(world.dump(store={"path": str(world.folder / "store"), "topk": 5, "views": 4}), solo_job())
    epochs.clear()
    pretrain(config, solo_job())
    assert sorted(set(epochs)) == [(1, (1,)), (2, (2,)), (3, (3,)), (4, (0,)), (5, (1,))]
    last = load_checkpoint(sorted((world.folder / "distilled" / "checkpoints").glob("*.pt"))[-1])
    assert last["kept"]["stored_views"] == ((0, 2), (2, 4))


def stop_at(step: int, config: PretrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run up to a step, which leaves a checkpoint."""
    fill = StoredBatches.fill

    def stopping(self: StoredBatches, task: int, arrays: Any) -> int:
        if task == step:
            raise RuntimeError("stopped")
        return fill(self, task, arrays)

    with monkeypatch.context() as patched:
        patched.setattr(StoredBatches, "fill", stopping)
        with pytest.raises(RuntimeError, match="stopped"):
            pretrain(config, solo_job())


def test_views_that_are_still_being_dumped_do_not_stop_a_resumed_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = world.pretrain()
    stop_at(9, config, monkeypatch)
    dump_logits(world.dump(store={"path": str(world.folder / "store"), "topk": 5, "views": 4}), solo_job())
    block_file(LogitStore.open(world.folder / "store"), 1, 3).unlink()  # not there yet
    pretrain(config, solo_job())
    with pytest.raises(BlockMissingError, match="view 3 of shard"):
        pretrain(
            world.pretrain(schedule=TRAINING["schedule"] | {"epochs": 4}, output=str(world.folder / "new")),
            solo_job(),
        )


def test_a_run_cannot_be_continued_with_fewer_views(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(9, world.pretrain(), monkeypatch)
    with pytest.raises(ConfigError, match="has used more views already"):
        pretrain(world.pretrain(store={"path": str(world.folder / "store"), "views": 1}), solo_job())
