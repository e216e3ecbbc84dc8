"""A stage that is asked to stop writes what it has, says so by its exit code, and continues as if nothing had been."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.processes import alive
from tests.stages.world import TRAINING, World, slow_program
from tinyvit_kd.config.base import Section
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.recipes import PretrainConfig
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.checkpoint import checkpoints, load_checkpoint

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
# One job for several runs, by two processes: starting them takes longer than the runs do.
RUNS = """
import sys
from pathlib import Path
from tinyvit_kd.config.load import load_recipe
from tinyvit_kd.config.recipes import PretrainConfig
from tinyvit_kd.runtime.distributed import start_job
from tinyvit_kd.stages.pretrain import pretrain

with start_job("cpu") as job:
    for recipe in sys.argv[1:]:
        pretrain(load_recipe(PretrainConfig, Path(recipe)), job)
"""


def start(folder: Path, command: str, config: Section) -> subprocess.Popen[bytes]:
    return start_python("-m", "tinyvit_kd", command, recipe(folder, command, config))


def start_slowly(folder: Path, command: str, config: Section, processes: int = 1) -> subprocess.Popen[bytes]:
    """For what is to be hit in its midst."""
    launcher = TORCHRUN if processes == 2 else []
    return start_python(*launcher, slow_program(folder), command, recipe(folder, command, config))


def recipe(folder: Path, command: str, config: Section) -> str:
    (folder / f"{command}.yaml").write_text(dump_yaml(config))
    return str(folder / f"{command}.yaml")


def start_python(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(found: Path, process: subprocess.Popen[bytes], pattern: str) -> None:
    deadline = time.monotonic() + 120
    while not list(found.glob(pattern)):
        assert process.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def run(world: World, name: str, checkpoint_every: int) -> PretrainConfig:
    return world.pretrain(
        output=str(world.folder / name),
        schedule=TRAINING["schedule"] | {"epochs": 10},
        train=TRAINING["train"] | {"checkpoint_every": checkpoint_every},
    )


def busy(world: World, name: str) -> PretrainConfig:
    """A run that can be hit at any step, and while it writes a checkpoint."""
    return run(world, name, checkpoint_every=1)


def quick(world: World, name: str) -> PretrainConfig:
    """The same run, and the one to go on with: how often it writes a checkpoint makes no difference to its weights."""
    return run(world, name, checkpoint_every=1000)


def assert_same_weights(left: Path, right: Path) -> None:
    first, second = (load_file(folder / "model.safetensors") for folder in (left, right))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def stop_in_its_midst(world: World, config: PretrainConfig, number: signal.Signals) -> None:
    process = start_slowly(world.folder, "pretrain", config)
    wait_for(config.output / "checkpoints", process, "step-*.pt")
    process.send_signal(number)
    assert process.wait(60) == REQUEUE_EXIT_CODE
    assert not (config.output / "model.safetensors").exists()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_leaves_a_checkpoint_and_the_code_for_requeueing(number: signal.Signals, world: World) -> None:
    config = busy(world, "stopped")
    stop_in_its_midst(world, config, number)
    newest = checkpoints(config.output / "checkpoints")[0]
    assert 0 < load_checkpoint(newest)["step"] < 60


def test_a_stopped_run_ends_with_the_weights_of_one_that_never_was(world: World) -> None:
    stop_in_its_midst(world, busy(world, "stopped"), signal.SIGTERM)
    assert start(world.folder, "pretrain", quick(world, "stopped")).wait(120) == 0
    pretrain(quick(world, "whole"), solo_job())
    assert_same_weights(world.folder / "stopped", world.folder / "whole")


def test_all_processes_stop_with_torchrun_and_go_on_bit_for_bit(world: World) -> None:
    names = []
    for number in (signal.SIGTERM, signal.SIGKILL):
        names.append(number.name)
        stop_two_processes(world, busy(world, number.name), number)
    recipes = [world.folder / f"{name}.yaml" for name in (*names, "whole")]
    for each in recipes:
        each.write_text(dump_yaml(quick(world, each.stem)))
    (world.folder / "runs.py").write_text(RUNS)
    assert start_python(*TORCHRUN, str(world.folder / "runs.py"), *map(str, recipes)).wait(120) == 0
    for name in names:
        assert_same_weights(world.folder / name, world.folder / "whole")


def stop_two_processes(world: World, config: PretrainConfig, number: signal.Signals) -> None:
    process = start_slowly(world.folder, "pretrain", config, processes=2)
    wait_for(config.output / "checkpoints", process, "step-*.pt")
    ranks = children(process.pid)
    assert len(ranks) >= 2
    process.send_signal(number)
    process.wait(60)
    deadline = time.monotonic() + 90  # more than the minute that one which hangs in its peers' silence is given
    while any(alive(rank) for rank in ranks):
        assert time.monotonic() < deadline, f"a process was left behind by {number.name}"
        time.sleep(0.1)
    assert not (config.output / "model.safetensors").exists()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_dump_that_is_stopped_leaves_the_code_for_requeueing_and_is_finished_by_the_next(
    number: signal.Signals, world: World
) -> None:
    config = world.dump(store={"path": str(world.folder / "stopped"), "topk": 5, "views": 40})
    process = start_slowly(world.folder, "dump-logits", config)
    wait_for(world.folder / "stopped", process, "s*/c.*.0.0")
    process.send_signal(number)
    assert process.wait(60) == REQUEUE_EXIT_CODE
    store = LogitStore.open(world.folder / "stopped")
    assert store.missing_blocks()
    dump_logits(config, solo_job())
    assert store.missing_blocks() == []
    assert store.unfinished(range(3)) == []


def test_a_killed_dump_has_whole_blocks_and_is_finished_by_the_next(world: World) -> None:
    config = world.dump(store={"path": str(world.folder / "killed"), "topk": 5, "views": 40})
    process = start_slowly(world.folder, "dump-logits", config)
    wait_for(world.folder / "killed", process, "s*/c.*")
    process.kill()
    process.wait(60)
    store = LogitStore.open(world.folder / "killed")
    missing = set(store.missing_blocks())
    assert missing
    for shard in range(3):
        for view in range(40):
            if (shard, view) not in missing:
                store.read_block(shard, view)
    process = start(world.folder, "dump-logits", config)
    assert process.wait(120) == 0
    assert store.missing_blocks() == []
