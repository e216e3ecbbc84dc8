"""A run keeps the lines that it printed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.tiny_world import World
from tests.conftest import CommandLine
from tests.runs.recorder import RunRecorder
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runs.run_log import dump_log
from tinyvit_kd.runs.work_folder import dump_folder
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.lines import lines_for_a_log, log_file, print_line
from tinyvit_kd.stages.dump_logits import dump_logits

STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", re.MULTILINE)


def logged(path: Path) -> list[str]:
    """The lines of a log, each of which has begun with a time."""
    lines = path.read_text().splitlines()
    assert all(STAMP.match(line) for line in lines)
    return [STAMP.sub("", line) for line in lines]


def test_a_run_folder_has_every_line_that_was_printed(world: World, command_line: CommandLine) -> None:
    recipe = world.folder / "pretrain.yaml"
    recipe.write_text(dump_yaml(world.pretrain()))
    code, _, err = command_line("pretrain", recipe)
    assert code == 0
    lines = logged(world.folder / "distilled" / "log.txt")
    assert lines[1:] == err.splitlines()
    assert lines[0].startswith("training, tinyvit_kd")
    assert lines[1].startswith("views are rendered"), "said before the folder was there"
    command_line("pretrain", recipe)
    assert logged(world.folder / "distilled" / "log.txt") == lines, "a finished run is not begun again"


def test_a_run_that_goes_on_appends_and_the_log_says_what_ended_it(world: World) -> None:
    with pytest.raises(RuntimeError, match="stopped"):
        RunRecorder().pretrain(world.pretrain(), stop_at=5)
    first = logged(world.folder / "distilled" / "log.txt")
    assert any("ended by an error" in line for line in first)
    assert first[-1] == "RuntimeError: stopped"
    RunRecorder().pretrain(world.pretrain())
    lines = logged(world.folder / "distilled" / "log.txt")
    assert lines[: len(first)] == first
    assert any(line.startswith("continuing from step") for line in lines[len(first) :])


@pytest.mark.parametrize(("part", "name"), [((1, 1), "store.log"), ((2, 3), "store.part-2-of-3.log")])
def test_a_dump_logs_beside_its_store_each_part_for_itself(world: World, part: tuple[int, int], name: str) -> None:
    before = set(world.store.iterdir())
    (world.folder / name).unlink(missing_ok=True)
    dump_logits(world.dump(), solo_job(), part)
    lines = logged(world.folder / name)
    assert any(line.startswith("nothing to make; ") for line in lines)
    assert set(world.store.iterdir()) == before


def test_a_path_with_a_slash_at_its_end_and_a_url_have_their_place(world: World, tmp_path: Path) -> None:
    config = world.dump(store={"path": f"{tmp_path}/other/", "topk": 5, "views": 1})
    with dump_log(config, (1, 1), solo_job()):
        assert (tmp_path / "other.log").is_file()
    work = {"workers": 0, "work_dir": str(tmp_path / "work")}
    config = world.dump(store={"path": "s3://a-bucket/other", "topk": 5, "views": 1}, runtime=work)
    dump_folder(config).mkdir(parents=True)
    with dump_log(config, (1, 1), replace(solo_job(), rank=1)), dump_log(config, (2, 3), solo_job()):
        assert [path.name for path in (tmp_path / "work").rglob("*.log")] == ["other.part-2-of-3.log"]


def test_an_error_of_ours_is_logged_as_its_paragraph(tmp_path: Path) -> None:
    with pytest.raises(ConfigError), log_file(tmp_path / "log.txt", "a run"):
        raise ConfigError("it is wrong", fix="mend it")
    assert logged(tmp_path / "log.txt")[-1] == "ended: it is wrong. To do: mend it."


def test_a_log_that_cannot_be_written_costs_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with log_file(tmp_path / "absent" / "log.txt", "a run"):
        print_line("it runs")
    assert "there will be no log in" in capsys.readouterr().err


def test_lines_before_the_log_are_kept_for_it_and_not_for_the_next(tmp_path: Path) -> None:
    print_line("long before")
    with lines_for_a_log():
        print_line("before")
        with log_file(tmp_path / "log.txt", "a run"):
            print_line("naïve ✓ \ud800")
        print_line("between")
        with log_file(tmp_path / "other.txt", "another run"):
            print_line("after")
    with log_file(tmp_path / "third.txt", "a third run"):
        pass
    assert logged(tmp_path / "log.txt")[1:] == ["before", "naïve ✓ \\ud800"]
    assert logged(tmp_path / "other.txt")[1:] == ["between", "after"]
    assert len(logged(tmp_path / "third.txt")) == 1
