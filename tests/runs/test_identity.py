"""What belongs to a run: with another loss, data or recipe it is not continued, nor taken for finished."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tiny_world import NETWORK, ONE_EPOCH, TRAINING, World, make_teacher
from tinyvit_kd.config.student import StudentConfig
from tinyvit_kd.data.labels.class_list import load_class_list
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.runs.identity import describe_changes
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.stages.pretrain import pretrain

LOSS = {"kind": "soft", "alpha": 0.5}


@pytest.fixture(scope="module")
def finished(dumped: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world with a run that has come to its end."""
    folder = tmp_path_factory.mktemp("identity")
    for name in ("shards", "store", "teacher"):
        (folder / name).symlink_to(dumped / name)
    names = load_class_list(str(dumped / "shards" / "classes.txt")).ids
    (folder / "other.txt").write_text("\n".join(["unknown", *names[1:]]) + "\n")
    relabelled(dumped / "shards", folder / "relabelled")
    pretrain(World(folder).pretrain(loss=LOSS, schedule=ONE_EPOCH), solo_job())
    return World(folder)


def relabelled(shards: Path, folder: Path) -> Path:
    """A copy of a shard set whose first sample has another label."""
    shutil.copytree(shards, folder, ignore=shutil.ignore_patterns("*.idx.npz"))
    first = folder / "train-000000.tar"
    with tarfile.open(first) as shard:
        place = next(member.offset_data for member in shard if member.name.endswith(".cls"))
    with first.open("r+b") as file:
        file.seek(place)
        label = file.read(1)
        file.seek(place)
        file.write(b"1" if label == b"0" else b"0")
    return folder


def changed(world: World, name: str) -> dict[str, Any]:
    """The sections of a recipe that differs in what is named."""
    sections: dict[str, dict[str, Any]] = {
        "loss": {"loss": LOSS | {"temperature": 2}},
        "view schedule": {"store": {"path": str(world.folder / "store"), "view_schedule": "permutation"}},
        "class list of the labels": {
            "shards": {"path": str(world.folder / "shards"), "class_list": str(world.folder / "other.txt")}
        },
        "set of labels": {"shards": {"path": str(world.folder / "relabelled")}},
        "student": {"student": {"tiny_vit": NETWORK, "drop_path_rate": 0.1}},
        "normalize": {"normalize": {"mean": [0.4, 0.5, 0.5]}},
        "optim": {"optim": TRAINING["optim"] | {"base_lr": 0.04}},
        "schedule": {"schedule": ONE_EPOCH | {"seed": 1}},
        "trainable": {"train": TRAINING["train"] | {"trainable": "head"}},
        "average": {"train": TRAINING["train"] | {"ema_decay": 0.9}},
        "batch norm": {"train": TRAINING["train"] | {"freeze_bn_stats": True}},
    }
    return sections[name]


DATA = ("loss", "view schedule", "class list of the labels", "set of labels")
RECIPE = ("student", "normalize", "optim", "schedule", "trainable", "average", "batch norm")


@pytest.mark.parametrize("name", [*DATA, *RECIPE])
def test_a_run_is_not_continued_with_another(name: str, finished: World) -> None:
    sections = {"loss": LOSS, "schedule": ONE_EPOCH} | changed(finished, name)
    with pytest.raises(CheckpointError, match=rf"another {name}\b"):
        pretrain(finished.pretrain(**sections), solo_job())


def test_what_differs_is_told_field_by_field_with_both_values(finished: World) -> None:
    optim = TRAINING["optim"] | {"base_lr": 0.04, "betas": [0.9, 0.95]}
    sections = {"loss": LOSS | {"alpha": 0.25}, "schedule": ONE_EPOCH, "optim": optim}
    with pytest.raises(CheckpointError, match="another loss and optim") as caught:
        pretrain(finished.pretrain(**sections), solo_job())
    before = finished.pretrain(loss=LOSS)
    assert caught.value.found == (
        f"from the checkpoint to this run: loss.alpha {before.loss.alpha} → 0.25; optim.base_lr 0.05 → 0.04; "
        "optim.betas [0.9, 0.999] → [0.9, 0.95]"
    )


def test_long_lists_of_changes_are_cut() -> None:
    before, now = ({"views": json.dumps({f"field{n}": value * 200 for n in range(30)})} for value in "ab")
    said = describe_changes(before, now)
    assert said.endswith("and 20 more")
    assert len(said) < 3000
    assert describe_changes({}, {"start": "random"}) == "start null → random"


def test_a_finetuning_is_not_continued_with_other_labels(finished: World) -> None:
    finetune(finished.finetune(schedule=ONE_EPOCH), solo_job())
    with pytest.raises(CheckpointError, match="another set of labels"):
        finetune(
            finished.finetune(schedule=ONE_EPOCH, shards={"path": str(finished.folder / "relabelled")}),
            solo_job(),
        )


def test_a_run_is_not_continued_from_another_start(world: World) -> None:
    """The recipe is the same, but not the file that it names."""
    student = {"tiny_vit": NETWORK, "init_from": str(world.folder / "teacher")}
    pretrain(world.pretrain(student=student, schedule=ONE_EPOCH), solo_job())
    make_teacher(world.folder, seed=3)
    with pytest.raises(CheckpointError, match=r"another start\b"):
        pretrain(world.pretrain(student=student, schedule=ONE_EPOCH), solo_job())


def test_a_finished_run_is_known_again_where_only_what_it_logs_and_checks_differs(finished: World) -> None:
    store = {"path": str(finished.folder / "store"), "verify_rate": 0.5, "block_cache_mib": 1, "views": 2}
    train = {"log_every": 1, "checkpoint_every": 2, "keep_checkpoints": 1}
    again = pretrain(finished.pretrain(loss=LOSS, schedule=ONE_EPOCH, store=store, train=train), solo_job())
    assert again["step"] == 6


def test_a_run_that_was_begun_before_weights_could_be_fetched_by_name_is_known_again() -> None:
    fields = {"name", "tiny_vit", "drop_path_rate", "kwargs", "init_from", "class_list", "head", "grad_checkpointing"}
    assert StudentConfig(name="resnet18").model_dump().keys() == fields
    assert StudentConfig(name="resnet18", pretrained=True).model_dump().keys() == fields | {"pretrained"}
