"""A run whose output is a URL is the run that it would be in a folder, on whichever machine it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from benchmarks.tiny_world import TRAINING, World
from tests.models.weights import assert_same_weights
from tests.storage.s3 import BUCKET, S3Server
from tinyvit_kd.config.recipes import PretrainConfig
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.storage.open import open_storage


@pytest.fixture
def url(s3: S3Server) -> str:
    """Where nothing is yet."""
    del s3
    return f"s3://{BUCKET}/runs/{uuid4().hex}"


def recipe(world: World, output: str | Path, machine: str = "a-machine", every: int = 4, **more: Any) -> PretrainConfig:
    return world.pretrain(
        output=str(output),
        schedule=TRAINING["schedule"] | {"epochs": 4},
        train=TRAINING["train"] | {"checkpoint_every": every, "log_every": 1},
        runtime={"workers": 0, "work_dir": str(world.folder / machine)},
        **more,
    )


def names(url: str) -> set[str]:
    """What is at a URL, apart from what writers leave of themselves."""
    return {entry.name for entry in open_storage(url).walk() if not entry.name.startswith("writer/")}


def fetched(url: str, folder: Path) -> Path:
    """The model at a URL, in a folder."""
    open_storage(url).fetch("model.safetensors", folder / "fetched" / "model.safetensors")
    return folder / "fetched"


def test_a_run_at_a_url_leaves_there_what_a_run_leaves_in_its_folder(world: World, url: str) -> None:
    here = pretrain(recipe(world, world.folder / "here"), solo_job())
    there = pretrain(recipe(world, url), solo_job())
    timed = "images_per_second", "data_wait", "step_seconds"
    assert {name: value for name, value in there.items() if name not in timed}.items() <= here.items()
    local = {str(path.relative_to(world.folder / "here")) for path in (world.folder / "here").rglob("*.*")}
    assert names(url) == {name for name in local if not name.startswith(".")}
    assert_same_weights(fetched(url, world.folder), world.folder / "here")
