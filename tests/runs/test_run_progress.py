"""A run and a dump leave how far they are where others look, and lines tell the time that is left."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tiny_world import TRAINING, World
from tests.conftest import CommandLine
from tests.runs.recorder import RunRecorder
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.runs.run_progress import dump_progress, student_progress
from tinyvit_kd.runs.work_folder import dump_path
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits

SCORED: dict[str, Any] = {"views": {"size": 16}, "batch_size": 96}


def read(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_bytes())
    assert isinstance(found, dict)
    return found


def scored(world: World) -> dict[str, Any]:
    return SCORED | {"shards": {"path": str(world.shards), "split": "train"}}


def test_a_run_that_is_stopped_and_continued_is_told_as_one(world: World) -> None:
    path = world.folder / "distilled" / "progress.json"
    config = world.pretrain(eval=scored(world))
    with pytest.raises(RuntimeError, match="stopped"):
        RunRecorder().pretrain(config, stop_at=9)
    stopped = read(path)
    assert (stopped["state"], stopped["message"]) == ("failed", "stopped")
    assert (stopped["stage"], stopped["unit"], stopped["done"], stopped["total"]) == ("pretrain", "step", 9, 12)
    assert stopped["epoch"] == 1.5
    assert stopped["loss"] > 0
    assert stopped["rate"] > 0
    assert set(stopped["pause_seconds"]) == {"evaluation", "checkpoint"}
    assert student_progress(config, solo_job())._progress.pace.pause_seconds == stopped["pause_seconds"]
    summary = RunRecorder().pretrain(config)
    finished = read(path)
    assert (finished["state"], finished["done"], finished["seconds_left"]) == ("finished", 12, 0)
    assert finished["message"] == f"top-1 {summary['top1']:.2f} %"


@pytest.mark.parametrize("text", ["", "[]", '{"pause_seconds": 3}', '{"pause_seconds": {"evaluation": "long"}}'])
def test_a_damaged_file_is_taken_for_none(text: str, world: World) -> None:
    config = world.pretrain()
    Path(config.output).mkdir()
    (Path(config.output) / "progress.json").write_text(text)
    assert student_progress(config, solo_job())._progress.pace.pause_seconds == {}


@pytest.mark.parametrize(("part", "name"), [((1, 1), "new.progress.json"), ((2, 3), "new.part-2-of-3.progress.json")])
def test_a_dump_tells_of_all_views_of_its_shards_those_included_that_the_store_has(
    part: tuple[int, int], name: str, world: World
) -> None:
    config = world.dump(store={"path": str(world.folder / "new"), "topk": 5, "views": 2})
    dump_logits(config, solo_job(), part)
    found = read(world.folder / name)
    views = 2 * (96 if part == (1, 1) else 40)
    assert (found["state"], found["stage"], found["unit"]) == ("finished", "dump-logits", "view")
    assert (found["done"], found["total"]) == (views, views)
    assert found["message"].startswith(f"made {views} views")
    shard = part[0] - 1
    (world.folder / "new" / f"s{shard:06d}" / "c.1.0").unlink(missing_ok=True)
    dump_logits(config, solo_job(), part)
    assert (read(world.folder / name)["done"], read(world.folder / name)["total"]) == (views, views)


def test_a_dump_that_fails_says_so(world: World) -> None:
    config = world.dump(store={"path": str(world.folder / "new"), "topk": 500, "views": 2})
    with pytest.raises(ValueError, match="topk"):
        dump_logits(config, solo_job())
    found = read(world.folder / "new.progress.json")
    assert found["state"] == "failed"
    assert "topk" in found["message"]


def test_what_belongs_beside_a_url_is_written_in_the_work_folder(world: World, tmp_path: Path) -> None:
    work = {"workers": 0, "work_dir": str(tmp_path / "work")}
    config = world.dump(store={"path": "s3://a-bucket/store", "topk": 5, "views": 1}, runtime=work)
    path = dump_path(config, "progress.json", (1, 1))
    path.parent.mkdir(parents=True)
    with dump_progress(config, (1, 1), solo_job()) as progress:
        assert progress.stage == "dump-logits"
    assert list((tmp_path / "work").rglob("*.json")) == [path]
    assert path.name == "store.progress.json"


def test_each_line_of_progress_tells_the_time_to_the_end_of_the_run(world: World, command_line: CommandLine) -> None:
    recipe = world.folder / "pretrain.yaml"
    recipe.write_text(dump_yaml(world.pretrain(eval=scored(world))))
    code, _, err = command_line("pretrain", recipe)
    assert code == 0
    lines = [line for line in err.splitlines() if line.startswith("step ")]
    assert len(lines) == TRAINING["schedule"]["epochs"] * 6 / TRAINING["train"]["log_every"]
    told = [re.search(r"waiting for data \d+%  (\d+) s left$", line) for line in lines]
    assert [match is not None for match in told[:-1]] == [True] * (len(lines) - 1)
