"""A stage that is asked to stop writes what it has, says so by its exit code, and continues as if nothing had been."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from benchmarks.fault_injection.proc import children
from benchmarks.tiny_world import SIZE, TRAINING, World
from tests.models.weights import assert_same_weights
from tests.processes import alive, wait_until
from tests.stages.commands import command, on_a_slow_disk, start, torchrun, wait_for_file
from tinyvit_kd.analysis.jobs.run_folder import read_run
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.recipes import PretrainConfig
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.checkpoint import checkpoints, load_checkpoint

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

# An evaluation of half a minute, in which rank 1 scores more slowly; each process leaves its id once it has begun.
LONG_EVALUATION = """
import os, sys, time
from pathlib import Path
from tinyvit_kd import cli
from tinyvit_kd.batches.evaluation_batches import EvalBatches
folder, rank, fill = Path(sys.argv.pop(1)), int(os.environ["RANK"]), EvalBatches.fill
def slowly(*arguments):
    path = folder / f"scoring-{rank}"
    if not path.exists():
        path.with_suffix(".new").write_text(str(os.getpid()))
        path.with_suffix(".new").rename(path)
    time.sleep(0.5 + 0.5 * rank)
    return fill(*arguments)
EvalBatches.fill = slowly
cli.main()
"""


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


def stop_in_its_midst(world: World, config: PretrainConfig, number: signal.Signals) -> None:
    process = start(world.folder, config, *on_a_slow_disk(world.folder), stderr=subprocess.PIPE)
    wait_for_file(process, Path(config.output) / "checkpoints", "step-*.pt")
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == REQUEUE_EXIT_CODE
    assert f"with a checkpoint in {config.output}" in said  # though it waited for its disk, and not between two steps
    assert not (Path(config.output) / "model.safetensors").exists()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_leaves_a_checkpoint_and_the_code_for_requeueing(number: signal.Signals, world: World) -> None:
    config = busy(world, "stopped")
    stop_in_its_midst(world, config, number)
    newest = checkpoints(Path(config.output) / "checkpoints")[0]
    assert 0 < load_checkpoint(newest)["step"] < 60


def take_terminal() -> None:
    """In a new session: make standard input its terminal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup


def test_a_run_whose_terminal_is_closed_leaves_a_checkpoint_and_the_code_for_requeueing(world: World) -> None:
    config = busy(world, "closed")
    ours, its = pty.openpty()
    process = subprocess.Popen(
        command(world.folder, config, *on_a_slow_disk(world.folder)),
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(its)
    wait_for_file(process, Path(config.output) / "checkpoints", "step-*.pt")
    os.close(ours)
    assert process.wait(60) == REQUEUE_EXIT_CODE
    newest = checkpoints(Path(config.output) / "checkpoints")[0]
    assert 0 < load_checkpoint(newest)["step"] < 60


def test_a_stopped_run_ends_with_the_weights_of_one_that_never_was(world: World) -> None:
    stop_in_its_midst(world, busy(world, "stopped"), signal.SIGTERM)
    assert start(world.folder, quick(world, "stopped")).wait(120) == 0
    pretrain(quick(world, "whole"), solo_job())
    assert_same_weights(world.folder / "stopped", world.folder / "whole")


@pytest.mark.slow
def test_all_processes_stop_with_torchrun_and_go_on_bit_for_bit(world: World) -> None:
    names = []
    for number in (signal.SIGTERM, signal.SIGKILL):
        names.append(number.name)
        stop_two_processes(world, busy(world, number.name), number)
    recipes = [world.folder / f"{name}.yaml" for name in (*names, "whole")]
    for each in recipes:
        each.write_text(dump_yaml(quick(world, each.stem)))
    (world.folder / "runs.py").write_text(RUNS)
    script = [sys.executable, *torchrun(2), str(world.folder / "runs.py"), *map(str, recipes)]
    subprocess.run(script, check=True, capture_output=True, timeout=120)
    for name in names:
        assert_same_weights(world.folder / name, world.folder / "whole")


def stop_two_processes(world: World, config: PretrainConfig, number: signal.Signals) -> None:
    process = start(world.folder, config, *torchrun(2), *on_a_slow_disk(world.folder))
    wait_for_file(process, Path(config.output) / "checkpoints", "step-*.pt")
    ranks = children(process.pid)
    assert len(ranks) >= 2
    process.send_signal(number)
    process.wait(60)
    # More than the minute that one which hangs in its peers' silence is given.
    wait_until(lambda: not any(map(alive, ranks)), f"a process was left behind by {number.name}", seconds=90)
    assert not (Path(config.output) / "model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_one_signal_in_an_evaluation_stops_all_processes_and_they_go_on_bit_for_bit(rank: int, world: World) -> None:
    scored = {"shards": {"path": str(world.shards), "split": "train"}, "views": {"size": SIZE}, "batch_size": 2}
    (world.folder / "long_evaluation.py").write_text(LONG_EVALUATION)
    stopped, whole = (
        world.pretrain(output=str(world.folder / name), eval=scored, train=TRAINING["train"] | {"checkpoint_every": 99})
        for name in ("stopped", "whole")
    )
    program = *torchrun(2), str(world.folder / "long_evaluation.py"), str(world.folder)
    process = start(world.folder, stopped, *program, stderr=subprocess.PIPE)
    both = [world.folder / f"scoring-{each}" for each in range(2)]
    wait_until(lambda: all(each.exists() for each in both), "no evaluation began", 120)
    begin = time.monotonic()
    os.kill(int(both[rank].read_text()), signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - begin < 20  # of 24 s and 48 s
    assert said.count("stopped at step 6 with a checkpoint") == 2, said
    assert [load_checkpoint(each)["step"] for each in checkpoints(world.folder / "stopped" / "checkpoints")] == [6]
    for config in (stopped, whole):
        again = start(world.folder, config, *torchrun(2), "-m", "tinyvit_kd", stderr=subprocess.PIPE)
        _, said = again.communicate(timeout=120)
        assert again.returncode == 0, said
    assert_same_weights(world.folder / "stopped", world.folder / "whole")
    scores = [read_run(world.folder / name).of_kind("eval") for name in ("stopped", "whole")]
    assert [[line["step"] for line in lines] for lines in scores] == [[6, 12]] * 2
    first, second = ([line["top1"] for line in lines] for lines in scores)
    assert first == second


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_dump_that_is_stopped_leaves_the_code_for_requeueing_and_is_finished_by_the_next(
    number: signal.Signals, world: World
) -> None:
    config = world.dump(store={"path": str(world.folder / "stopped"), "topk": 5, "views": 40})
    process = start(world.folder, config, *on_a_slow_disk(world.folder))
    wait_for_file(process, world.folder / "stopped", "s*/c.*.0.0")
    process.send_signal(number)
    assert process.wait(60) == REQUEUE_EXIT_CODE
    store = LogitStore.open(world.folder / "stopped")
    assert store.missing_blocks()
    dump_logits(config, solo_job())
    assert store.missing_blocks() == []
    assert store.unfinished(range(3)) == []


def test_a_killed_dump_has_whole_blocks_and_is_finished_by_the_next(world: World) -> None:
    config = world.dump(store={"path": str(world.folder / "killed"), "topk": 5, "views": 40})
    process = start(world.folder, config, *on_a_slow_disk(world.folder))
    wait_for_file(process, world.folder / "killed", "s*/c.*")
    process.kill()
    process.wait(60)
    store = LogitStore.open(world.folder / "killed")
    missing = set(store.missing_blocks())
    assert missing
    for shard in range(3):
        for view in range(40):
            if (shard, view) not in missing:
                store.read_block(shard, view)
    assert start(world.folder, config).wait(120) == 0
    assert store.missing_blocks() == []
