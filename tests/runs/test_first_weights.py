"""Transfer: the head that training starts from, for labels of any class list."""

from __future__ import annotations

import pytest
import torch

from benchmarks.tiny_world import STILL, TRAINING, World
from tinyvit_kd.data.labels.class_list import load_class_list
from tinyvit_kd.models.modelfile import load_model_file
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.finetune import finetune


def head_after(world: World, ids: list[str], head: str = "auto") -> torch.Tensor:
    """The head's weight [C, D] of a student that starts from the teacher and hardly moves, for labels of a list."""
    (world.folder / "other.txt").write_text("\n".join(ids) + "\n")
    shards = {"path": str(world.folder / "shards"), "split": "train", "class_list": str(world.folder / "other.txt")}
    student = {"init_from": str(world.folder / "teacher"), "head": head}
    schedule = TRAINING["schedule"] | {"epochs": 1, "warmup_epochs": 0}
    finetune(world.finetune(shards=shards, student=student, optim=STILL, schedule=schedule), solo_job())
    return load_model_file(world.folder / "finetuned")[0]["head.fc.weight"]


def teachers(world: World) -> tuple[list[str], torch.Tensor]:
    """Its classes, and its head's weight."""
    ids = load_class_list(str(world.folder / "shards" / "classes.txt")).ids
    return list(ids), load_model_file(world.folder / "teacher")[0]["head.fc.weight"]


def test_classes_that_the_head_knows_keep_their_rows_and_others_take_the_mean(world: World) -> None:
    ids, rows = teachers(world)
    found = head_after(world, ["new", *reversed(ids)])
    torch.testing.assert_close(found[1:], rows.flip(0))
    torch.testing.assert_close(found[0], rows.mean(dim=0), rtol=1e-4, atol=0.01)  # weights of thousands


@pytest.mark.parametrize("known", [False, True], ids=["nothing in common", "asked for"])
def test_a_head_starts_from_zero_where_nothing_is_in_common_or_it_is_asked_for(world: World, known: bool) -> None:
    ids, _ = teachers(world)
    found = head_after(world, ids, "fresh") if known else head_after(world, [f"class {number}" for number in range(30)])
    assert len(found) == (len(ids) if known else 30)
    assert found.abs().max() < 1e-6


def test_a_student_for_other_labels_says_which_classes_it_has(world: World) -> None:
    names = [f"class {number}" for number in range(30)]
    head_after(world, names)
    card = load_model_file(world.folder / "finetuned")[1]
    assert card is not None
    assert (card.num_classes, card.class_ids) == (30, tuple(names))
