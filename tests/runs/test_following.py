"""A run beside a dump waits for the views of each epoch, and ends with the weights of a run that need not wait."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fault_injection.proc import children, command_line
from benchmarks.tiny_world import TRAINING, World, make_teacher
from tests.models.weights import assert_same_weights
from tests.processes import alive, wait_until
from tests.runs.growing_stores import add, begin, grow_while_waiting, growing, view_by_view
from tests.runs.recorder import RunRecorder
from tests.stages.commands import COMMAND_LINE, Stage, on_a_slow_disk, start, torchrun
from tests.stages.test_preemption import RUNS
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.recipes import PretrainConfig
from tinyvit_kd.errors import BlockMissingError, StoreError
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE, AgreedStop
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.checkpoint import checkpoints
from tinyvit_kd.training.checkpoint_files import step_of

EPOCHS = 3
SCHEDULE = TRAINING["schedule"] | {"epochs": EPOCHS}


def follower(world: World, name: str, others: tuple[str, ...] = (), **store: Any) -> PretrainConfig:
    """A run that follows the dump of a store with this name, and has the same name itself."""
    rest = [{"path": str(world.folder / other)} for other in others]
    path = str(world.folder / name)
    return world.pretrain(
        store={"path": path, "follow": True, "others": rest, **store},
        output=str(world.folder / f"run-{name}"),
        schedule=SCHEDULE,
    )


def whole(world: World, **sections: Any) -> Path:
    """The folder of the same run on the whole store."""
    output = world.folder / "run-whole"
    pretrain(world.pretrain(output=str(output), schedule=SCHEDULE, **sections), solo_job())
    return output


def blocks(world: World) -> list[tuple[int, int]]:
    return list(view_by_view(LogitStore.open(world.store)))


@pytest.mark.parametrize(("schedule", "workers"), [("modulo", 0), ("permutation", 2)])
def test_a_run_beside_a_dump_ends_with_the_weights_of_one_on_the_whole_store(
    schedule: str, workers: int, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = {"schedule": SCHEDULE, "runtime": {"workers": workers, "data_timeout": 5}}
    store = {"path": str(world.folder / "new"), "follow": True, "view_schedule": schedule}
    config = world.pretrain(store=store, output=str(world.folder / "run-new"), **sections)
    recorder = RunRecorder()
    grow_while_waiting(monkeypatch, growing(world.store, world.folder / "new", blocks(world)))
    result = recorder.pretrain(config)
    assert result["digests_checked"] == EPOCHS * 96
    expected = RunRecorder()
    expected.pretrain(world.pretrain(store={"path": str(world.store), "view_schedule": schedule}, **sections))
    assert recorder.views == expected.views
    assert_same_weights(Path(config.output), world.folder / "distilled")


def test_the_stores_of_all_teachers_are_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    second = {"checkpoint": str(make_teacher(world.folder / "second", seed=2))}
    dump_logits(world.dump(teacher=second, store={"path": str(world.folder / "b"), "topk": 5, "views": 2}), solo_job())
    late = growing(world.folder / "b", world.folder / "other", [*blocks(world)[3:], *blocks(world)[:3]])
    grow_while_waiting(monkeypatch, growing(world.store, world.folder / "new", blocks(world)), late)
    pretrain(follower(world, "new", others=("other",)), solo_job())
    expected = whole(world, store={"path": str(world.store), "others": [{"path": str(world.folder / "b")}]})
    assert_same_weights(world.folder / "run-new", expected)


def test_without_following_an_incomplete_store_is_refused_and_the_way_out_is_told(world: World) -> None:
    begin(world.store, world.folder / "new")
    config = world.pretrain(store={"path": str(world.folder / "new")})
    with pytest.raises(BlockMissingError) as caught:
        pretrain(config, solo_job())
    assert "store.follow: true" in caught.value.fix


def test_a_run_says_what_it_waits_for_and_how_much_is_there(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    new = world.folder / "new"
    grow_while_waiting(monkeypatch, growing(world.store, new, [*blocks(world)[1:3], *blocks(world)]))
    pretrain(follower(world, "new"), solo_job())
    said = capsys.readouterr().err
    assert f"waiting for {new}, until a dump begins it: 0 of 1 stores are there" in said
    assert f"waiting for view 0 of {new}: 0 of 3 blocks are there; the first that is missing is view 0" in said
    assert f"waiting for view 1 of {new}: 0 of 3 blocks are there; the first that is missing is view 1" in said
    assert "follows a dump: each epoch waits for its views" in said
    assert said.count("it is there, after") == 3
    assert "block_order" not in said


def test_a_dump_that_goes_shard_by_shard_is_named_as_the_cause(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    new = world.folder / "new"
    begin(world.store, new)
    add(world.store, new, sorted(blocks(world))[:2])
    grow_while_waiting(monkeypatch, growing(world.store, new, sorted(blocks(world))[2:]))
    pretrain(follower(world, "new"), solo_job())
    assert "block_order: views in its recipe" in capsys.readouterr().err


def test_the_last_views_of_a_dump_that_completes_views_are_not_taken_for_one_by_shard(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    four, new = world.folder / "four", world.folder / "new"
    dump_logits(world.dump(store={"path": str(four), "topk": 5, "views": 4}), solo_job())
    begin(four, new)
    order = [(shard, view) for first in (0, 2) for shard in range(3) for view in (first, first + 1)]
    add(four, new, order[:8])
    grow_while_waiting(monkeypatch, growing(four, new, order[8:]))
    config = follower(world, "new")
    pretrain(config.model_copy(update={"schedule": config.schedule.model_copy(update={"epochs": 4})}), solo_job())
    said = capsys.readouterr().err
    assert "waiting for view 2" in said
    assert "block_order" not in said


def test_a_run_gives_up_where_nothing_new_comes_keeps_its_checkpoint_and_goes_on_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow_while_waiting(monkeypatch)
    new, config = world.folder / "new", follower(world, "new", follow_timeout=0.1)
    with pytest.raises(AgreedStop, match=r"gave up waiting for .*new, until a dump begins it"):
        pretrain(config, solo_job())
    begin(world.store, new)
    add(world.store, new, blocks(world)[:3])
    with pytest.raises(AgreedStop, match=r"gave up waiting for view 1 of .*new: 0 of 3 blocks are there"):
        pretrain(config, solo_job())
    assert step_of(checkpoints(Path(config.output) / "checkpoints")[0].name) == 6
    add(world.store, new, blocks(world)[3:])
    pretrain(config, solo_job())
    assert_same_weights(Path(config.output), whole(world))


def test_a_store_that_grows_while_a_run_is_stopped_counts_with_all_its_views_from_the_next_epoch_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(world.store, world.folder / "new")
    config = follower(world, "new")
    RunRecorder().pretrain_up_to(8, config)
    four = world.dump(store={"path": str(world.folder / "four"), "topk": 5, "views": 4}, block_order="views")
    dump_logits(four, solo_job())
    begin(world.folder / "four", world.folder / "new")
    recorder = RunRecorder()
    later = [(shard, view) for view in (2, 3) for shard in range(3)]
    grow_while_waiting(monkeypatch, growing(world.folder / "four", world.folder / "new", later))
    recorder.pretrain(config)
    assert recorder.views == [(1, (1,)), (2, (2,))]


def test_a_damaged_manifest_is_not_waited_for(world: World) -> None:
    begin(world.store, world.folder / "new")
    (world.folder / "new" / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="manifest cannot be read"):
        pretrain(follower(world, "new"), solo_job())


def waits(config: PretrainConfig) -> bool:
    """Whether a run has said that it waits."""
    path = Path(config.output) / "progress.json"
    return path.exists() and "waiting for view" in (json.loads(path.read_text()).get("message") or "")


@pytest.mark.slow
def test_a_signal_ends_the_waiting_with_a_checkpoint_and_the_run_goes_on_from_it(world: World) -> None:
    config = follower(world, "new")
    begin(world.store, world.folder / "new")
    add(world.store, world.folder / "new", blocks(world)[:3])
    process = start(world.folder, config)
    wait_until(lambda: waits(config), "it does not wait")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == REQUEUE_EXIT_CODE
    assert step_of(checkpoints(Path(config.output) / "checkpoints")[0].name) == 6
    add(world.store, world.folder / "new", blocks(world)[3:])
    pretrain(config, solo_job())
    assert_same_weights(Path(config.output), whole(world))


@pytest.mark.slow
def test_all_processes_of_a_run_that_waits_stop_at_the_same_step_and_go_on(world: World) -> None:
    """A signal to one of them is enough: they agree while they wait."""
    config = follower(world, "new")
    begin(world.store, world.folder / "new")
    add(world.store, world.folder / "new", blocks(world)[:3])
    process = start(world.folder, config, *torchrun(2), *COMMAND_LINE)
    wait_until(lambda: waits(config), "it does not wait", seconds=120)
    ranks = [pid for pid in children(process.pid) if "pretrain" in command_line(pid)]
    assert len(ranks) == 2
    os.kill(ranks[1], signal.SIGTERM)
    assert process.wait(60) != 0  # torchrun's own code
    wait_until(lambda: not any(map(alive, ranks)), "a process was left behind")
    assert step_of(checkpoints(Path(config.output) / "checkpoints")[0].name) == 6
    assert json.loads((Path(config.output) / "progress.json").read_text())["state"] == "stopped"
    reference = config.model_copy(update={"output": world.folder / "run-whole"})
    recipes = [world.folder / "again.yaml", world.folder / "whole.yaml"]
    for recipe, each in zip(recipes, (config, reference), strict=True):
        recipe.write_text(dump_yaml(each))
    (world.folder / "runs.py").write_text(RUNS)
    job = subprocess.Popen([sys.executable, *torchrun(2), str(world.folder / "runs.py"), *map(str, recipes)])
    for block in blocks(world)[3:]:
        time.sleep(3)
        add(world.store, world.folder / "new", [block])
    assert job.wait(120) == 0
    assert_same_weights(Path(config.output), Path(reference.output))


@pytest.mark.slow
def test_dump_and_run_that_are_killed_again_and_again_beside_each_other_end_as_if_nothing_had_been(
    world: World,
) -> None:
    chance = random.Random(7)
    views, schedule = 8, TRAINING["schedule"] | {"epochs": 9}
    new = {"path": str(world.folder / "new")}
    dump = world.dump(store=new | {"topk": 5, "views": views}, block_order="views")
    train = TRAINING["train"] | {"checkpoint_every": 2}
    config = world.pretrain(
        store=new | {"follow": True}, output=str(world.folder / "run"), schedule=schedule, train=train
    )
    slow = on_a_slow_disk(world.folder)
    stages: dict[str, Stage] = {"dump": dump, "run": config}
    running = {name: start(world.folder, stage, *slow) for name, stage in stages.items()}
    for _ in range(3):
        time.sleep(chance.uniform(1, 5))
        name = chance.choice(list(stages))
        running[name].kill()
        running[name].wait()
        running[name] = start(world.folder, stages[name], *slow)
    assert [process.wait(120) for process in running.values()] == [0, 0]
    reference = world.pretrain(store=new, output=str(world.folder / "whole"), schedule=schedule)
    pretrain(reference, solo_job())
    assert_same_weights(Path(config.output), Path(reference.output))
