"""Stage two with several teachers: a student learns the weighted mean of what all of them said of the same views."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from benchmarks.local_files import block_file, store_folder
from benchmarks.tiny_world import MIXED, ONE_EPOCH, TRAINING, VIEWS, World, make_teacher
from tests.runs.holes import rewrite, with_hole
from tests.runs.recorder import RunRecorder
from tinyvit_kd.cli import cli
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import (
    BlockMissingError,
    CheckpointError,
    ConfigError,
    ManifestMismatchError,
    ReplayError,
)
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore

CLASSES = 24


@pytest.fixture(scope="module")
def two_teachers(dumped: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A store of mixed views, and a second teacher's store of the same views, made by the command line."""
    folder = tmp_path_factory.mktemp("teachers")
    (folder / "shards").symlink_to(dumped / "shards")
    make_teacher(folder, seed=1)
    dump_logits(World(folder).dump(views=MIXED), solo_job())
    make_teacher(folder, seed=2)
    recipe = yaml.safe_load(dump_yaml(World(folder).dump(store=second(folder))))
    del recipe["views"], recipe["store"]["seed"]
    (folder / "second.yaml").write_text(yaml.safe_dump(recipe))
    command = ["dump-logits", str(folder / "second.yaml"), "--views-from", str(folder / "store")]
    assert CliRunner().invoke(cli, command).exit_code == 0
    return World(folder)


def second(folder: Path) -> dict[str, Any]:
    return {"path": str(folder / "second"), "topk": 3, "views": 2}


def both(world: World, **changes: Any) -> dict[str, Any]:
    others = [{"path": str(world.folder / "second"), "weight": 3}]
    return {"path": str(world.folder / "store"), "others": others} | changes


@pytest.fixture
def own_stores(two_teachers: World, tmp_path: Path) -> World:
    """The two teachers' world with stores that may be changed."""
    for name in ("shards", "teacher"):
        (tmp_path / name).symlink_to(two_teachers.folder / name)
    for name in ("store", "second"):
        shutil.copytree(two_teachers.folder / name, tmp_path / name)
    return World(tmp_path)


def dense_losses(world: World, recorder: RunRecorder, weights: Sequence[float]) -> list[float]:
    """The loss of every step to the weighted mean of all classes' probabilities; none where a teacher has a hole."""
    reads = [cache(LogitStore.open(world.folder / name).read_block) for name in ("store", "second")]
    losses = []
    for (maker, step, _), (logits, _) in zip(recorder.batches, recorder.answers, strict=True):
        epoch, shards, indexes = maker.plan.samples(step)
        (view,) = maker.plan.view_numbers(epoch)
        means = torch.zeros(len(shards), CLASSES, dtype=torch.float64)
        for row, (shard, index) in enumerate(zip(shards.tolist(), indexes.tolist(), strict=True)):
            blocks = [read(shard, view) for read in reads]
            if all(block.valid[index] for block in blocks):
                for block, weight in zip(blocks, weights, strict=True):
                    means[row] += recovered(block, index) * weight / sum(weights)
        losses.append(-(means * logits.log_softmax(dim=1)).sum().item() / len(shards))
    return losses


def recovered(block: Block, index: int) -> torch.Tensor:
    """All classes' probabilities [C]: what was not stored has the rest in equal shares."""
    probs = np.full(CLASSES, np.float64(block.residual[index]) / (CLASSES - block.probs.shape[1]))
    probs[block.indices[index]] = block.probs[index]
    return torch.from_numpy(probs)


def test_a_second_teacher_sees_the_same_views(two_teachers: World) -> None:
    first, other = (LogitStore.open(two_teachers.folder / name) for name in ("store", "second"))
    assert first.manifest.teacher.weights_hash != other.manifest.teacher.weights_hash
    for shard in range(3):
        for view in range(2):
            one, two = first.read_block(shard, view), other.read_block(shard, view)
            assert np.array_equal(one.digests, two.digests)
            assert np.array_equal(one.seeds, two.seeds)
            assert not np.array_equal(one.probs[:, :3], two.probs)


def test_a_second_teacher_takes_the_seed_of_the_firsts_store(world: World) -> None:
    make_teacher(world.folder, seed=2)
    first = {"path": str(world.folder / "seeded"), "topk": 3, "views": 1, "seed": 7}
    dump_logits(world.dump(store=first), solo_job())
    tree = {"store": {"path": str(world.folder / "follower"), "topk": 3, "views": 1}}
    dump_logits(world.dump(**tree, views_from=world.folder / "seeded"), solo_job())
    one, two = (LogitStore.open(world.folder / name) for name in ("seeded", "follower"))
    assert two.manifest.seed == 7
    assert np.array_equal(one.read_block(1, 0).seeds, two.read_block(1, 0).seeds)


def test_the_records_of_two_teachers_stand_side_by_side(two_teachers: World, tmp_path: Path) -> None:
    recorder = RunRecorder()
    output = str(tmp_path / "run")
    result = recorder.pretrain(two_teachers.pretrain(store=both(two_teachers), schedule=ONE_EPOCH, output=output))
    assert result["digests_checked"] == 96
    first, other = (LogitStore.open(two_teachers.folder / name) for name in ("store", "second"))
    maker, step, batch = recorder.batches[3]
    epoch, shards, indexes = maker.plan.samples(step)
    assert batch.targets is not None
    for row, (shard, index) in enumerate(zip(shards.tolist(), indexes.tolist(), strict=True)):
        one, two = (store.read_block(shard, epoch % 2) for store in (first, other))
        assert batch.targets.indices[row].tolist() == [*one.indices[index], *two.indices[index]]
        assert np.array_equal(batch.targets.probs[row], np.append(one.probs[index], two.probs[index]))
        assert np.array_equal(batch.targets.residual[row], [one.residual[index], two.residual[index]])


def test_a_student_learns_the_weighted_mean_of_two_teachers(two_teachers: World, tmp_path: Path) -> None:
    recorder = RunRecorder()
    recorder.pretrain(two_teachers.pretrain(store=both(two_teachers), output=str(tmp_path / "run")))
    losses = [loss for _, loss in recorder.answers]
    assert losses == pytest.approx(dense_losses(two_teachers, recorder, [1, 3]), rel=1e-5)
    for others in ([1, 1], [3, 1], [0, 1]):  # which this could not be taken for
        assert max(np.abs(np.subtract(losses, dense_losses(two_teachers, recorder, others)))) > 1e-3


def test_a_weight_belongs_to_the_run(two_teachers: World, tmp_path: Path) -> None:
    output = str(tmp_path / "run")
    pretrain(two_teachers.pretrain(store=both(two_teachers), schedule=ONE_EPOCH, output=output), solo_job())
    other = two_teachers.pretrain(store=both(two_teachers, weight=2), schedule=ONE_EPOCH, output=output)
    with pytest.raises(CheckpointError, match="another store"):
        pretrain(other, solo_job())


def test_a_hole_of_any_teacher_has_no_weight(own_stores: World) -> None:
    """What is mixed into other views is as before: that follows from the first store alone."""
    other = LogitStore.open(own_stores.folder / "second")
    holes = [(0, 3), (1, 7)]
    for shard, index in holes:
        rewrite(other, shard, 0, with_hole(other.read_block(shard, 0), index))
    recorder = RunRecorder()
    result = recorder.pretrain(own_stores.pretrain(store=both(own_stores), schedule=ONE_EPOCH))
    assert result["digests_checked"] == 96 - 2
    weightless = []
    for maker, step, batch in recorder.batches:
        _, shards, indexes = maker.plan.samples(step)
        for row in (batch.weights == 0).nonzero().flatten().tolist():
            weightless.append((int(shards[row]), int(indexes[row])))
            assert not batch.views[row].any()
    assert sorted(weightless) == holes
    losses = [loss for _, loss in recorder.answers]
    assert losses == pytest.approx(dense_losses(own_stores, recorder, [1, 3]), rel=1e-5)


def test_only_the_views_that_all_teachers_saw_are_used_and_more_once_all_saw_them(own_stores: World) -> None:
    def dump_second(views: int) -> None:
        store = second(own_stores.folder) | {"views": views}
        dump_logits(own_stores.dump(views=MIXED, store=store, views_from=own_stores.folder / "store"), solo_job())

    shutil.rmtree(own_stores.folder / "second")
    dump_second(views=1)
    config = own_stores.pretrain(store=both(own_stores), schedule=TRAINING["schedule"] | {"epochs": 4})
    recorder = RunRecorder()
    recorder.pretrain_up_to(3, config)
    recorder.pretrain_up_to(9, config)  # the first store has had more views all the while
    assert recorder.views == [(0, (0,)), (1, (0,))]
    dump_second(views=2)
    recorder.pretrain(config)
    assert recorder.views == [(0, (0,)), (1, (0,)), (2, (0,)), (3, (1,))]


def test_a_missing_block_of_any_teacher_is_told_before_the_training(own_stores: World) -> None:
    recorder = RunRecorder()
    other = LogitStore.open(own_stores.folder / "second")
    block_file(other, 1, 1).unlink()
    with pytest.raises(BlockMissingError, match=r"1 of 6 missing.*view 1 of shard train-000001") as caught:
        recorder.pretrain(own_stores.pretrain(store=both(own_stores)))
    assert caught.value.where == str(store_folder(other))
    assert not recorder.batches


def test_stores_of_other_views_do_not_combine(dumped: Path, two_teachers: World, tmp_path: Path) -> None:
    store = {"path": str(dumped / "store"), "others": [{"path": str(two_teachers.folder / "second")}]}
    with pytest.raises(ManifestMismatchError, match="view_spec_hash"):
        pretrain(two_teachers.pretrain(store=store, output=str(tmp_path / "run")), solo_job())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shard_names", ("a.tar", "b.tar", "c.tar")),
        ("shard_lengths", (40, 40, 15)),
        ("key_hashes", (1, 2, 3)),
        ("view_spec_hash", "0123456789abcdef"),
        ("seed", 1),
        ("num_classes", 25),
        ("class_list_hash", "0123456789abcdef"),
    ],
)
def test_stores_combine_only_if_all_that_makes_their_records_comparable_is_equal(
    two_teachers: World, tmp_path: Path, field: str, value: Any
) -> None:
    manifest = LogitStore.open(two_teachers.folder / "second").manifest
    LogitStore.create(tmp_path / "other", manifest.model_copy(update={field: value}))
    store = both(two_teachers, others=[{"path": str(tmp_path / "other")}])
    with pytest.raises(ManifestMismatchError, match=rf"in {field}\.") as caught:
        pretrain(two_teachers.pretrain(store=store, output=str(tmp_path / "run")), solo_job())
    assert caught.value.where == str(tmp_path / "other")
    assert [(each.field, each.stored) for each in caught.value.differences] == [(field, value)]
    assert str(caught.value).startswith("the store differs from the first teacher's in ")
    assert "--views-from" in caught.value.fix


@pytest.mark.parametrize(
    ("sections", "message"),
    [({"views": VIEWS}, "another mixup, cutmix"), ({"store": {"seed": 5}}, "5, not 0")],
    ids=["views", "a seed"],
)
def test_a_recipe_that_contradicts_the_store_of_its_views_is_refused(
    two_teachers: World, sections: dict[str, Any], message: str
) -> None:
    folder = two_teachers.folder
    tree = {"views": MIXED, "store": second(folder) | {"path": str(folder / "third")}}
    tree |= {name: tree[name] | value if name == "store" else value for name, value in sections.items()}
    with pytest.raises(ConfigError, match=message):
        dump_logits(two_teachers.dump(**tree, views_from=folder / "store"), solo_job())


def test_an_image_that_changed_between_two_dumps_is_found_by_name(world: World) -> None:
    make_teacher(world.folder, seed=2)
    store = LogitStore.open(world.folder / "store")
    block = store.read_block(1, 0)
    block.digests[7] ^= 1  # as if the first teacher had seen another image
    rewrite(store, 1, 0, block)
    key = ShardSet.load(world.folder / "shards", "train").reader().key(1, 7)
    other = second(world.folder)
    config = world.dump(views=VIEWS, store=other, views_from=world.folder / "store")
    with pytest.raises(ReplayError, match=f"sample {key} of shard"):
        dump_logits(config, solo_job())
    dump_logits(world.dump(views=VIEWS, store=other), solo_job())
    with pytest.raises(ReplayError, match=f"two teachers did not see the same view.*{key}"):
        pretrain(world.pretrain(store=both(world)), solo_job())
