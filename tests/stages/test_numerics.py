"""A loss that is no number stops a run by name, or its step is left out without a trace."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from tests.stages.world import TRAINING, World
from tinyvit_kd.errors import NonFiniteLossError
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.training import objectives
from tinyvit_kd.training.checkpoint import load_checkpoint
from tinyvit_kd.training.loop import MAX_SKIPS_IN_A_ROW
from tinyvit_kd.training.loss import soft_loss


def poison(monkeypatch: pytest.MonkeyPatch, calls: range) -> None:
    """Make the loss of some steps, counted by calls, no number."""
    count = iter(range(10_000))

    def poisoned(*arguments: Any) -> torch.Tensor:
        return soft_loss(*arguments) * (torch.nan if next(count) in calls else 1)

    monkeypatch.setattr(objectives, "soft_loss", poisoned)


def skipping(world: World, **train: Any) -> Any:
    return world.pretrain(train=TRAINING["train"] | {"on_non_finite": "skip", "ema_decay": 0.9} | train)


def test_a_run_that_diverges_stops_and_names_its_step_and_samples(world: World) -> None:
    config = world.pretrain(optim={"base_lr": 1e38, "warmup_lr": 1e38, "min_lr": 1e38, "clip_grad": None})
    with pytest.raises(
        NonFiniteLossError, match=r"not finite for \d+ samples, in a batch with sample \d+ of"
    ) as caught:
        pretrain(config, solo_job())
    assert caught.value.where.startswith("step ")


def test_a_gradient_that_is_no_number_stops_at_its_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, range(5, 6))
    with pytest.raises(
        NonFiniteLossError, match=r"finite outputs, but not a finite gradient, .* of shard train-"
    ) as caught:
        pretrain(world.pretrain(), solo_job())
    assert caught.value.where == "step 5"


def test_a_skipped_step_changes_nothing_and_is_counted(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poison(monkeypatch, range(3, 5))
    result = pretrain(skipping(world, checkpoint_every=1, keep_checkpoints=20), solo_job())
    folder = world.folder / "distilled" / "checkpoints"
    before, after, later = (load_checkpoint(folder / f"step-{step:09d}.pt") for step in (3, 5, 6))
    for part in ("model", "ema"):
        for name, tensor in before[part].items():
            if name.endswith("num_batches_tracked"):
                continue  # a counter that nothing uses
            assert torch.equal(after[part][name], tensor), name
    assert torch.equal(before["running_stats"], after["running_stats"])
    moments, untouched = before["optimizer"]["state"], after["optimizer"]["state"]
    assert all(torch.equal(moments[number]["exp_avg"], untouched[number]["exp_avg"]) for number in moments)
    assert not torch.equal(later["running_stats"], after["running_stats"])
    assert (after["skipped_steps"], result["skipped_steps"], result["step"]) == (2, 2, 12)
    assert capsys.readouterr().err.count("skipped step") == 2
    lines = (world.folder / "distilled" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["skipped_steps"] == 2
    assert all(json.loads(line).get("loss", 0) < 100 for line in lines)


def test_a_run_that_skips_every_step_stops(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, range(10_000))
    config = skipping(world)
    schedule = TRAINING["schedule"] | {"epochs": 1 + MAX_SKIPS_IN_A_ROW // 6 + 1}
    with pytest.raises(NonFiniteLossError) as caught:
        pretrain(config.model_copy(update={"schedule": config.schedule.model_copy(update=schedule)}), solo_job())
    assert caught.value.where == f"step {MAX_SKIPS_IN_A_ROW}"
