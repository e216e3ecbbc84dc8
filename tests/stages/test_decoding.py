"""A run decodes each image once per epoch, whatever is mixed and however many views a sample has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.tiny_world import MIXED, SAMPLES, TRAINING, VIEWS, World
from tests.data.counting import Reads
from tests.runs.recorder import RunRecorder
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits

SPECS = {"plain": VIEWS, "mixed": MIXED}
EPOCHS: int = TRAINING["schedule"]["epochs"]
TWO_VIEWS: dict[str, Any] = TRAINING["schedule"] | {"views_per_sample": 2}


def assert_each_image_is_read_once_per_epoch(reads: Reads) -> None:
    assert set(reads.values()) == {EPOCHS}
    assert len(reads) == SAMPLES


def test_pretraining_decodes_each_image_once_per_epoch(dumped: Path, tmp_path: Path) -> None:
    recorder = RunRecorder()
    result = recorder.pretrain(World(dumped).pretrain(schedule=TWO_VIEWS, output=str(tmp_path / "run")))
    assert_each_image_is_read_once_per_epoch(recorder.reads)
    assert result["digests_checked"] == 2 * EPOCHS * SAMPLES


def test_pretraining_decodes_each_image_of_a_pair_once_per_epoch(dumped: Path, tmp_path: Path) -> None:
    world = World(dumped)
    recorder = RunRecorder()
    store = {"path": str(tmp_path / "store"), "topk": 5, "views": 2}
    dump_logits(world.dump(views=MIXED, store=store), solo_job())
    recorder.pretrain(world.pretrain(store={"path": store["path"]}, output=str(tmp_path / "run")))
    assert_each_image_is_read_once_per_epoch(recorder.reads)


def test_finetuning_decodes_each_image_of_a_pair_once_per_epoch(dumped: Path, tmp_path: Path) -> None:
    recorder = RunRecorder()
    recorder.finetune(World(dumped).finetune(views=MIXED, output=str(tmp_path / "run")))
    assert_each_image_is_read_once_per_epoch(recorder.reads)


@pytest.mark.parametrize("name", SPECS)
def test_finetuning_on_several_views_decodes_each_image_once_per_epoch(dumped: Path, tmp_path: Path, name: str) -> None:
    recorder = RunRecorder()
    config = World(dumped).finetune(views=SPECS[name], schedule=TWO_VIEWS, output=str(tmp_path / "run"))
    result = recorder.finetune(config)
    assert_each_image_is_read_once_per_epoch(recorder.reads)
    assert result["samples_seen"] == 2 * EPOCHS * SAMPLES
