"""A teacher with a head of its own is planned whatever library its backbone is of, and so is what trains from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.tiny_world import SIZE, World
from tests.models.foreign_networks import HERE, INPUT, TORCHVISION, torchvision_file, vit_folder
from tests.models.towers import WIDTH, open_clip_folder, transformers_folder
from tests.planning.plans import plan_of, wrong
from tinyvit_kd.models.embedding_head import HeadedNetwork
from tinyvit_kd.models.head_file import Head, save_head
from tinyvit_kd.planning.models import planned_teacher
from tinyvit_kd.planning.networks import cost_of

CLASSES = 24
Fields = dict[str, Any]


def of_timm(_folder: Path) -> Fields:
    kwargs = {"embed_dim": 16, "depth": 1, "num_heads": 2, "patch_size": 8}
    return {"name": "vit_tiny_patch16_224", "pretrained": True, "image_size": SIZE, "kwargs": kwargs}


def of_a_file(folder: Path) -> Fields:
    return {"checkpoint": str(folder / "teacher")}


def of_a_function(_folder: Path) -> Fields:
    return {"call": f"{HERE}.Body"} | INPUT


def of_torchvision(folder: Path) -> Fields:
    torchvision_file(folder / "weights.pth")
    return {"torchvision": TORCHVISION, "checkpoint": str(folder / "weights.pth")} | INPUT


def of_transformers(folder: Path) -> Fields:
    vit_folder(folder / "vit")
    return {"transformers": str(folder / "vit")}


def of_transformers_clip(folder: Path) -> Fields:
    transformers_folder(folder / "clip")
    return {"transformers": str(folder / "clip")} | INPUT


def of_open_clip(folder: Path) -> Fields:
    open_clip_folder(folder / "clip")
    return {"open_clip": f"local-dir:{folder / 'clip'}"}


@pytest.mark.parametrize(
    ("source", "width"),
    [
        (of_timm, 16),
        (of_a_file, 32),
        (of_a_function, 8),
        (of_torchvision, 1024),
        (of_transformers, 16),
        (of_transformers_clip, WIDTH),
        (of_open_clip, WIDTH),
    ],
)
def test_a_dump_by_a_head_and_its_pretrain_are_planned(
    source: Callable[[Path], Fields], width: int, world: World
) -> None:
    head = world.folder / "head.safetensors"
    weight = torch.randn(CLASSES, width, generator=torch.Generator().manual_seed(0))
    save_head(head, Head(weight, scale=10.0, normalize="both", center=weight[0]))
    fields = source(world.folder) | {"head": str(head)}
    dump = world.dump(teacher=fields, store={"path": str(world.folder / "planned"), "topk": 5, "views": 2})
    plan = plan_of(dump, world.pretrain(store={"path": str(world.folder / "planned")}))
    assert wrong(plan) == []
    assert all(stage.network is not None for stage in plan.stages)
    found = plan.stages[0].network
    headed = planned_teacher(dump.teacher, None).build()
    assert isinstance(headed, HeadedNetwork)
    assert found is not None
    assert found.multiply_adds == cost_of(headed.backbone, SIZE, trains=False).multiply_adds + CLASSES * width
    assert found == cost_of(headed, SIZE, trains=False), "with memory as without"
