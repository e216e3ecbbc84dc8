"""``report`` from the command line: whatever state runs and stores are in, and where it cannot be done."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import CommandLine
from tests.reports.made_runs import RECIPE, write_run
from tests.reports.reading import Page

if TYPE_CHECKING:
    from benchmarks.tiny_world import World

ALONE = ("--processes", "1")


def text_of(path: Path) -> str:
    """What a report shows, in one line."""
    return " ".join(" ".join(Page(path.read_text()).texts).split())


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def test_a_folder_of_runs_becomes_one_page(command_line: CommandLine, tmp_path: Path) -> None:
    write_run(tmp_path / "sweep" / "slow")
    write_run(tmp_path / "sweep" / "deeper" / "fast", recipe={**RECIPE, "optim": {"base_lr": 0.01}})
    out = tmp_path / "out.html"
    ended = command_line("report", tmp_path / "sweep", "--output", out, "--title", "A <b>sweep</b>")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"wrote {out}: 2 runs, 1.")
    shown = text_of(out)
    assert "A <b>sweep</b>" in shown
    assert "48.00 %" in shown
    assert "optim.base_lr 0.01 0.002" in shown, "found runs are in the order of their first lines, then of their names"
    assert f"report {tmp_path / 'sweep'}" in shown


def test_each_state_of_a_run_is_told(command_line: CommandLine, tmp_path: Path) -> None:
    now = time.time()
    host = {"host": "elsewhere", "pid": 1, "unit": "step", "total": 80}
    write_run(tmp_path / "finished")
    for name, progress in {
        "running": {"state": "running", "updated": now, "done": 40, "seconds_left": 7230},
        "failed": {"state": "failed", "updated": now - 900, "done": 40, "message": "the loss became <NaN>"},
    }.items():
        write_json(write_run(tmp_path / name, lines=4, finished=False) / "progress.json", {**host, **progress})
    for name in ("silent", "old"):
        folder = write_run(tmp_path / name, lines=4, finished=False, recipe=None if name == "old" else RECIPE)
        for path in folder.iterdir():
            os.utime(path, (now - 7200, now - 7200))
    command_line("report", tmp_path, "--output", tmp_path / "out.html")
    shown = text_of(tmp_path / "out.html")
    for said in (
        "finetune finished",
        "running at 50.0 %, 2 h",
        "failed ",
        "the loss became <NaN>",
        "silent for 2 h",
    ):
        assert said in shown
    assert "not known" in shown
    assert "the last line of the log" in shown


def test_lines_that_are_cut_or_damaged_are_left_out_and_told(command_line: CommandLine, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", tail='{"kind": "train", "step": 99, "lo')
    content = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").write_bytes(content[:300] + b"\x00\xff\n" + content[320:])
    assert command_line("report", run, "--output", tmp_path / "out.html").code == 0
    assert "lines of its metrics cannot be read" in text_of(tmp_path / "out.html")


def test_a_run_that_has_only_begun_has_a_page_without_curves(command_line: CommandLine, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", finished=False)
    (run / "metrics.jsonl").unlink()
    assert command_line("report", run, "--output", tmp_path / "out.html").code == 0
    assert "No run has logged a figure yet." in text_of(tmp_path / "out.html")


def test_damaged_side_files_cost_nothing_but_themselves(command_line: CommandLine, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for name in ("results.json", "attempts.json", "progress.json"):
        (run / name).write_text(
            '{"figures": {}, "machine": [1], "attempts": [{"a": 1}], "commands": {"x": 1}, "seconds": "1"'
        )
    (run / "recipe.yaml").write_text("stage: [")
    assert command_line("report", run, "--output", tmp_path / "out.html").code == 0
    (run / "results.json").write_text(
        '{"figures": {}, "machine": [1], "commands": {"x": 1}, "seconds": "1", "versions": 3, "stores": [7]}'
    )
    assert command_line("report", run, "--output", tmp_path / "out.html").code == 0


def test_a_store_shows_figures_and_samples_from_the_shards_of_its_dump(
    command_line: CommandLine, world: World, tmp_path: Path
) -> None:
    out = tmp_path / "out.html"
    assert command_line("report", world.folder, "--output", out, "--samples", "3", *ALONE).code == 0
    shown = text_of(out)
    assert "How sure the teacher is" in shown
    assert "the label is the teacher's best class in" in shown
    images = Page(out.read_text()).of("img")
    assert all((each["src"] or "").startswith("data:image/jpeg;base64,/9j/") for each in images)
    assert len(images) == 2, "two sheets, of two samples and of one"


def test_without_its_shards_a_store_says_why_it_shows_no_samples(
    command_line: CommandLine, world: World, tmp_path: Path
) -> None:
    (store,) = [path.parent for path in world.folder.rglob("manifest.json")]
    lone = shutil.copytree(store, tmp_path / "elsewhere" / "store")
    out = tmp_path / "out.html"
    assert command_line("report", lone, "--output", out, *ALONE).code == 0
    assert "No samples are shown: no recipe beside it" in text_of(out)
    assert not Page(out.read_text()).of("img")


@pytest.mark.parametrize("scheme", ["pipe:", "file:pipe:"])
def test_a_recipe_that_came_with_a_store_fetches_and_runs_nothing(
    command_line: CommandLine, world: World, tmp_path: Path, scheme: str
) -> None:
    (store,) = [path.parent for path in world.folder.rglob("manifest.json")]
    lone = shutil.copytree(store, tmp_path / "elsewhere" / "store")
    touched = tmp_path / "touched"
    recipe = {"shards": {"path": f"{scheme}touch {touched}", "cache_dir": str(tmp_path)}}
    write_json(tmp_path / "elsewhere" / "store.results.json", {"figures": {}, "recipe": recipe})
    assert command_line("report", lone, "--output", tmp_path / "out.html", *ALONE).code == 0
    assert not touched.exists()
    assert "at a URL, and nothing is fetched because a file says so" in text_of(tmp_path / "out.html")


def test_a_damaged_store_among_others_is_left_out_and_one_that_was_named_is_an_error(
    command_line: CommandLine, tmp_path: Path
) -> None:
    write_run(tmp_path / "all" / "run")
    (tmp_path / "all" / "store").mkdir()
    (tmp_path / "all" / "store" / "manifest.json").write_text("{")
    out = tmp_path / "out.html"
    ended = command_line("report", tmp_path / "all", "--output", out)
    assert ended.code == 0
    assert "left out of the report" in ended.err
    assert "Not in this report" in text_of(out)
    ended = command_line("report", tmp_path / "all" / "store", "--output", out)
    assert ended.code == 2
    assert "manifest" in ended.err


@pytest.mark.parametrize("what", ["missing", "empty", "file", "output", "nowhere"])
def test_wrong_input_gives_a_paragraph(command_line: CommandLine, tmp_path: Path, what: str) -> None:
    run = write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    paths = {"missing": tmp_path / "missing", "empty": tmp_path / "empty", "file": run / "recipe.yaml"}
    outputs = {"output": tmp_path / "empty", "nowhere": run / "recipe.yaml" / "out.html"}
    ended = command_line("report", paths.get(what, run), "--output", outputs.get(what, tmp_path / "out.html"))
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert str(outputs.get(what, paths.get(what))) in ended.err
    assert not (tmp_path / "out.html").exists()


def test_without_plotly_it_says_how_to_get_it_before_it_reads_anything(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    ended = command_line("report", tmp_path / "missing", "--output", tmp_path / "out.html")
    assert ended.code == 2
    assert "pip install 'tinyvit_kd[report]'" in ended.err


def test_a_report_that_is_there_is_replaced_as_a_whole(command_line: CommandLine, tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    out.write_text("x" * 10_000_000)
    command_line("report", write_run(tmp_path / "run"), "--output", out)
    assert out.read_text().startswith("<!DOCTYPE html>")
    assert out.read_text().endswith("</html>\n")
