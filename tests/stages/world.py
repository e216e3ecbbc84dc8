"""A tiny world for end-to-end tests: drawn images, a teacher of random weights, and recipes that take seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tinyvit_kd.config.load import validate
from tinyvit_kd.config.models import ModelSpec
from tinyvit_kd.config.recipes import DumpConfig, EvaluateConfig, FinetuneConfig, PretrainConfig
from tinyvit_kd.data.build import build_shards
from tinyvit_kd.data.synthetic import DRAWN_CLASSES, write_image_folder
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.modelfile import ModelCard, save_model

SIZE, SAMPLES = 16, 96
NOBODY = 65534  # the user id of no one in particular
NETWORK: dict[str, Any] = {
    "embed_dims": [8, 16, 16, 32],
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 1, 1],
    "window_sizes": [2] * 4,
}
VIEWS: dict[str, Any] = {"size": SIZE, "scale": [0.3, 1.0]}
TRAINING: dict[str, dict[str, Any]] = {
    "optim": {"base_lr": 0.05, "warmup_lr": 1e-4, "min_lr": 1e-4},
    "schedule": {"epochs": 2, "warmup_epochs": 0.5, "global_batch_size": 16, "lanes": 4, "window": 8},
    "train": {"log_every": 2, "checkpoint_every": 4},
    "runtime": {"workers": 0},
}

# The command line on a disk that takes its time: no machine is too quick, and none too busy, for a run to be hit in its
# midst.
SLOWLY = """
import time
from tinyvit_kd import cli
from tinyvit_kd.data.shards import ShardReader
read = ShardReader.read
def slowly(reader, shard, index):
    time.sleep(0.01)
    return read(reader, shard, index)
ShardReader.read = slowly
cli.main()
"""


def slow_program(folder: Path) -> str:
    """A file in ``folder`` that Python runs in place of ``-m tinyvit_kd``: every image takes 10 ms to read."""
    (folder / "slowly.py").write_text(SLOWLY)
    return str(folder / "slowly.py")


def draw_shards(folder: Path, samples: int = SAMPLES, split: str = "train", seed: int = 0) -> Path:
    """A labelled shard set of ``samples`` images in shards of 40."""
    images = folder / f"images-{split}"
    write_image_folder(images, samples, seed)
    build_shards(images, folder / "shards", split, samples_per_shard=40, seed=seed, processes=1)
    return folder / "shards"


def make_teacher(folder: Path, num_classes: int = len(DRAWN_CLASSES), seed: int = 1) -> Path:
    """A model file with random weights; its best class has a tenth to nearly all of the mass, 0.6 in the mean."""
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
    save_model(folder / "teacher" / "model.safetensors", state, card)
    return folder / "teacher"


@contextmanager
def nobody() -> Iterator[None]:
    """Root ignores modes, so that it must become someone else for a while; others are someone else already."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


class World:
    """Recipes over one folder; keyword arguments replace whole sections."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def dump(self, **sections: Any) -> DumpConfig:
        """Stage one: top 5 in two views."""
        tree = {
            "stage": "dump-logits",
            "shards": {"path": str(self.folder / "shards"), "split": "train"},
            "views": VIEWS,
            "teacher": {"checkpoint": str(self.folder / "teacher")},
            "store": {"path": str(self.folder / "store"), "topk": 5, "views": 2},
            "batch_size": 20,
            "views_per_decode": 2,
            "runtime": {"workers": 0},
        }
        return validate(DumpConfig, tree | sections, "test")

    def pretrain(self, **sections: Any) -> PretrainConfig:
        """Stage two."""
        tree = {
            "stage": "pretrain",
            "output": str(self.folder / "distilled"),
            "shards": {"path": str(self.folder / "shards"), "split": "train"},
            "store": {"path": str(self.folder / "store")},
            "student": {"tiny_vit": NETWORK},
            **TRAINING,
        }
        return validate(PretrainConfig, tree | sections, "test")

    def finetune(self, **sections: Any) -> FinetuneConfig:
        """Stage three, from scratch unless ``student`` says otherwise."""
        tree = {
            "stage": "finetune",
            "output": str(self.folder / "finetuned"),
            "shards": {"path": str(self.folder / "shards"), "split": "train"},
            "views": VIEWS,
            "student": {"tiny_vit": NETWORK},
            **TRAINING,
        }
        return validate(FinetuneConfig, tree | sections, "test")

    def evaluate(self, **sections: Any) -> EvaluateConfig:
        """Scores the distilled student on its training images."""
        tree = {
            "stage": "evaluate",
            "model": str(self.folder / "distilled"),
            "shards": {"path": str(self.folder / "shards"), "split": "train"},
            "views": {"size": SIZE},
            "batch_size": 7,
            "runtime": {"workers": 0},
        }
        return validate(EvaluateConfig, tree | sections, "test")
