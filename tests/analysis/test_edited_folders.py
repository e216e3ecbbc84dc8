"""Small files that somebody has edited, or that a disk has damaged, cost what they say and never the look at a run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.analysis.job_folders import NOW, progress, write, write_run
from tinyvit_kd.analysis.jobs.compared import compare_runs
from tinyvit_kd.analysis.jobs.compared_text import describe as describe_compared
from tinyvit_kd.analysis.jobs.lineage import lineage
from tinyvit_kd.analysis.jobs.run_folder import read_run
from tinyvit_kd.analysis.jobs.run_status import run_status
from tinyvit_kd.analysis.jobs.status_text import describe

FIGURES = {"loss": 2.0, "top1": 40.0, "step": 9, "images_per_second": 5.0}
RECIPE = {
    "stage": "pretrain",
    "schedule": {"global_batch_size": 16},
    "shards": {"path": "shards", "split": "train"},
    "store": {"path": "store", "others": [{"path": "other"}]},
    "eval": {"shards": {"path": "shards"}},
    "student": {"name": "net", "pretrained": False, "init_from": "before"},
    "loss": {"kind": "soft"},
}
ATTEMPT = {"started": NOW - 9, "until": NOW, "ended": "finished", "command": "x", "host": "h", "process": 2}
FILES: dict[str, Any] = {
    "recipe.yaml": RECIPE,
    "metrics.jsonl": {"kind": "train", "step": 5, "time": NOW, "loss": 2.0, "step_seconds": 0.1, "data_wait": 0.1},
    "progress.json": progress("finished"),
    "attempts.json": {"format": 1, "attempts": [ATTEMPT | {"world_size": 1, "version": "1", "message": None}]},
    "summary.json": {"identity": {}, "results": FIGURES},
    "results.json": {
        "format": 1,
        "figures": FIGURES,
        "recipe": RECIPE,
        "data": {"shards": {"name": "n", "hash": "d"}, "eval": {"hash": "e"}},
        "stores": [{"path": "store", "hash": "s"}],
        "teacher": [{"name": "Net", "weights_hash": "w"}],
        "student": {"parameters": 7},
        "versions": {"torch": "1"},
        "machine": {"host": "h", "gpus": [{"name": "H200"}]},
        "world_size": 1,
        "seconds": 20.0,
    },
}
ANYTHING: list[Any] = [None, True, -1, 1e400, float("nan"), "text", [], [3], {}, {"name": []}, [{"hash": [1]}]]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in a tree of plain data."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in items:
        yield from places(each, (*path, name))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The same tree with something else at one place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


EDITS = [(name, path) for name, content in FILES.items() for path in places(content)]


@settings(max_examples=150, deadline=None)
@example([(("progress.json", ()), None), (("attempts.json", ("attempts", 0, "message")), [3])])
@given(st.lists(st.tuples(st.sampled_from(EDITS), st.sampled_from(ANYTHING)), min_size=1, max_size=2))
def test_whatever_stands_in_a_file_runs_are_told_of_and_compared(edits: list[tuple[Any, Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, edited = (write_run(Path(folder) / name) for name in ("whole", "edited"))
        for run in (whole, edited):
            for name, content in FILES.items():
                write(run / name, json.dumps(content) + "\n")
        for (name, path), new in edits:
            write(edited / name, json.dumps(changed(FILES[name], path, new)) + "\n")
        status = run_status(edited, NOW)
        assert describe([status])
        assert describe([status, status])
        json.dumps(status.as_dict())
        compared = compare_runs([(str(whole), True), (str(edited), True)], NOW)
        assert describe_compared(compared)
        json.dumps(compared.as_dict())
        assert lineage(read_run(edited))
