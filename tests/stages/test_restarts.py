"""A job whose processes are killed, and started again by torchrun, ends as if nothing had been."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.fault_injection.compare import store_differences, weight_differences
from benchmarks.fault_injection.proc import children, command_line
from benchmarks.tiny_world import TRAINING, World
from tests.processes import wait_until
from tests.stages.commands import Stage, command, on_a_slow_disk, torchrun
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.training.checkpoint import CHECKPOINTS, checkpoints

PROCESSES, VIEWS, EPOCHS = 2, 30, 15
KILLS = (0.0, 0.0, 0.25, 0.5, 0.75)  # after what share of the work a process is killed; 0: before it has begun
WHO_KEEPS_THE_STORE = {"torchrun": "0", "rank 0": "1"}  # of TORCH_DISABLE_SHARE_RDZV_TCP_STORE


def recipe(world: World, stage: str, name: str) -> Stage:
    """A stage with its output in a folder of this name."""
    output = str(world.folder / name)
    if stage == "dump-logits":
        return world.dump(store={"path": output, "topk": 5, "views": VIEWS})
    make: Callable[..., Stage] = world.pretrain if stage == "pretrain" else world.finetune
    return make(
        output=output,
        schedule=TRAINING["schedule"] | {"epochs": EPOCHS},
        train=TRAINING["train"] | {"checkpoint_every": 2},
    )


def share_done(config: Stage, output: Path) -> float:
    """How much of the work a start would find done."""
    if isinstance(config, DumpConfig):
        return len(list(output.glob("s*/c.*.0.0"))) / (3 * VIEWS)
    newest = checkpoints(output / CHECKPOINTS)
    return int(newest[0].stem.rpartition("-")[2]) / (EPOCHS * 6) if newest else 0.0


def ranks_of(process: subprocess.Popen[bytes], stage: str) -> list[int]:
    """The job's processes that run now."""
    found = []
    for pid in children(process.pid):
        with suppress(OSError):  # it has just ended
            if stage in command_line(pid):
                found.append(pid)
    return found


def kill_again_and_again(process: subprocess.Popen[bytes], config: Stage, output: Path, rng: random.Random) -> None:
    """Kill one process of each start of a job, at the moments of ``KILLS``."""
    killed: set[int] = set()

    def all_run_again() -> bool:
        assert process.poll() is None, "it ended too early"
        ranks = ranks_of(process, config.stage)
        return len(ranks) == PROCESSES and not killed & set(ranks)

    def far_enough() -> bool:
        return all_run_again() and share_done(config, output) >= share

    for share in KILLS:
        wait_until(all_run_again, "torchrun did not start it again", seconds=120)
        if share:
            wait_until(far_enough, f"it did not come to {share:.0%}", seconds=180)
        else:
            time.sleep(rng.uniform(0, 5))  # while it imports, meets the others, or opens what it needs
        ranks = ranks_of(process, config.stage)
        os.kill(rng.choice(ranks), signal.SIGKILL)
        killed |= set(ranks)


@pytest.mark.slow
# Each stage once, and each keeper: what they share is tested by the other.
@pytest.mark.parametrize(
    ("stage", "keeper"), [("dump-logits", "rank 0"), ("pretrain", "torchrun"), ("finetune", "rank 0")]
)
def test_a_job_whose_processes_are_killed_ends_as_one_that_was_left_alone(
    stage: str, keeper: str, world: World
) -> None:
    config, whole = recipe(world, stage, "killed"), recipe(world, stage, "whole")
    if isinstance(whole, DumpConfig):
        dump_logits(whole, solo_job())
    else:
        subprocess.run(command(world.folder, whole, *torchrun(PROCESSES), "-m", "tinyvit_kd"), check=True, timeout=300)
    # As many restarts as kills: one that fails to meet would be one too many.
    program = *torchrun(PROCESSES, "--max-restarts", str(len(KILLS))), *on_a_slow_disk(world.folder)
    environment = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": WHO_KEEPS_THE_STORE[keeper]}
    process = subprocess.Popen(command(world.folder, config, *program), env=environment, start_new_session=True)
    try:
        kill_again_and_again(process, config, world.folder / "killed", random.Random(f"{stage} {keeper}"))
        assert process.wait(300) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    differences = store_differences if stage == "dump-logits" else weight_differences
    assert differences(world.folder / "killed", world.folder / "whole") == []
