"""Stage two with labels and tokens: what reaches the loss is what the shards and the store hold."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.tiny_world import MIXED, STILL, TRAINING, World
from tests.runs.recorder import RunRecorder
from tinyvit_kd.data.labels.class_list import load_class_list
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.modelfile import load_model_file
from tinyvit_kd.models.student import open_model
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.checkpoint import load_checkpoint
from tinyvit_kd.views.mixing import partners, sample_mix

DEIT = {
    "name": "deit_tiny_distilled_patch16_224",
    "kwargs": {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2},
}


@pytest.fixture(scope="module")
def mixed(dumped: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose store has mixed views."""
    folder = tmp_path_factory.mktemp("labels")
    for name in ("shards", "teacher"):
        (folder / name).symlink_to(dumped / name)
    dump_logits(World(folder).dump(views=MIXED), solo_job())
    return World(folder)


def test_the_token_loss_gets_the_labels_of_mixed_views(mixed: World, tmp_path: Path) -> None:
    recorder = RunRecorder()
    config = mixed.pretrain(student=DEIT, loss={"kind": "token"}, output=str(tmp_path / "run"))
    result = recorder.pretrain(config)
    reader = ShardSet.load(mixed.folder / "shards", "train").reader()
    read = cache(LogitStore.open(mixed.store).read_block)
    mixed_views = 0
    for maker, step, batch in recorder.batches:
        epoch, shards, indexes = maker.plan.samples(step)
        assert batch.labels is not None
        assert batch.mixed is not None
        for row, (shard, index) in enumerate(zip(shards.tolist(), indexes.tolist(), strict=True)):
            block = read(shard, epoch % 2)
            other = int(partners(0, shard, epoch % 2, len(block))[index])
            mix = (
                sample_mix(int(block.seeds[index]), int(block.seeds[other]), maker.samples.spec) if other >= 0 else None
            )
            labels = reader.labels(shard, np.array([index, other if mix and mix.lam < 1 else index]))
            assert [int(batch.labels[row]), int(batch.mixed.labels[row])] == labels.tolist()
            assert batch.mixed.lam[row] == np.float32(1 if mix is None else mix.lam)
            mixed_views += mix is not None
    assert mixed_views > 100
    assert result["digests_checked"] == 2 * 96
    assert result["loss"] == pytest.approx((result["teacher_loss"] + result["label_loss"]) / 2, rel=1e-5)


def test_both_heads_learn_from_their_own_targets_and_an_average_is_kept(mixed: World, tmp_path: Path) -> None:
    sections = {"student": DEIT, "loss": {"kind": "token"}, "output": str(tmp_path / "run")}
    schedule = TRAINING["schedule"] | {"views_per_sample": 2, "global_batch_size": 32}
    pretrain(mixed.pretrain(**sections, schedule=schedule, train={"ema_decay": 0.99}), solo_job())
    network, _ = open_model(tmp_path / "run")
    weights = network.state_dict()
    assert weights["head.weight"].abs().sum() > 0
    assert not torch.equal(weights["head.weight"], weights["head_dist.weight"])
    averaged = load_model_file(tmp_path / "run")[0]
    last = load_checkpoint(sorted((tmp_path / "run" / "checkpoints").glob("*.pt"))[-1])
    assert torch.equal(averaged["head_dist.weight"], last["ema"]["head_dist.weight"])
    assert not torch.equal(averaged["head_dist.weight"], last["model"]["head_dist.weight"])


def test_a_student_goes_on_at_a_higher_resolution_with_targets_of_that_resolution(mixed: World, tmp_path: Path) -> None:
    """DeiT's fine-tuning (arXiv 2012.12877, section 4): the token keeps its teacher, which sees the larger views."""
    pretrain(mixed.pretrain(student=DEIT, loss={"kind": "token"}, output=str(tmp_path / "low")), solo_job())
    store = {"path": str(tmp_path / "store"), "topk": 5, "views": 2}
    dump_logits(mixed.dump(views=MIXED | {"size": 24}, store=store), solo_job())
    student = {"init_from": str(tmp_path / "low")}
    sections = {"student": student, "loss": {"kind": "token"}, "store": {"path": str(tmp_path / "store")}}
    pretrain(mixed.pretrain(**sections, optim=STILL, output=str(tmp_path / "high")), solo_job())
    low, high = (load_model_file(tmp_path / name)[0] for name in ("low", "high"))
    assert (low["pos_embed"].shape[1], high["pos_embed"].shape[1]) == (2 + 4, 2 + 9)
    torch.testing.assert_close(high["pos_embed"][:, :2], low["pos_embed"][:, :2])
    for name in ("dist_token", "head.weight", "head_dist.weight", "blocks.0.attn.qkv.weight"):
        torch.testing.assert_close(high[name], low[name])


def test_a_network_without_a_distillation_token_cannot_have_its_loss(dumped: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no distillation token"):
        pretrain(World(dumped).pretrain(loss={"kind": "token"}, output=str(tmp_path / "run")), solo_job())


def test_labels_of_another_list_become_the_teachers_classes(dumped: Path, tmp_path: Path) -> None:
    recorder = RunRecorder()
    names = load_class_list(str(dumped / "shards" / "classes.txt")).ids
    (tmp_path / "other.txt").write_text("\n".join(["unknown", *names[1:]]) + "\n")
    shards = {"path": str(dumped / "shards"), "split": "train", "class_list": str(tmp_path / "other.txt")}
    loss = {"kind": "hard", "alpha": 0.5}
    recorder.pretrain(World(dumped).pretrain(shards=shards, loss=loss, output=str(tmp_path / "run")))
    reader = ShardSet.load(dumped / "shards", "train").reader()
    labels = []
    for maker, step, batch in recorder.batches:
        _, shard_numbers, indexes = maker.plan.samples(step)
        own = [reader.labels(int(shard), indexes[row : row + 1])[0] for row, shard in enumerate(shard_numbers)]
        assert batch.labels is not None
        labels += batch.labels.tolist()
        assert batch.labels.tolist() == [-1 if label == 0 else label for label in own]
    assert -1 in labels


def test_labels_that_are_not_the_teachers_classes_are_refused(dumped: Path, tmp_path: Path) -> None:
    (tmp_path / "foreign.txt").write_text("\n".join(f"class {number}" for number in range(24)) + "\n")
    shards = {"path": str(dumped / "shards"), "split": "train", "class_list": str(tmp_path / "foreign.txt")}
    config = World(dumped).pretrain(shards=shards, loss={"alpha": 0.5}, output=str(tmp_path / "run"))
    with pytest.raises(ConfigError, match="fewer than half of the labels' classes"):
        pretrain(config, solo_job())
