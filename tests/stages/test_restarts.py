"""A job whose processes are killed, and started again by torchrun, ends as if nothing had been."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
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
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.training.checkpoint import CHECKPOINTS, checkpoints

PROCESSES, VIEWS, EPOCHS = 2, 20, 10
# After what share of the work a process is killed; 0: before it has begun. All processes start anew after each kill.
KILLS = (0.0, 0.3, 0.7)
WHO_KEEPS_THE_STORE = {"torchrun": "0", "rank 0": "1"}  # of TORCH_DISABLE_SHARE_RDZV_TCP_STORE

# Both trainings in one job: starting it takes longer than they do.
TRAININGS = """
import sys
from pathlib import Path
from tinyvit_kd.config.load import load_recipe
from tinyvit_kd.config.recipes import FinetuneConfig, PretrainConfig
from tinyvit_kd.runtime.distributed import start_job
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.stages.pretrain import pretrain

folder = Path(sys.argv[1])
with start_job("cpu") as job:
    pretrain(load_recipe(PretrainConfig, folder / "pretrain.yaml"), job)
    finetune(load_recipe(FinetuneConfig, folder / "finetune.yaml"), job)
"""


def dump(world: World, folder: Path) -> DumpConfig:
    """Stage one, into this folder."""
    return world.dump(store={"path": str(folder), "topk": 5, "views": VIEWS})


def training(world: World, stage: str, folder: Path) -> Stage:
    """Stage two or three, into this folder."""
    make: Callable[..., Stage] = world.pretrain if stage == "pretrain" else world.finetune
    return make(
        output=str(folder),
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


@pytest.fixture(scope="module")
def undisturbed(dumped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each stage makes that is left alone, in a folder of its name."""
    world, folder = World(dumped), tmp_path_factory.mktemp("undisturbed")
    dump_logits(dump(world, folder / "dump-logits"), solo_job())
    for stage in ("pretrain", "finetune"):
        (folder / f"{stage}.yaml").write_text(dump_yaml(training(world, stage, folder / stage)))
    (folder / "trainings.py").write_text(TRAININGS)
    program = *torchrun(PROCESSES), str(folder / "trainings.py"), str(folder)
    subprocess.run([sys.executable, *program], check=True, timeout=300)
    return folder


@pytest.mark.slow
# Each stage once, and each keeper: what they share is tested by the other.
@pytest.mark.parametrize(
    ("stage", "keeper"), [("dump-logits", "rank 0"), ("pretrain", "torchrun"), ("finetune", "rank 0")]
)
def test_a_job_whose_processes_are_killed_ends_as_one_that_was_left_alone(
    stage: str, keeper: str, world: World, undisturbed: Path
) -> None:
    output, whole = world.folder / "killed", undisturbed / stage
    config = dump(world, output) if stage == "dump-logits" else training(world, stage, output)
    # As many restarts as kills: one that fails to meet would be one too many.
    program = *torchrun(PROCESSES, "--max-restarts", str(len(KILLS))), *on_a_slow_disk(world.folder)
    environment = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": WHO_KEEPS_THE_STORE[keeper]}
    process = subprocess.Popen(command(world.folder, config, *program), env=environment, start_new_session=True)
    try:
        kill_again_and_again(process, config, output, random.Random(f"{stage} {keeper}"))
        assert process.wait(300) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    differences = store_differences if stage == "dump-logits" else weight_differences
    assert differences(output, whole) == []
