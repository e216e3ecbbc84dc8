"""Two processes do what one does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fault_injection.compare import store_differences
from benchmarks.tiny_world import NETWORK, TRAINING, World
from tests.models.weights import assert_nearly_same_weights, changed
from tests.stages.commands import torchrun
from tinyvit_kd.config.base import Section
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.recipes import FinetuneConfig
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.evaluate import evaluate
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.stages.pretrain import pretrain

# Batch norm and stochastic depth follow from the micro-batch, half of a step's samples here, not from the number of
# processes. AdamW with a small epsilon would divide rounding errors by themselves: without that, the runs differ by
# float32 reduction alone.
SAME: dict[str, Any] = {
    "schedule": TRAINING["schedule"] | {"micro_batch_size": 8},
    "optim": TRAINING["optim"] | {"eps": 1.0},
    "student": {"tiny_vit": NETWORK, "drop_path_rate": 0.2},
    "train": TRAINING["train"] | {"ema_decay": 0.5},
}


# One job for all stages: starting processes takes longer than the stages do.
SCRIPT = """
import json, sys
from pathlib import Path
from tinyvit_kd.config.load import load_recipe, read_yaml
from tinyvit_kd.config.recipes import STAGE_CONFIGS
from tinyvit_kd.runtime.distributed import start_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.evaluate import evaluate
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.stages.pretrain import pretrain

with start_job("cpu") as job:
    stages = {"dump-logits": dump_logits, "pretrain": pretrain, "finetune": finetune, "evaluate": evaluate}
    for path in sorted(Path(sys.argv[1]).glob("*.yaml")):
        stage = read_yaml(path)["stage"]
        result = stages[stage](load_recipe(STAGE_CONFIGS[stage], path), job)
        if job.is_main:
            print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def two_ranks(dumped: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, float]]]:
    """All stages in one torchrun of two processes, and what each printed."""
    folder = tmp_path_factory.mktemp("ranks")
    world = World(dumped)
    distilled = {"output": str(folder / "distilled"), "store": {"path": str(folder / "store")}}
    stages: dict[str, Section] = {
        "dump-logits": world.dump(store={"path": str(folder / "store"), "topk": 5, "views": 2}),
        "pretrain": world.pretrain(**distilled, **SAME),
        "finetune": world.finetune(output=str(folder / "finetuned"), student={"init_from": str(folder / "distilled")}),
        "probe": probe_config(world, folder / "probed"),
        "evaluate": world.evaluate(model=str(folder / "distilled")),
    }
    for number, config in enumerate(stages.values()):
        (folder / f"{number}.yaml").write_text(dump_yaml(config))
    (folder / "stages.py").write_text(SCRIPT)
    printed = two_processes(str(folder / "stages.py"), str(folder))
    results = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return folder, dict(zip(stages, results, strict=True))


def probe_config(world: World, output: Path) -> FinetuneConfig:
    """The teacher's head alone, trained on."""
    sections = SAME | {"student": {"init_from": str(world.folder / "teacher")}}
    return world.finetune(output=str(output), **sections | {"train": SAME["train"] | {"trainable": "head"}})


def two_processes(*arguments: str) -> str:
    """Standard output of a job on this machine."""
    command = [sys.executable, *torchrun(2), *arguments]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Warning: " not in done.stderr, done.stderr[-4000:]  # of torch's, which tell a user nothing
    return done.stdout


def test_two_ranks_dump_the_store_of_one(two_ranks: tuple[Path, Any], dumped: Path) -> None:
    assert store_differences(two_ranks[0] / "store", dumped / "store") == []


def test_two_ranks_train_to_the_weights_of_one(two_ranks: tuple[Path, Any], world: World) -> None:
    pretrain(world.pretrain(**SAME), solo_job())
    assert_nearly_same_weights(world.folder / "distilled", two_ranks[0] / "distilled")


def test_two_ranks_train_a_head_alone(two_ranks: tuple[Path, Any], world: World) -> None:
    finetune(probe_config(world, world.folder / "probed"), solo_job())
    assert changed(world.folder / "teacher", two_ranks[0] / "probed") == {"head.fc.bias", "head.fc.weight"}
    assert_nearly_same_weights(world.folder / "probed", two_ranks[0] / "probed")


def test_digests_and_samples_are_counted_once(two_ranks: tuple[Path, Any], world: World) -> None:
    folder, results = two_ranks
    assert results["dump-logits"]["views"] == 2 * 96
    assert results["pretrain"]["digests_checked"] == 2 * 96
    assert results["evaluate"]["samples"] == 96
    alone_scores = evaluate(world.evaluate(model=str(folder / "distilled")), solo_job())
    assert results["evaluate"] == pytest.approx(alone_scores, abs=1e-5)
    assert results["evaluate"]["mean_per_class"] == alone_scores["mean_per_class"]  # counts are whole numbers


def test_a_run_of_two_ranks_continues_with_one(two_ranks: tuple[Path, Any], world: World) -> None:
    shutil.copytree(two_ranks[0] / "distilled", world.folder / "distilled")
    for name in ("model.safetensors", "summary.json"):
        (world.folder / "distilled" / name).unlink()
    newest = sorted((world.folder / "distilled" / "checkpoints").glob("*.pt"))[-1]
    newest.unlink()
    store = {"path": str(two_ranks[0] / "store")}
    result = pretrain(world.pretrain(store=store, **SAME), solo_job())
    assert result["step"] == 12
    assert_nearly_same_weights(two_ranks[0] / "distilled", world.folder / "distilled")


def test_the_command_line_runs_under_torchrun(two_ranks: tuple[Path, Any]) -> None:
    folder, results = two_ranks
    printed = two_processes("-m", "tinyvit_kd", "evaluate", str(folder / "4.yaml"))
    assert json.loads(printed.splitlines()[-1]) == pytest.approx(results["evaluate"], abs=1e-5)
