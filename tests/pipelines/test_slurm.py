"""``pipelines/slurm`` on a real Slurm: what is stopped, killed or preempted goes on; a mistake does not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.fault_injection.compare import store_differences
from benchmarks.fault_injection.proc import children
from benchmarks.tiny_world import TRAINING, World, draw_shards, make_teacher
from tests.pipelines.slurm import Slurm, slurm
from tests.processes import wait_until
from tinyvit_kd.config.base import Section
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.recipes import FinetuneConfig, PretrainConfig
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.stages.pretrain import pretrain

pytestmark = pytest.mark.slow
SMALL = ("--nodes=1", "--gpus-per-node=0", "--cpus-per-task=1")  # in place of what the scripts ask for


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    with slurm() as found:
        yield found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("cluster")
    draw_shards(folder)
    make_teacher(folder)
    return World(folder)


def long_run(world: World, name: str, epochs: int = 60) -> PretrainConfig:
    """A run that can be hit in its middle."""
    return world.pretrain(
        output=str(world.folder / name),
        schedule=TRAINING["schedule"] | {"epochs": epochs},
        train=TRAINING["train"] | {"checkpoint_every": 50, "log_every": 50},
    )


def last_stage(world: World, name: str, start: str) -> FinetuneConfig:
    return world.finetune(output=str(world.folder / name), student={"init_from": str(world.folder / start)})


def written(world: World, name: str, config: Section) -> Path:
    path = world.folder / name
    path.write_text(dump_yaml(config))
    return path


def submit(cluster: Slurm, world: World, stage: str, recipe: Path, *options: str) -> str:
    """Submit a stage's script; returns the job's number. What it prints is in STAGE-JOB.out in the world's folder."""
    output = f"--output={world.folder}/{stage}-%A.out"
    script = f"pipelines/slurm/{stage}.sbatch"
    return cluster.run("sbatch", "--parsable", *SMALL, output, *options, script, recipe)


def said(world: World, stage: str, job: str) -> str:
    return (world.folder / f"{stage}-{job}.out").read_text()


def wait_for_checkpoint(config: PretrainConfig) -> None:
    wait_until(
        lambda: list(Path(config.output).glob("checkpoints/step-*.pt")), f"{config.output} has no checkpoint", 120
    )


def test_a_chain_that_is_signalled_in_its_middle_ends_with_the_bytes_of_one_that_was_not(
    cluster: Slurm, world: World
) -> None:
    distilled, finetuned = long_run(world, "distilled"), last_stage(world, "finetuned", "distilled")
    recipes = {
        "DUMP": written(world, "dump.yaml", world.dump()),
        "PRETRAIN": written(world, "pretrain.yaml", distilled),
        "FINETUNE": written(world, "finetune.yaml", finetuned),
    }
    output = f"--output={world.folder}/%x-%A-%a.out"
    told = cluster.run("pipelines/slurm/chain.sh", *SMALL, output, PARTS="2", **recipes)
    dump, second, third = (words.split()[1] for words in told.split(","))

    wait_for_checkpoint(distilled)
    assert "2 of 6 blocks missing here" in (world.folder / f"dump-{dump}-2.out").read_text()
    cluster.run("scancel", "--batch", "--signal=USR1", second)  # as Slurm does two minutes before the end
    cluster.wait_for(second, "PENDING")
    assert not (Path(distilled.output) / "model.safetensors").exists()
    assert cluster.facts(second)["Restarts"] == "1"
    assert cluster.state(third) == "PENDING"
    cluster.start_now(second)
    cluster.wait_for(third, "COMPLETED")

    alone = World(world.folder / "alone")
    store = {"path": str(alone.store), "topk": 5, "views": 2}
    dump_logits(world.dump(store=store), solo_job())
    undisturbed = long_run(world, "undisturbed").model_copy(update={"store": world.pretrain().store})
    pretrain(undisturbed, solo_job())
    finetune(last_stage(world, "undisturbed-finetuned", "undisturbed"), solo_job())
    assert store_differences(world.store, alone.store) == []
    for ours, theirs in (("distilled", "undisturbed"), ("finetuned", "undisturbed-finetuned")):
        first, other = (world.folder / name / "model.safetensors" for name in (ours, theirs))
        assert first.read_bytes() == other.read_bytes()


def test_what_is_wrong_or_cancelled_is_not_requeued_and_what_was_killed_or_preempted_is(
    cluster: Slurm, world: World
) -> None:
    """After the chain, whose store it needs. All at once: each start takes seconds."""
    nodes = {"cancelled": 1, "killed": 2, "preempted": 1}
    runs = {name: long_run(world, name, epochs=10_000) for name in nodes}  # none of them gets to its end
    (world.folder / "wrong.yaml").write_text("stage: pretrain\n")
    mistake = submit(cluster, world, "pretrain", world.folder / "wrong.yaml")
    after = submit(
        cluster,
        world,
        "finetune",
        world.folder / "finetune.yaml",
        f"--dependency=afterok:{mistake}",
        "--kill-on-invalid-dep=yes",
    )
    holes = submit(cluster, world, "dump", world.folder / "dump.yaml", "--array=3,7")
    jobs = {
        name: submit(cluster, world, "pretrain", written(world, f"{name}.yaml", run), f"--nodes={nodes[name]}")
        for name, run in runs.items()
    }

    for name in ("cancelled", "killed"):
        wait_for_checkpoint(runs[name])
    cluster.run("scancel", jobs["cancelled"])
    kill_a_node_s_task(cluster, jobs["killed"])
    cluster.wait_for(jobs["cancelled"], "CANCELLED")
    cluster.wait_for(jobs["killed"], "PENDING")
    wait_for_checkpoint(runs["preempted"])
    high = cluster.run(
        "sbatch", "--parsable", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=true"
    )
    cluster.wait_for(jobs["preempted"], "PENDING")
    cluster.wait_for(high, "COMPLETED")

    assert "on 2 processes" in said(world, "pretrain", jobs["killed"])
    for name in ("cancelled", "preempted"):
        assert "checkpoint in" in said(world, "pretrain", jobs[name]), said(world, "pretrain", jobs[name])
    for job, told in ((mistake, "mistakes in the recipe"), (holes, "--part auto/N")):
        facts = cluster.facts(job)
        assert (facts["JobState"], facts["ExitCode"], facts["Restarts"]) == ("FAILED", "2:0", "0")
        assert told in said(world, "pretrain" if job == mistake else "dump", job)
    assert cluster.state(after) == "CANCELLED"
    assert [cluster.facts(jobs[name])["Restarts"] for name in ("cancelled", "killed", "preempted")] == ["0", "1", "1"]


def kill_a_node_s_task(cluster: Slurm, job: str) -> None:
    """Kill what one of a job's nodes runs, as when its memory is full: the task's shell and all that it has started."""
    first, *_ = (int(line.split()[0]) for line in cluster.run("scontrol", "listpids", f"{job}.0").splitlines()[1:])
    found = [first]
    for process in found:
        found.extend(children(process))
    for process in found:
        os.kill(process, signal.SIGKILL)
