"""The averaged copy of the weights: an exponential moving average of parameters and of running statistics."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
import torch

from benchmarks.tiny_world import SIZE, TRAINING, World
from tests.published import DEIT_EMA_DECAY
from tinyvit_kd.models.modelfile import ModelCard, load_model_file, save_model
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.evaluate import evaluate
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.training.checkpoint import checkpoints, load_checkpoint

FILES = ("model", "raw")
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
    raw = load_model_file(folder / "raw.safetensors")[0]
    assert all(torch.equal(value, saved[-1]["model"][name]) for name, value in raw.items())


def test_both_the_average_and_the_weights_themselves_are_scored(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = {"shards": {"path": str(world.shards), "split": "train"}, "views": {"size": SIZE}}
    trained = finetune(world.finetune(eval=evaluation, train=EVERY_STEP | {"ema_decay": 0.8}), solo_job())
    assert re.search(r"eval at step 12: top1 [\d.]+ .* raw_top1 [\d.]+  raw_top5 ", capsys.readouterr().err)
    folder = world.folder / "finetuned"
    scored = evaluate(world.evaluate(model=str(folder)), solo_job())
    assert {name: trained[name] for name in scored} == scored
    # These weights have learnt nothing in twelve steps; the teacher's differ.
    save_model(folder / "raw.safetensors", load_model_file(world.teacher)[0], require_card(load_model_file(folder)[1]))
    alone = {name: evaluate(world.evaluate(model=str(folder / f"{name}.safetensors")), solo_job()) for name in FILES}
    assert alone["model"]["top5"] != alone["raw"]["top5"]
    capsys.readouterr()
    both = evaluate(world.evaluate(model=str(folder)), solo_job())
    told = capsys.readouterr().err
    assert f"{folder}, the average of the weights: top-1 {both['top1']:.2f} %" in told
    assert f"the weights themselves: top-1 {both['raw_top1']:.2f} %" in told
    raw = {f"raw_{name}": alone["raw"][name] for name in ("top1", "top5", "mean_per_class")}
    assert both == alone["model"] | raw


def require_card(card: ModelCard | None) -> ModelCard:
    assert card is not None
    return card


@pytest.mark.parametrize(("decay", "told"), [(DEIT_EMA_DECAY, True), (0.5, False)])
def test_an_average_that_is_longer_than_its_run_is_told_of(
    world: World, decay: float, told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune(world.finetune(train=TRAINING["train"] | {"ema_decay": decay}), solo_job())
    assert ("of the final average will come from the weights at the start" in capsys.readouterr().err) == told
