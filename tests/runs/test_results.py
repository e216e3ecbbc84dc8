"""A finished run keeps its figures with all that they depend on, and the time of all of its attempts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tiny_world import World
from tests.runs.recorder import RunRecorder
from tinyvit_kd.analysis.jobs.run_folder import read_run
from tinyvit_kd.runs.attempts import read_attempts
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.store.store import LogitStore


def read(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_bytes())
    assert isinstance(content, dict)
    return content


def test_a_run_that_was_stopped_and_went_on_counts_both_attempts(world: World) -> None:
    folder = world.folder / "distilled"
    with pytest.raises(RuntimeError, match="stopped"):
        RunRecorder().pretrain(world.pretrain(), stop_at=5)
    assert not (folder / "results.json").exists(), "whole or not at all"
    first = read_attempts(folder / "attempts.json")
    assert [each.ended for each in first] == ["failed"]
    assert first[0].message == "stopped"
    summary = pretrain(world.pretrain(), solo_job())
    attempts = read_attempts(folder / "attempts.json")
    assert [each.ended for each in attempts] == ["failed", "finished"]
    results = read_run(folder).results
    assert results is not None
    assert results["seconds"] == pytest.approx(sum(each.seconds for each in attempts), abs=0.5)
    assert results["seconds"] > first[0].seconds
    assert results["started"] == first[0].started
    assert results["figures"] == summary == read(folder / "summary.json")["results"]
    assert results["identity"] == read(folder / "summary.json")["identity"]
    manifest = LogitStore.open(world.store).manifest
    assert [each["hash"] for each in results["stores"]] == [manifest.hash]
    assert [each["weights_hash"] for each in results["teacher"]] == [manifest.teacher.weights_hash]
    assert results["recipe"]["schedule"]["epochs"] == 2
    assert results["data"].keys() == {"shards"}, "this recipe has no evaluation"
    assert results["data"]["shards"]["samples"] == sum(manifest.shard_lengths)
    assert {"torch", "timm", "numpy", "pillow", "tinyvit_kd", "python"} <= results["versions"].keys()
    assert results["machine"]["memory"] > 1 << 20
    assert results["machine"]["cores"] >= 1


def test_a_run_with_an_evaluation_names_its_data_and_has_no_store(world: World) -> None:
    config = world.finetune(eval={"shards": {"path": str(world.shards), "split": "train"}, "views": {"size": 16}})
    summary = finetune(config, solo_job())
    results = read_run(Path(config.output)).results
    assert results is not None
    assert results["figures"]["top1"] == summary["top1"]
    assert results["stores"] == results["teacher"] == []
    assert results["data"]["eval"]["hash"] == results["data"]["shards"]["hash"], "the same shards"


def test_a_dump_writes_results_beside_its_store_and_its_parts_each_their_own(world: World, tmp_path: Path) -> None:
    path = tmp_path / "parted"
    config = world.dump(store={"path": str(path), "topk": 5, "views": 2})
    for part in ((1, 2), (2, 2)):
        dump_logits(config, solo_job(), part)
    found = [read(tmp_path / f"parted.part-{number}-of-2.results.json") for number in (1, 2)]
    manifest = LogitStore.open(path).manifest
    assert sum(each["figures"]["records"] for each in found) == 2 * sum(manifest.shard_lengths)
    assert sum(each["figures"]["views"] for each in found) == 2 * sum(manifest.shard_lengths)
    assert [each["part"] for each in found] == [[1, 2], [2, 2]]
    assert {each["stores"][0]["hash"] for each in found} == {manifest.hash}


def test_a_dump_that_finds_nothing_to_do_keeps_the_results_of_the_one_that_did(world: World, tmp_path: Path) -> None:
    path = tmp_path / "again"
    config = world.dump(store={"path": str(path), "topk": 5, "views": 1})
    dump_logits(config, solo_job())
    results = (tmp_path / "again.results.json").read_bytes()
    assert dump_logits(config, solo_job())["views"] == 0
    assert (tmp_path / "again.results.json").read_bytes() == results


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"attempts": 3}', b'{"attempts": [3, {"started": "x"}]}'])
def test_a_damaged_file_of_attempts_costs_its_time_alone(world: World, content: bytes) -> None:
    folder = world.folder / "distilled"
    folder.mkdir(exist_ok=True)
    (folder / "attempts.json").write_bytes(content)
    pretrain(world.pretrain(), solo_job())
    assert [each.ended for each in read_attempts(folder / "attempts.json")] == ["finished"]


@pytest.mark.parametrize("content", [b"", b'{"figures": ', b"[]", b'{"figures": 3}'])
def test_damaged_results_are_none(world: World, content: bytes) -> None:
    pretrain(world.pretrain(), solo_job())
    (world.folder / "distilled" / "results.json").write_bytes(content)
    run = read_run(world.folder / "distilled")
    assert run.results is None
    assert run.summary is not None
