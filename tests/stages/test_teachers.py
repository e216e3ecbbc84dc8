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
from tests.stages.conftest import Seen
from tests.stages.test_view_schedule import stop_at
from tests.stages.world import TRAINING, VIEWS, World, make_teacher
from tests.store.blocks import manifest_of
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.batches.stored import block_caches
from tinyvit_kd.cli import cli
from tinyvit_kd.config.data import StoredTargetsConfig
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import (
    BlockMissingError,
    CheckpointError,
    ConfigError,
    ManifestMismatchError,
    ReplayError,
)
from tinyvit_kd.runs.second_teacher import FirstTeacher
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.storage.local import LocalStorage
from tinyvit_kd.store.cache import block_bytes
from tinyvit_kd.store.records import Block, RecordStatus
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.objectives import DistillObjective, Output

MIXED = VIEWS | {"mixup": 0.8, "cutmix": 1.0, "mix_prob": 0.9}
CLASSES = 24
ONE_EPOCH = TRAINING["schedule"] | {"epochs": 1}


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


def rewrite(store: LogitStore, shard: int, view: int, block: Block) -> None:
    block_file(store, shard, view).unlink()
    LogitStore.open(store_folder(store), writable=True).write_block(shard, view, block)


def with_hole(block: Block, index: int) -> Block:
    """The block as a dump writes it that could not read one image."""
    seed = block.seeds[index]
    block.put(np.array([index]), Block.empty(1, block.probs.shape[1]))
    block.seeds[index], block.status[index] = seed, RecordStatus.TRUNCATED
    return block


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, float]]:
    """Of every step of a run the student's logits [B, C] and the loss."""
    noted: list[tuple[torch.Tensor, float]] = []
    call = DistillObjective.__call__

    def noting(self: DistillObjective, output: Output, batch: Batch) -> dict[str, torch.Tensor]:
        parts = call(self, output, batch)
        assert isinstance(output, torch.Tensor)
        noted.append((output.detach().double(), parts["loss"].item()))
        return parts

    monkeypatch.setattr(DistillObjective, "__call__", noting)
    return noted


def dense_losses(
    world: World, seen: Seen, answers: list[tuple[torch.Tensor, float]], weights: Sequence[float]
) -> list[float]:
    """The loss of every step to the weighted mean of all classes' probabilities; none where a teacher has a hole."""
    reads = [cache(LogitStore.open(world.folder / name).read_block) for name in ("store", "second")]
    losses = []
    for (maker, step, _), (logits, _) in zip(seen, answers, strict=True):
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


def test_the_records_of_two_teachers_stand_side_by_side(two_teachers: World, tmp_path: Path, seen: Seen) -> None:
    output = str(tmp_path / "run")
    result = pretrain(two_teachers.pretrain(store=both(two_teachers), schedule=ONE_EPOCH, output=output), solo_job())
    assert result["digests_checked"] == 96
    first, other = (LogitStore.open(two_teachers.folder / name) for name in ("store", "second"))
    maker, step, batch = seen[3]
    epoch, shards, indexes = maker.plan.samples(step)
    assert batch.targets is not None
    for row, (shard, index) in enumerate(zip(shards.tolist(), indexes.tolist(), strict=True)):
        one, two = (store.read_block(shard, epoch % 2) for store in (first, other))
        assert batch.targets.indices[row].tolist() == [*one.indices[index], *two.indices[index]]
        assert np.array_equal(batch.targets.probs[row], np.append(one.probs[index], two.probs[index]))
        assert np.array_equal(batch.targets.residual[row], [one.residual[index], two.residual[index]])


def test_a_student_learns_the_weighted_mean_of_two_teachers(
    two_teachers: World, tmp_path: Path, seen: Seen, answers: list[tuple[torch.Tensor, float]]
) -> None:
    pretrain(two_teachers.pretrain(store=both(two_teachers), output=str(tmp_path / "run")), solo_job())
    losses = [loss for _, loss in answers]
    assert losses == pytest.approx(dense_losses(two_teachers, seen, answers, [1, 3]), rel=1e-5)
    for others in ([1, 1], [3, 1], [0, 1]):  # which this could not be taken for
        assert max(np.abs(np.subtract(losses, dense_losses(two_teachers, seen, answers, others)))) > 1e-3


def test_a_weight_belongs_to_the_run(two_teachers: World, tmp_path: Path) -> None:
    output = str(tmp_path / "run")
    pretrain(two_teachers.pretrain(store=both(two_teachers), schedule=ONE_EPOCH, output=output), solo_job())
    other = two_teachers.pretrain(store=both(two_teachers, weight=2), schedule=ONE_EPOCH, output=output)
    with pytest.raises(CheckpointError, match="another store"):
        pretrain(other, solo_job())


def test_a_hole_of_any_teacher_has_no_weight(
    own_stores: World, seen: Seen, answers: list[tuple[torch.Tensor, float]]
) -> None:
    """What is mixed into other views is as before: that follows from the first store alone."""
    other, holes = LogitStore.open(own_stores.folder / "second"), [(0, 3), (1, 7)]
    for shard, index in holes:
        rewrite(other, shard, 0, with_hole(other.read_block(shard, 0), index))
    result = pretrain(own_stores.pretrain(store=both(own_stores), schedule=ONE_EPOCH), solo_job())
    assert result["digests_checked"] == 96 - 2
    weightless = []
    for maker, step, batch in seen:
        _, shards, indexes = maker.plan.samples(step)
        for row in (batch.weights == 0).nonzero().flatten().tolist():
            weightless.append((int(shards[row]), int(indexes[row])))
            assert not batch.views[row].any()
    assert sorted(weightless) == holes
    assert [loss for _, loss in answers] == pytest.approx(dense_losses(own_stores, seen, answers, [1, 3]), rel=1e-5)


def views_of(seen: Seen) -> list[tuple[int, tuple[int, ...]]]:
    """Epochs and their view numbers."""
    epochs = [(maker, maker.plan.samples(step)[0]) for maker, step, _ in seen]
    return sorted({(epoch, tuple(maker.plan.view_numbers(epoch))) for maker, epoch in epochs})


def test_only_the_views_that_all_teachers_saw_are_used_and_more_once_all_saw_them(
    own_stores: World, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dump_second(views: int) -> None:
        store = second(own_stores.folder) | {"views": views}
        dump_logits(own_stores.dump(views=MIXED, store=store, views_from=own_stores.folder / "store"), solo_job())

    shutil.rmtree(own_stores.folder / "second")
    dump_second(views=1)
    config = own_stores.pretrain(store=both(own_stores), schedule=TRAINING["schedule"] | {"epochs": 4})
    stop_at(3, config, monkeypatch)
    stop_at(9, config, monkeypatch)  # the first store has had more views all the while
    assert views_of(seen) == [(0, (0,)), (1, (0,))]
    dump_second(views=2)
    pretrain(config, solo_job())
    assert views_of(seen) == [(0, (0,)), (1, (0,)), (2, (0,)), (3, (1,))]


def test_a_missing_block_of_any_teacher_is_told_before_the_training(own_stores: World, seen: Seen) -> None:
    other = LogitStore.open(own_stores.folder / "second")
    block_file(other, 1, 1).unlink()
    with pytest.raises(BlockMissingError, match=r"1 of the 6 blocks.*view 1 of shard train-000001") as caught:
        pretrain(own_stores.pretrain(store=both(own_stores)), solo_job())
    assert caught.value.where == str(store_folder(other))
    assert not seen


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


@pytest.mark.parametrize("of_the_first", [True, False], ids=["of the first", "of the second"])
def test_a_hole_of_one_teacher_alone_is_found_by_name(own_stores: World, of_the_first: bool) -> None:
    """Also where the view that the other teacher saw has digest 0, which is what a hole has."""
    store, reader = LogitStore.open(own_stores.folder / "store"), ShardSet.load(own_stores.folder / "shards", "train")
    first_teacher = FirstTeacher(store, reader.reader())
    view, hole = store.read_block(1, 0), with_hole(store.read_block(1, 0), 7)
    view.digests[7] = 0
    stored, made = (hole, view) if of_the_first else (view, hole)
    rewrite(store, 1, 0, stored)
    first_teacher.require_same(1, 0, stored)
    with pytest.raises(ReplayError, match=f"sample {reader.reader().key(1, 7)} of shard") as caught:
        first_teacher.require_same(1, 0, made)
    told = [caught.value.expected.partition(",")[0], caught.value.found]
    assert told == (["a hole", "digest 00000000"] if of_the_first else ["digest 00000000", "a hole"])


def test_a_workers_memory_for_blocks_is_shared_by_all_stores(tmp_path: Path) -> None:
    """In proportion to their blocks, so that each keeps as many."""
    lengths = (500,) * 64
    manifests = [manifest_of(lengths, encoding="compact", topk=topk) for topk in (5, 10, 50)]
    stores = [LogitStore(LocalStorage(str(tmp_path)), manifest, writable=False, fsync=False) for manifest in manifests]
    plan = StepPlan(lengths, ScheduleConfig(epochs=1, global_batch_size=64, lanes=64, window=36), range(64))
    config = StoredTargetsConfig(path=tmp_path, block_cache_mib=2)
    caches = block_caches(config, stores, plan)
    blocks = [block_bytes(manifest) for manifest in manifests]
    taken = [cache._memory.nbytes for cache in caches]
    assert (2 << 20) - sum(blocks) < sum(taken) <= 2 << 20
    assert len({memory // block for memory, block in zip(taken, blocks, strict=True)}) == 1
