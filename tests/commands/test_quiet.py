"""Quiet mode shows results and errors alone, and loses nothing: a run's log has all lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.tiny_world import World
from tests.conftest import CommandLine
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.runtime.lines import is_quiet


@pytest.fixture
def recipe(world: World) -> Path:
    path = world.folder / "pretrain.yaml"
    path.write_text(dump_yaml(world.pretrain()))
    return path


@pytest.mark.parametrize("how", ["--quiet", "-q", "environment"])
def test_only_the_result_is_shown_and_the_log_has_all_lines(
    how: str, recipe: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "environment":
        monkeypatch.setenv("TINYVIT_KD_QUIET", "1")
    code, out, err = command_line(*([how] if how.startswith("-") else []), "pretrain", recipe)
    assert (code, err) == (0, "")
    assert json.loads(out)["step"] == 12
    log = (recipe.parent / "distilled" / "log.txt").read_text()
    assert "step 12/12" in log
    assert "views are rendered" in log
    monkeypatch.delenv("TINYVIT_KD_QUIET", raising=False)
    assert not is_quiet(), "the next command of this process is not quiet"


def test_errors_are_shown(recipe: Path, command_line: CommandLine) -> None:
    code, out, err = command_line("--quiet", "pretrain", recipe, "--set", "schedule.lanes=7")
    assert (code, out) == (2, "")
    assert err.startswith("lanes, batch size and number of processes do not fit together")


@pytest.mark.parametrize("value", ["", "0"])
def test_an_environment_that_does_not_ask_for_it_changes_nothing(
    value: str, recipe: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYVIT_KD_QUIET", value)
    assert "step 12/12" in command_line("pretrain", recipe).err
