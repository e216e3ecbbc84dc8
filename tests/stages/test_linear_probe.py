"""``train.trainable: head``: the heads learn, and nothing else moves, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.tiny_world import NETWORK, TRAINING, World
from tests.models.weights import changed
from tests.stages.test_evaluate import DEIT, save_deit
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.finetune import finetune

PROBE: dict[str, Any] = TRAINING["train"] | {"trainable": "head", "ema_decay": 0.5}


def test_only_the_head_is_trained_behind_a_body_in_evaluation_mode(world: World) -> None:
    student = {"init_from": str(world.folder / "teacher")}
    optim = TRAINING["optim"] | {"layer_decay": 0.5}
    for name, drop_path_rate in (("probe", 0.0), ("dropping", 0.5)):
        config = world.finetune(
            output=str(world.folder / name),
            student=student | {"drop_path_rate": drop_path_rate},
            optim=optim,
            train=PROBE,
            schedule=TRAINING["schedule"] | {"micro_batch_size": 4},
        )
        finetune(config, solo_job())
    assert changed(world.folder / "teacher", world.folder / "probe") == {"head.fc.weight", "head.fc.bias"}
    assert not changed(world.folder / "probe", world.folder / "dropping")


def test_both_heads_of_a_distilled_network_are_trained(world: World) -> None:
    save_deit(world.folder / "deit", 24)
    student = DEIT | {"init_from": str(world.folder / "deit"), "drop_path_rate": 0.5}
    finetune(world.finetune(student=student, train=PROBE), solo_job())
    heads = {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}
    assert changed(world.folder / "deit", world.folder / "finetuned") == heads


def test_a_probe_is_another_run_than_one_that_trains_everything(world: World) -> None:
    student = {"init_from": str(world.folder / "teacher")}
    finetune(world.finetune(student=student, train=PROBE), solo_job())
    with pytest.raises(CheckpointError, match="another trainable"):
        finetune(world.finetune(student=student, train=PROBE | {"trainable": "all"}), solo_job())


@pytest.mark.parametrize("start", [None, "teacher"])
def test_a_head_behind_random_weights_is_told_of(
    world: World, start: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    student = {"tiny_vit": NETWORK} | ({"init_from": str(world.folder / start)} if start else {})
    finetune(world.finetune(student=student, train=PROBE), solo_job())
    assert ("only the head is trained" in capsys.readouterr().err) == (start is None)
