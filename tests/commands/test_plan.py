"""``tinyvit-kd plan`` as people and machines call it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tiny_world import World
from tests.conftest import CommandLine
from tests.planning.plans import CONFIGS, written
from tinyvit_kd.planning.measuring import stopwatch

LAPTOP = [CONFIGS / "laptop" / f"{stage}.yaml" for stage in ("dump", "pretrain", "finetune")]
AHEAD = ("--samples", "10k", "--bytes-per-image", "110k", "--elsewhere", "--set", "finetune:num_classes=12")


def test_a_plan_is_a_table_with_a_column_for_each_stage(command_line: CommandLine) -> None:
    ended = command_line(
        "plan", *LAPTOP, *AHEAD, "--rate", "teacher=100", "--rate", "student=50", "--rate", "views=500"
    )
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].split() == ["dump-logits", "pretrain", "finetune"]
    assert lines[1].split() == ["recipe", "dump.yaml", "pretrain.yaml", "finetune.yaml"]
    cells = {line[:33].strip(): line[33:].split() for line in lines}
    assert cells["samples"] == ["10,000"] * 3
    assert cells["views"] == ["80,000", "159,744", "79,872"]
    assert cells["epochs"] == ["–", "16", "8"]
    assert "at least 13 min 20 s" in ended.out
    assert "the teacher limits" in ended.out
    assert "not known" in ended.out  # the store's writing
    assert "write: records per second" in ended.out


def test_without_rates_hours_are_not_known_and_it_says_how_they_become_known(command_line: CommandLine) -> None:
    ended = command_line("plan", LAPTOP[0], *AHEAD[:5])
    assert "--measure" in ended.out
    assert "teacher: views per second and GPU" in ended.out


def test_json_is_one_object_with_the_same_numbers(command_line: CommandLine) -> None:
    ended = command_line("plan", *LAPTOP, *AHEAD, "--gpus", "2", "--rate", "student=50", "--json")
    values: dict[str, Any] = json.loads(ended.out)
    assert ended.out.count("\n") == 1
    assert (values["format"], values["processes"], values["sound"]) == (1, 2, True)
    dump, trained, _ = values["stages"]
    assert dump["store"]["records"] == dump["views"] == 80_000
    assert dump["store"]["bytes"] == pytest.approx(80_000 * 164.5, rel=1e-3)
    assert trained["hours"]["seconds"] == pytest.approx(159_744 / 100)
    assert trained["hours"]["rates_not_known"] == ["views"]
    assert trained["memory"]["of_network"] > 3 * trained["memory"]["weights"]


def test_what_is_wrong_gives_exit_code_2_and_is_named_beside_the_table(command_line: CommandLine) -> None:
    ended = command_line("plan", *LAPTOP, *AHEAD, "--processes", "3", "--set", "pretrain:store.views=9")
    assert ended.code == 2
    assert "2 things to correct first:" in ended.out
    assert ended.out.count("lanes, batch size and number of processes do not fit together") == 1
    assert f"{LAPTOP[1]}, {LAPTOP[2]}: lanes" in ended.out  # both have the same
    assert "fewer views than the recipe asks for" in ended.out


def test_mistakes_of_recipes_are_named_together(command_line: CommandLine) -> None:
    ended = command_line("plan", *LAPTOP, "--set", "optim.base_lr=-1", "--json")
    findings = json.loads(ended.out)["findings"]
    assert ended.code == 2
    assert [Path(each["recipe"]).stem for each in findings if "optim.base_lr" in str(each["found"])] == [
        "pretrain",
        "finetune",
    ]


def test_a_search_is_refused_in_words_of_its_own_and_offered_nowhere(command_line: CommandLine, tmp_path: Path) -> None:
    search = tmp_path / "contract.yaml"
    search.write_text("stage: contract\n")
    ended = command_line("plan", LAPTOP[0], search, *AHEAD[:5])
    assert ended.code == 2
    assert "a search is not planned" in ended.out
    assert "tinyvit-kd plan FOLDER/winner.yaml" in ended.out
    assert ended.out.splitlines()[0].split() == ["dump-logits"]  # the other recipe is planned all the same
    search.write_text("stage: contraction\n")
    for wrong in (command_line("plan", search).out, command_line("plan", LAPTOP[0], "--samples", "contract:3").err):
        assert "dump-logits, pretrain, finetune, evaluate" in wrong
        assert "evaluate, contract" not in wrong


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rate", "gpu=3"), "--rate takes PART=NUMBER"),
        (("--samples", "many"), "--samples takes a number above zero"),
        (("--bytes-per-image", "test:3"), "--bytes-per-image names a stage that does not exist"),
        (("--samples", "0.4"), "--samples takes a whole number"),
        (("--rate", "pretrain:student=3"), "--rate is for a stage that none of these recipes is of"),
        (("--samples", "finetune:3"), "--samples is for a stage that none of these recipes is of"),
        (("--set", "coffee=black"), "--set is for none of these recipes"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_wrong_option_gives_a_paragraph(command_line: CommandLine, options: tuple[str, str], said: str) -> None:
    ended = command_line("plan", LAPTOP[0], *options)
    assert ended.code == 2
    assert ended.err.startswith(said)
    assert "Traceback" not in ended.err


def test_names_from_recipes_cannot_control_the_terminal(command_line: CommandLine, world: World) -> None:
    shards = {"path": str(world.folder / "evil\x1b[2J")}
    ended = command_line("plan", *written(world.folder, world.finetune(shards=shards)))
    assert ended.code == 2
    assert "\x1b" not in ended.out


def test_measured_rates_give_hours_of_this_machine(
    command_line: CommandLine, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopwatch, "_SECONDS", 0.0)
    recipes = written(world.folder, world.pretrain(), world.finetune())
    ended = command_line("plan", *recipes, "--measure", "--json")
    values = json.loads(ended.out)
    assert ended.code == 0
    assert all(stage["hours"]["rates_not_known"] == [] for stage in values["stages"])
    assert all(stage["hours"]["seconds"] > 0 for stage in values["stages"])
    assert all(rate > 0 for each in values["rates"].values() for rate in each.values())


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; from click.testing import CliRunner; from tinyvit_kd.cli import cli\n"
    code += "assert CliRunner().invoke(cli, ['plan', '--help']).exit_code == 0; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0
