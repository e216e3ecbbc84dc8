"""Jobs of several machines, which are agents on loopback or in network namespaces here: machines die, and come back."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fault_injection.compare import store_differences, weight_differences
from benchmarks.fault_injection.proc import children, command_line
from benchmarks.loopback import LOOPBACK, free_port
from benchmarks.tiny_world import NETWORK, SIZE, TRAINING, World
from tests.models.weights import assert_nearly_same_weights
from tests.processes import wait_until
from tests.stages.commands import COMMAND_LINE, command, on_a_slow_disk, torchrun
from tests.stages.nodes import (
    Agent,
    await_step,
    cut,
    elastic,
    mend,
    newest_step,
    nodes,
    two_namespaces,
    why_no_namespaces,
)
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain

pytestmark = pytest.mark.slow
IN_SECONDS = 60.0  # in which a lost machine is noticed on a busy one; half an hour is what collective operations allow

# What differs is the order in which float32 numbers are added, which a small epsilon would make large.
SAME: dict[str, Any] = {
    "schedule": TRAINING["schedule"] | {"micro_batch_size": 4, "epochs": 8},
    "optim": TRAINING["optim"] | {"eps": 1.0},
    "train": TRAINING["train"] | {"checkpoint_every": 3},
    "runtime": {"workers": 0, "peer_timeout": 10},
}


def test_a_job_shrinks_and_grows_with_its_machines_and_trains_what_one_process_does(world: World) -> None:
    output = world.folder / "elastic"
    config = world.pretrain(output=str(output), **SAME)
    port = free_port()
    options = elastic("1:4", port, conf="is_host=0")
    _, *program = command(world.folder, config, *on_a_slow_disk(world.folder))
    with nodes(world.folder, *program) as job:
        job.start(*elastic("1:4", port, conf="is_host=1"))  # so that torchrun's own store is not lost with another one
        other, _ = (job.start(*options) for _ in range(2))
        # Four lanes cannot be shared out evenly among three.
        wait_until(lambda: job.said("2 of 3 processes train"), "nobody stands by", 120)
        await_step(output, 3)
        before = newest_step(output)
        other.kill()
        lost = await_step(output, before + 4)
        print(f"a machine of three was lost: {lost:.1f} s to the next checkpoint but one")
        job.start(*options)
        job.start(*options)
        job.wait()
    assert job.said("is gone, or did not answer")
    assert job.said("on 4 processes")
    pretrain(world.pretrain(output=str(world.folder / "alone"), **SAME), solo_job())
    assert_nearly_same_weights(world.folder / "alone", output)


# Ends as a stage does that is asked to stop, on all machines, and well once it is alone.
UNTIL_ALONE = """#!/bin/sh
[ "$WORLD_SIZE" = 1 ] && exit 0
trap 'touch "$0.stopped"; exit 75' TERM
touch "$0.$RANK"
while [ ! -e "$0.stopped" ]; do sleep 0.1; done
exit 75
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_job_goes_on_without_a_machine_that_is_stopped(number: signal.Signals, tmp_path: Path) -> None:
    program = tmp_path / "program.sh"
    program.write_text(UNTIL_ALONE)
    program.chmod(0o755)
    port = free_port()
    with nodes(tmp_path, "--no_python", str(program)) as job:
        job.launcher = (*COMMAND_LINE, "torchrun")
        host, other = (
            job.start(*elastic("1:2", port, conf=f"is_host={is_host},keep_alive_max_attempt=2")) for is_host in (1, 0)
        )
        wait_until(lambda: len(list(tmp_path.glob("program.sh.?"))) == 2, "they did not meet")
        other.process.send_signal(number)
        assert other.process.wait(60) == REQUEUE_EXIT_CODE, other.log.read_text()
        assert host.process.wait(60) == 0, host.log.read_text()


def rank_of(agent: Agent, stage: str) -> int:
    """The process of an agent that runs a stage."""
    found: list[int] = []

    def runs() -> bool:
        with suppress(OSError):
            found.extend(pid for pid in children(agent.process.pid) if stage in command_line(pid))
        return bool(found)

    wait_until(runs, "it did not start", 60)
    return found[-1]


def test_three_machines_with_a_fixed_address_dump_the_store_of_one_though_a_process_is_killed(world: World) -> None:
    made, whole = (
        world.dump(store={"path": str(world.folder / name), "topk": 5, "views": 12}, runtime=SAME["runtime"])
        for name in ("made", "whole")
    )
    _, *program = command(world.folder, made, *on_a_slow_disk(world.folder))
    port = str(free_port())
    with nodes(world.folder, *program) as job:
        for number in range(3):
            job.start(
                *("--nnodes", "3", "--nproc_per_node", "1", "--max-restarts", "2", "--node_rank", str(number)),
                *("--master_addr", LOOPBACK, "--master_port", port),
            )
        wait_until(lambda: len(list((world.folder / "made").glob("s*/c.*"))) > 4, "no blocks", 120)
        os.kill(rank_of(job.agents[2], "dump-logits"), signal.SIGKILL)
        job.wait()
    dump_logits(whole, solo_job())
    assert store_differences(world.folder / "made", world.folder / "whole") == []


NO_NAMESPACES = why_no_namespaces() if os.getuid() == 0 else "only root may make network namespaces"


@pytest.mark.skipif(bool(NO_NAMESPACES), reason=f"no network namespaces here: {NO_NAMESPACES}")
def test_a_machine_that_vanishes_without_a_word_is_missed_within_seconds_and_awaited(world: World) -> None:
    sections: dict[str, Any] = SAME | {
        "eval": {"shards": {"path": str(world.shards), "split": "train"}, "views": {"size": SIZE}}
    }
    config, whole = (
        world.finetune(output=str(world.folder / name), student={"tiny_vit": NETWORK}, **sections)
        for name in ("cut", "whole")
    )
    _, *program = command(world.folder, config, *on_a_slow_disk(world.folder))
    with two_namespaces() as (first, second), nodes(world.folder, *program) as job:
        options = [
            elastic("2", 29500, each.address, first.address, f"is_host={int(each is first)}")
            for each in (first, second)
        ]
        host, other = (job.start(*each, node=node) for each, node in zip(options, (first, second), strict=True))
        await_step(Path(config.output), 3)
        cut(second)
        noticed = max(each.await_words("is gone, or did not answer", IN_SECONDS) for each in (host, other))
        step = newest_step(Path(config.output))
        other.kill()
        mend(second)
        job.start(*options[1], node=second)
        again = await_step(Path(config.output), step + 1)
        print(f"a cut link: noticed after {noticed:.1f} s; {again:.1f} s from its return to the next checkpoint")
        job.wait()
    assert host.said(f"continuing from step {step}")
    done = subprocess.run(
        command(world.folder, whole, *torchrun(2), "-m", "tinyvit_kd"), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert weight_differences(Path(config.output), Path(whole.output)) == []


# Rank 0 takes longer than a collective operation may for whatever it does alone, and rank 1 for its share of scores.
PATIENCE = """
import sys, time
from datetime import timedelta
from tinyvit_kd import cli
from tinyvit_kd.batches.evaluation_batches import EvalBatches
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.runs import student_run, resume
from tinyvit_kd.runtime import distributed
from tinyvit_kd.runtime.lines import own_rank
from tinyvit_kd.training import loop

ALLOWED = 2.0
distributed.collective_timeout = lambda runtime: timedelta(seconds=ALLOWED)
waited = set()

def slowly(holder, name, rank):
    function = getattr(holder, name)
    def slow(*arguments, **options):
        if own_rank() == rank and name not in waited:
            waited.add(name)
            time.sleep(1.5 * ALLOWED)
            print("slept in", name, flush=True)
        return function(*arguments, **options)
    setattr(holder, name, slow)

slowly(ShardSet, "summaries", 0)
slowly(student_run, "finished_summary", 0)
slowly(resume, "load_first", 0)
slowly(loop, "save_checkpoint", 0)
slowly(student_run, "export_student", 0)
slowly(student_run, "write_summary", 0)
slowly(student_run, "_build_state", 1)
slowly(EvalBatches, "fill", 1)
cli.main()
"""


def test_no_process_gives_up_while_another_is_at_work(world: World) -> None:
    one_epoch = TRAINING["schedule"] | {"epochs": 1}
    scored: dict[str, Any] = {"shards": {"path": str(world.shards), "split": "train"}, "views": {"size": SIZE}}
    config = world.finetune(schedule=one_epoch, eval=scored, runtime={"workers": 0, "peer_timeout": 10})
    (world.folder / "patience.py").write_text(PATIENCE)
    program = *torchrun(2), str(world.folder / "patience.py")
    done = subprocess.run(command(world.folder, config, *program), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("slept in") == 8, done.stdout
