"""A tiny world that runs through all stages in seconds: drawn images, a teacher with random weights, and recipes.

The end-to-end tests and the fault campaign both work on it. It is among the benchmarks because tests may import from
them but not the other way round. It is not in the package because users of the package have no need of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tinyvit_kd.config.load import validate
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.recipes import DumpConfig, EvaluateConfig, FinetuneConfig, PretrainConfig
from tinyvit_kd.data.building.build import build_shards
from tinyvit_kd.data.building.source_rules import SourceRules
from tinyvit_kd.data.synthetic import DRAWN_CLASSES, write_image_folder
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.modelfile import MODEL, ModelCard, save_model

Tree = dict[str, Any]  # a recipe, or a part of one, as YAML gives it

SIZE, SAMPLES = 16, 96
NETWORK: Tree = {
    "embed_dims": [8, 16, 16, 32],
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 1, 1],
    "window_sizes": [2] * 4,
}
VIEWS: Tree = {"size": SIZE, "scale": [0.3, 1.0]}
MIXED: Tree = VIEWS | {"mixup": 0.8, "cutmix": 1.0, "mix_prob": 0.9}
TRAINING: dict[str, Tree] = {
    "optim": {"base_lr": 0.05, "warmup_lr": 1e-4, "min_lr": 1e-4},
    "schedule": {"epochs": 2, "warmup_epochs": 0.5, "global_batch_size": 16, "lanes": 4, "window": 8},
    "train": {"log_every": 2, "checkpoint_every": 4},
    "runtime": {"workers": 0},
}
STILL: Tree = {"base_lr": 1e-12, "warmup_lr": 0, "min_lr": 0, "weight_decay": 0}  # rates at which no weight changes
ONE_EPOCH: Tree = TRAINING["schedule"] | {"epochs": 1}


def draw_shards(
    folder: Path, samples: int = SAMPLES, split: str = "train", seed: int = 0, broken: Iterable[int] = ()
) -> Path:
    """Make a labelled shard set of ``samples`` images, 40 per shard, in ``folder/shards``.

    Args:
        broken: numbers of the images that cannot be decoded.
    """
    images = folder / f"images-{split}"
    write_image_folder(images, samples, seed)
    paths = sorted(images.rglob("*.jpg"))
    for number in broken:
        paths[number].write_bytes(b"no image")
    # A few images leave classes empty, or but one.
    rules = SourceRules(empty_classes="leave-out", folders_are_classes=True)
    build_shards(images, folder / "shards", split, samples_per_shard=40, seed=seed, processes=1, rules=rules)
    return folder / "shards"


def make_teacher(folder: Path, num_classes: int = len(DRAWN_CLASSES), seed: int = 1) -> Path:
    """Write a model file with random weights to ``folder/teacher``.

    The probability of its best class is between 0.1 and nearly 1, with a mean of 0.6.
    """
    spec = ModelSpec.model_validate({"tiny_vit": NETWORK})
    network = build_network(spec, num_classes, SIZE, seed)
    # The untrained body's features lie far below the epsilon of the head's norm.
    state = {name: value * (300_000 if name == "head.fc.weight" else 1) for name, value in network.state_dict().items()}
    card = ModelCard(
        architecture=spec.model_dump(mode="json"),
        num_classes=num_classes,
        image_size=SIZE,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        class_name="drawn" if num_classes == len(DRAWN_CLASSES) else None,
        class_ids=tuple(sorted(DRAWN_CLASSES)) if num_classes == len(DRAWN_CLASSES) else None,
    )
    save_model(folder / "teacher" / MODEL, state, card)
    return folder / "teacher"


def dump_recipe(shards: Path, teacher: Path, store: Path, /, **sections: Any) -> Tree:
    """A recipe of stage one: top 5, two views. Here and below, keyword arguments replace whole sections."""
    return {
        "stage": "dump-logits",
        "shards": {"path": str(shards), "split": "train"},
        "views": VIEWS,
        "teacher": {"checkpoint": str(teacher)},
        "store": {"path": str(store), "topk": 5, "views": 2},
        "batch_size": 20,
        "views_per_decode": 2,
        "runtime": {"workers": 0},
    } | sections


def pretrain_recipe(shards: Path, store: Path, output: Path, /, **sections: Any) -> Tree:
    """A recipe of stage two."""
    return {
        "stage": "pretrain",
        "output": str(output),
        "shards": {"path": str(shards), "split": "train"},
        "store": {"path": str(store)},
        "student": {"tiny_vit": NETWORK},
        **TRAINING,
    } | sections


def finetune_recipe(shards: Path, output: Path, /, **sections: Any) -> Tree:
    """A recipe of stage three, from scratch unless ``student`` says otherwise."""
    return {
        "stage": "finetune",
        "output": str(output),
        "shards": {"path": str(shards), "split": "train"},
        "views": VIEWS,
        "student": {"tiny_vit": NETWORK},
        **TRAINING,
    } | sections


def evaluate_recipe(model: Path, shards: Path, /, **sections: Any) -> Tree:
    """A recipe that scores a model on its training images."""
    return {
        "stage": "evaluate",
        "model": str(model),
        "shards": {"path": str(shards), "split": "train"},
        "views": {"size": SIZE},
        "batch_size": 7,
        "runtime": {"workers": 0},
    } | sections


class World:
    """Validated recipes for one folder of shards, a teacher, a store and runs.

    Args:
        folder: the folder that ``draw_shards`` and ``make_teacher`` wrote to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards = folder / "shards"
        self.teacher = folder / "teacher"
        self.store = folder / "store"

    def dump(self, **sections: Any) -> DumpConfig:
        """Stage one, into ``folder/store``."""
        return validate(DumpConfig, dump_recipe(self.shards, self.teacher, self.store, **sections), "tiny world")

    def pretrain(self, **sections: Any) -> PretrainConfig:
        """Stage two, into ``folder/distilled``."""
        tree = pretrain_recipe(self.shards, self.store, self.folder / "distilled", **sections)
        return validate(PretrainConfig, tree, "tiny world")

    def finetune(self, **sections: Any) -> FinetuneConfig:
        """Stage three, into ``folder/finetuned``."""
        tree = finetune_recipe(self.shards, self.folder / "finetuned", **sections)
        return validate(FinetuneConfig, tree, "tiny world")

    def evaluate(self, **sections: Any) -> EvaluateConfig:
        """Score the distilled student."""
        return validate(
            EvaluateConfig, evaluate_recipe(self.folder / "distilled", self.shards, **sections), "tiny world"
        )
