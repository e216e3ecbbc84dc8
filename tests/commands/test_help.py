"""``--help`` lists each command once, under a heading, in a line that is not cut off."""

from __future__ import annotations

import re

from click.testing import CliRunner

from tinyvit_kd.cli import SECTIONS, cli


def test_each_command_stands_under_one_heading() -> None:
    listed = [command.name for commands in SECTIONS.values() for command in commands]
    assert sorted(map(str, listed)) == sorted(cli.commands)


def test_no_line_of_the_map_is_cut_off() -> None:
    shown = CliRunner().invoke(cli, ["--help"], terminal_width=110).output
    lines = [line for line in shown.splitlines() if re.match(r"  [a-z-]+  ", line)]
    assert len([line for line in lines if line.split()[0] in cli.commands]) == len(cli.commands)
    assert not [line for line in lines if line.endswith("...")]


def test_headings_come_in_the_order_of_a_project() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).output
    places = [shown.index(f"{heading}:") for heading in SECTIONS]
    assert places == sorted(places)
