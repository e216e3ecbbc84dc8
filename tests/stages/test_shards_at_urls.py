"""From images to a student on shards in a bucket and on a web server: the weights are those from a disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.tiny_world import World
from tests.conftest import CommandLine
from tests.storage.s3 import BUCKET, S3Server, every
from tests.storage.web import Parts, WholeFiles, web_server
from tinyvit_kd.config.base import Section
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.models.modelfile import load_model_file


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_model_file(folder)[0]


def require_same_weights(one: Path, other: Path) -> None:
    theirs, ours = weights(one), weights(other)
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())


def write(path: Path, recipe: Section) -> Path:
    path.write_text(dump_yaml(recipe))
    return path


@pytest.mark.slow
def test_build_index_info_check_and_pretrain_work_on_a_bucket_that_refuses_at_times(
    world: World, s3: S3Server, command_line: CommandLine, tmp_path: Path
) -> None:
    url = f"s3://{BUCKET}/world/shards"
    s3.faults.choose = every(s503=9, s500=11, cut=13)
    built = command_line(
        *("shards", "build", world.folder / "images-train", url, "--samples-per-shard", 40, "--processes", 1),
        *("--empty-classes", "leave-out", "--folders-are-classes"),
    )
    assert built.code == 0, built.err
    local = json.loads(command_line("shards", "info", world.shards, "--json").out)
    for command in ("index", "info"):
        assert json.loads(command_line("shards", command, url, "--json").out) == local
    checked = command_line("shards", "check", url, "--processes", 1, "--json")
    assert checked.code == 0, checked.out
    assert json.loads(checked.out) == json.loads(command_line("shards", "check", world.shards, "--json").out)
    for name, cache in (("direct", {}), ("cached", {"cache_dir": str(tmp_path / "cache")})):
        shards = {"path": url, "split": "train"} | cache
        recipe = world.pretrain(shards=shards, output=str(world.folder / name))
        planned = command_line("plan", write(tmp_path / f"{name}.yaml", recipe))
        assert planned.code == 0, planned.err
        trained = command_line("pretrain", tmp_path / f"{name}.yaml")
        assert trained.code == 0, trained.err
    assert command_line("pretrain", write(tmp_path / "here.yaml", world.pretrain())).code == 0
    for name in ("direct", "cached"):
        require_same_weights(world.folder / name, world.folder / "distilled")
    assert {"500", "503", "cut"} <= set(s3.faults.made)


@pytest.mark.slow
@pytest.mark.parametrize("sends_parts", [True, False], ids=["parts", "whole files only"])
def test_pretrain_works_on_a_web_server(
    world: World, command_line: CommandLine, tmp_path: Path, sends_parts: bool
) -> None:
    with web_server(world.folder, Parts if sends_parts else WholeFiles) as (root, _):
        shards = {"path": f"{root}/shards", "split": "train", "cache_dir": str(tmp_path / "cache")}
        recipe = world.pretrain(shards=shards, output=str(world.folder / "web"))
        trained = command_line("pretrain", write(tmp_path / "web.yaml", recipe))
        assert trained.code == 0, trained.err
    assert command_line("pretrain", write(tmp_path / "here.yaml", world.pretrain())).code == 0
    require_same_weights(world.folder / "web", world.folder / "distilled")
