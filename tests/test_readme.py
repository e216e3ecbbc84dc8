"""What the README tells people to type exists."""

from __future__ import annotations

import re
import shlex

import click
import pytest
from click.testing import CliRunner

from tests.conftest import REPOSITORY
from tinyvit_kd.cli import cli

README = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
LINES = [line.partition("#")[0].strip() for block in BLOCKS for line in block.splitlines()]
COMMANDS = [line for line in LINES if line.startswith("tinyvit-kd")]
MAKE = [line for line in LINES if line.startswith("make")]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_in_the_readme_parses(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = cli
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    missing = [word for word in words if word.endswith(".yaml") and not (REPOSITORY / word).exists()]
    assert missing == []
    named = [word.split("=")[0] for word in words if word.startswith("--")]
    assert set(named) <= {option for parameter in command.params for option in parameter.opts}


def test_make_targets_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert {line.split()[1] for line in MAKE} <= targets
    assert {"install", "demo", "test", "lint"} <= targets


def test_help_is_a_map_of_the_stages() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).output
    for name in ("shards", "dump-logits", "pretrain", "finetune", "evaluate", "store", "demo"):
        assert re.search(rf"^\s*\d?\s+{name}\s", shown, re.MULTILINE), name


def test_files_in_the_readme_s_tree_exist() -> None:
    tree = README[README.index("tinyvit_kd/\n") :].partition("```")[0]
    names = re.findall(r"(\w+\.py)", tree)
    present = {path.name for path in (REPOSITORY / "tinyvit_kd").rglob("*.py")}
    assert set(names) <= present
