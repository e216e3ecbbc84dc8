"""A store is made in one precision, which its manifest names, as it names the versions that made it."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.tiny_world import World
from tinyvit_kd import __version__
from tinyvit_kd.errors import ManifestMismatchError
from tinyvit_kd.runs.new_store import dump_precision
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.store.store import LogitStore

ON_A_GPU = replace(solo_job(), device=torch.device("cuda"))  # nothing is computed on it


def dumped_in(world: World, precision: str) -> Path:
    path = world.folder / f"store-{precision}"
    store = {"path": str(path), "topk": 5, "views": 1}
    dump_logits(world.dump(store=store, runtime={"workers": 0, "precision": precision}), solo_job())
    return path


def test_the_manifest_names_the_precision_and_another_one_is_refused(world: World) -> None:
    path = dumped_in(world, "float16")
    assert LogitStore.open(path).manifest.teacher.precision == "float16"
    with pytest.raises(ManifestMismatchError, match=r"teacher\.precision"):
        dump_logits(world.dump(store={"path": str(path), "topk": 5, "views": 1}), solo_job())


def test_on_a_gpu_a_new_store_is_made_in_float16(world: World) -> None:
    assert dump_precision(world.dump(store={"path": str(world.folder / "new"), "topk": 5, "views": 1}), ON_A_GPU) == (
        "float16"
    )


def test_a_store_begun_when_gpus_had_bfloat16_goes_on_in_it(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    store = {"path": str(dumped_in(world, "bfloat16")), "topk": 5, "views": 2}
    assert dump_precision(world.dump(store=store), ON_A_GPU) == "bfloat16"
    assert "was begun in bfloat16, and goes on in it" in capsys.readouterr().err
    asked = {"workers": 0, "precision": "float16"}
    assert dump_precision(world.dump(store=store, runtime=asked), ON_A_GPU) == "float16"
    assert dump_precision(world.dump(store=store), solo_job()) == "float32"


def test_a_tree_that_was_not_installed_dumps_and_trains(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "tinyvit_kd":  # a tree on the path has no metadata
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr("importlib.metadata.version", version)
    manifest = LogitStore.open(dumped_in(world, "float32")).manifest
    assert manifest.versions["tinyvit_kd"] == __version__
    assert manifest.versions["torch"] == "1.0"
    pretrain(world.pretrain(), solo_job())
