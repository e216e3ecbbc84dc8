"""docs/EXTENDING.md: what it says lies where it says, and its differences fit today's code and do what they promise."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import pages
from tests.conftest import REPOSITORY

PAGE = REPOSITORY / "docs" / "EXTENDING.md"
PACKAGE = REPOSITORY / "tinyvit_kd"
ROWS = re.findall(r"^\| [^|]+ \| `([\w/.]+)`: (.+) \|$", PAGE.read_text(), re.MULTILINE)
DIFFS = [block.text for block in pages.blocks(PAGE) if block.language == "diff"]


def hunks(diff: str) -> Iterator[tuple[str, str, str]]:
    """File, text before and text after of each hunk; hunks carry no line numbers, which would not stay true."""
    file = ""
    for part in re.split(r"^(?=@@$|--- )", diff, flags=re.MULTILINE):
        if part.startswith("--- "):
            file = part.splitlines()[1].removeprefix("+++ b/")
        elif part.startswith("@@"):
            lines = part.splitlines()[1:]
            before = "".join(line[1:] + "\n" for line in lines if line[:1] in ("-", " "))
            yield file, before, "".join(line[1:] + "\n" for line in lines if line[:1] in ("+", " "))


@pytest.mark.parametrize(("path", "symbols"), ROWS, ids=[f"{path} {symbols}" for path, symbols in ROWS])
def test_a_behaviour_is_where_the_table_says(path: str, symbols: str) -> None:
    defined: set[str] = set()
    for node in ast.parse((PACKAGE / path).read_text()).body:
        names = [node] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        defined |= {each.name for each in names} | {each.id for each in targets if isinstance(each, ast.Name)}
    assert set(re.findall(r"`(\w+)`", symbols)) <= defined


def test_the_table_has_twenty_behaviours() -> None:
    assert len(ROWS) == 20


def test_every_difference_fits_and_does_what_the_page_says(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(PACKAGE, copy / "tinyvit_kd", ignore=shutil.ignore_patterns("__pycache__"))
    assert len(DIFFS) == 8
    for diff in DIFFS:
        for name, before, after in hunks(diff):
            file = copy / name
            content = file.read_text() if before else ""
            assert not before or content.count(before) == 1, f"{name} has not once:\n{before}"
            file.write_text(content.replace(before, after) if before else after)
    blocks = "\n".join(block.text for block in pages.blocks(PAGE) if block.language == "python")
    environment = os.environ | {"PYTHONPATH": str(copy)}
    where = "import tinyvit_kd; assert tinyvit_kd.__file__.startswith(" + repr(str(copy)) + ")\n"
    done = subprocess.run(
        [sys.executable, "-c", where + blocks],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
