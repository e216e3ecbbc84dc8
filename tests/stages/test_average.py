"""The averaged copy of the weights: an exponential moving average of parameters and of running statistics."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from benchmarks.tiny_world import TRAINING, World
from tests.published import DEIT_EMA_DECAY
from tinyvit_kd.models.modelfile import load_model_file
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.training.checkpoint import checkpoints, load_checkpoint

EVERY_STEP: dict[str, Any] = TRAINING["train"] | {"checkpoint_every": 1, "keep_checkpoints": 99}


def test_the_average_is_exponential_with_the_decay_of_the_recipe_and_is_what_is_written(world: World) -> None:
    """As timm's ``ModelEmaV3`` it starts from the weights after the second step."""
    finetune(world.finetune(train=EVERY_STEP | {"ema_decay": 0.8}), solo_job())
    folder = world.folder / "finetuned"
    saved = [load_checkpoint(path) for path in sorted(checkpoints(folder / "checkpoints"))]
    assert [each["step"] for each in saved] == list(range(1, 13))
    for name, value in saved[1]["ema"].items():
        torch.testing.assert_close(value, saved[1]["model"][name])
    assert any("running_var" in name for name in saved[0]["ema"])
    for before, after in pairwise(saved[1:]):
        for name, value in after["ema"].items():
            new = after["model"][name]
            expected = 0.8 * before["ema"][name] + 0.2 * new if new.is_floating_point() else new
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)
    written = load_model_file(folder)[0]
    assert all(torch.equal(value, saved[-1]["ema"][name]) for name, value in written.items())
    assert not torch.equal(written["head.fc.weight"], saved[-1]["model"]["head.fc.weight"])


@pytest.mark.parametrize(("decay", "told"), [(DEIT_EMA_DECAY, True), (0.5, False)])
def test_an_average_that_is_longer_than_its_run_is_told_of(
    world: World, decay: float, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune(world.finetune(train=TRAINING["train"] | {"ema_decay": decay}), solo_job())
    assert ("of the final average will come from the weights at the start" in capsys.readouterr().err) == told
