"""A world of small shards for proxies, and recipes of searches in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.tiny_world import NETWORK, SIZE, TRAINING, Tree, World, make_teacher
from tinyvit_kd.config.load import validate
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.recipes import ContractConfig
from tinyvit_kd.data.building.build import build_shards
from tinyvit_kd.data.building.source_rules import SourceRules
from tinyvit_kd.data.synthetic import DRAWN_CLASSES, write_image_folder
from tinyvit_kd.models.families import build_network
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits

SCHEDULE: Tree = TRAINING["schedule"] | {"global_batch_size": 8, "lanes": 2}
CLASSES = len(DRAWN_CLASSES)
PROXY: Tree = {"steps": 20, "held_out": 0.34, "warmup": 0.2}


def make_world(folder: Path, samples: int = 60, per_shard: int = 11, **sections: Any) -> World:
    """A world of several small shards, the last of them shorter, and its store.

    Args:
        sections: of the dump's recipe.
    """
    write_image_folder(folder / "images", samples, 0)
    rules = SourceRules(empty_classes="leave-out", folders_are_classes=True)
    build_shards(
        folder / "images", folder / "shards", "train", samples_per_shard=per_shard, seed=0, processes=1, rules=rules
    )
    make_teacher(folder)
    world = World(folder)
    dump_logits(world.dump(**sections), solo_job())
    return world


def contract_recipe(world: World, **sections: Any) -> ContractConfig:
    """A search in a world. Keyword arguments replace whole sections."""
    tree = {
        "stage": "contract",
        "output": str(world.folder / "contracted"),
        "shards": {"path": str(world.shards), "split": "train"},
        "store": {"path": str(world.store)},
        "student": {"tiny_vit": NETWORK},
        "limits": {"parameters": 1e4},
        **TRAINING,
        "schedule": SCHEDULE,
        "proxy": PROXY,
    } | sections
    return validate(ContractConfig, tree, "a world of small shards")


def candidate(seed: int = 0, **changes: Any) -> nn.Module:
    """A small network for the world's views and classes."""
    return build_network(ModelSpec.model_validate({"tiny_vit": NETWORK, **changes}), CLASSES, SIZE, seed)
