"""Whole stages with compiled networks: how often something is compiled, and that results are the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from benchmarks.fault_injection.compare import store_differences
from benchmarks.tiny_world import NETWORK, SIZE, World
from tinyvit_kd.runtime import compiling
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.evaluate import evaluate
from tinyvit_kd.stages.finetune import finetune


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    """What other tests compiled would be used again."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_a_store_takes_one_graph_however_its_batches_fall(
    dumped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counter = CompileCounter()
    monkeypatch.setattr(compiling, "BACKEND", counter)
    runtime, store = {"workers": 0, "compile": True}, {"path": str(tmp_path / "store"), "topk": 5, "views": 2}
    with torch._dynamo.config.patch(error_on_recompile=True):
        dump_logits(World(dumped).dump(store=store, runtime=runtime), solo_job())
        dump_logits(World(dumped).dump(store=store, runtime=runtime), solo_job())
    said = capsys.readouterr().err
    assert said.count("compiling the teacher") == 1  # the second dump has nothing to make
    assert counter.frame_count == 1
    assert store_differences(tmp_path / "store", dumped / "store") == []


def test_training_evaluations_and_a_continued_run_share_three_graphs(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counter = CompileCounter()
    monkeypatch.setattr(compiling, "BACKEND", counter)
    evaluation = {"shards": {"path": str(world.shards), "split": "train"}, "views": {"size": SIZE}, "batch_size": 7}
    train = {"checkpoint_every": 4, "keep_checkpoints": 9, "log_every": 2, "ema_decay": 0.5}
    runtime = {"workers": 0, "compile": True}
    recipe = world.finetune(eval=evaluation, train=train, runtime=runtime)
    folder = world.folder / "finetuned"
    with torch._dynamo.config.patch(error_on_recompile=True):
        first = finetune(recipe, solo_job())
        for path in (folder / "model.safetensors", folder / "summary.json"):
            path.unlink()
        sorted((folder / "checkpoints").iterdir())[-1].unlink()
        again = finetune(recipe, solo_job())
        assert "continuing from step" in capsys.readouterr().err
        assert evaluate(world.evaluate(model=str(folder), runtime=runtime), solo_job())["top1"] == first["top1"]
    assert counter.frame_count == 3  # network and loss in training, and answers
    assert {name: again[name] for name in ("loss", "top1", "raw_top1")} == {
        name: first[name] for name in ("loss", "top1", "raw_top1")
    }


def test_each_size_of_a_students_images_takes_graphs_of_its_own(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counter = CompileCounter()
    monkeypatch.setattr(compiling, "BACKEND", counter)
    student = {"tiny_vit": NETWORK, "image_size": {0: SIZE, 1: 2 * SIZE}}
    finetune(world.finetune(student=student, runtime={"workers": 0, "compile": True}), solo_job())
    assert counter.frame_count == 3  # the network for two sizes, and the loss
    assert capsys.readouterr().err.count("compiled the network for training in") == 2
