"""Whole runs with other optimisers than AdamW."""

from __future__ import annotations

import pytest
import timm.optim

from benchmarks.tiny_world import TRAINING, World
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.finetune import finetune

RATES = TRAINING["optim"] | {"base_lr": 1e-3, "layer_decay": 0.8}
MUON = [name for name in ("muon",) if name in timm.optim.list_optimizers()]


@pytest.mark.parametrize("name", ["sgd", "lamb", "lion", "adan", *MUON])
def test_a_killed_run_ends_as_one_that_was_left_alone(world: World, name: str) -> None:
    sections = {
        "optim": RATES | {"name": name, "clip_grad": 0.5},
        "schedule": TRAINING["schedule"] | {"micro_batch_size": 8},
        "train": TRAINING["train"] | {"ema_decay": 0.8},
    }
    finetune(world.finetune(**sections), solo_job())
    again = world.finetune(**sections, output=str(world.folder / "again"))
    finetune(again, solo_job())
    for path in (world.folder / "again" / "model.safetensors", world.folder / "again" / "summary.json"):
        path.unlink()
    sorted((world.folder / "again" / "checkpoints").glob("*.pt"))[-1].unlink()
    finetune(again, solo_job())  # from step 8 of 12
    for file in ("model.safetensors", "raw.safetensors"):
        assert (world.folder / "again" / file).read_bytes() == (world.folder / "finetuned" / file).read_bytes()


def test_a_run_is_not_continued_with_another_optimiser(world: World) -> None:
    finetune(world.finetune(optim=RATES), solo_job())
    (world.folder / "finetuned" / "summary.json").unlink()
    with pytest.raises(CheckpointError, match=r"optim\.name"):
        finetune(world.finetune(optim=RATES | {"name": "sgd"}), solo_job())
