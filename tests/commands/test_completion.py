"""Shells complete commands and options, as docs/CLI.md tells them to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PROGRAM = Path(sys.executable).with_name("tinyvit-kd")


def ask(instruction: str, **variables: str) -> str:
    return subprocess.run(
        [PROGRAM], env={**os.environ, "_TINYVIT_KD_COMPLETE": instruction, **variables}, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize(
    ("words", "place", "found"),
    [
        ("tinyvit-kd dump", "1", {"dump-logits"}),
        ("tinyvit-kd store ch", "2", {"check"}),
        ("tinyvit-kd store check --rep", "3", {"--repair"}),
        ("tinyvit-kd recipe pre", "2", {"pretrain"}),
    ],
)
def test_words_are_completed(words: str, place: str, found: set[str]) -> None:
    told = ask("bash_complete", COMP_WORDS=words, COMP_CWORD=place)
    assert {line.partition(",")[2] for line in told.splitlines()} == found


def test_the_page_s_lines_give_a_script_for_each_shell() -> None:
    named = re.findall(r"_TINYVIT_KD_COMPLETE=(\w+_source)", (REPOSITORY / "docs" / "CLI.md").read_text())
    assert named == ["bash_source", "zsh_source", "fish_source"]
    assert all("_TINYVIT_KD_COMPLETE" in ask(instruction) for instruction in named)
