"""A run that was begun when the distillation token did not decay goes on so, to the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.tiny_world import TRAINING, World
from tests.stages.test_evaluate import DEIT
from tinyvit_kd.models.modelfile import load_model_file
from tinyvit_kd.runs import student_run
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.training.checkpoint import checkpoints
from tinyvit_kd.training.optim import build_optimizer


def as_before(*arguments: Any, dist_token_decays: bool) -> torch.optim.Optimizer:
    assert dist_token_decays
    return build_optimizer(*arguments, dist_token_decays=False)


def test_a_checkpoint_from_before_is_continued_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = TRAINING["train"] | {"checkpoint_every": 5, "keep_checkpoints": 9}
    optim = TRAINING["optim"] | {"weight_decay": 0.5, "base_lr": 0.01}
    config = world.finetune(student=DEIT, train=train, optim=optim)
    folder = world.folder / "finetuned"
    with monkeypatch.context() as before:
        before.setattr(student_run, "build_optimizer", as_before)
        finetune(config, solo_job())
    whole = load_model_file(folder)[0]
    for path in [*checkpoints(folder / "checkpoints")[:-1], folder / "model.safetensors", folder / "summary.json"]:
        path.unlink()
    capsys.readouterr()
    finetune(config, solo_job())
    told = capsys.readouterr().err
    assert "begun when the distillation token did not decay, and goes on so" in told
    assert "continuing from step 5 of 12" in told
    continued = load_model_file(folder)[0]
    assert all(torch.equal(value, continued[name]) for name, value in whole.items())
    finetune(world.finetune(student=DEIT, train=train, optim=optim, output=str(world.folder / "new")), solo_job())
    assert "goes on so" not in capsys.readouterr().err
    assert not torch.equal(load_model_file(world.folder / "new")[0]["dist_token"], whole["dist_token"])
