"""Imports run one way: cli → stages → runs → batches → the pieces → runtime; the pieces do not know each other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "tinyvit_kd"
PIECES = ("data", "views", "store", "models", "training")
BELOW = {"errors", "config", "runtime", "storage"}
ALLOWED = {
    "errors": set(),
    "config": {"errors"},
    "runtime": {"errors", "config"},
    "storage": {"errors", "config", "runtime"},
    **dict.fromkeys(PIECES, BELOW),
    "batches": {*BELOW, *PIECES},
    "runs": {*BELOW, *PIECES, "batches"},
    "api": {*BELOW, *PIECES, "batches", "runs"},
    "stages": {*BELOW, *PIECES, "batches", "runs"},
    "commands": {*BELOW, "stages"},
    "cli": {*BELOW, "stages", "commands"},
    "__main__": {"cli"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Names of our own packages that a file imports, anywhere in it."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    modules = [node.module or "" for node in nodes]
    return {module.split(".")[1] for module in modules if module.startswith("tinyvit_kd.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_stands_below_it(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        return
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert imported(path) <= {*ALLOWED[part], part}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_keeps_to_its_one_job(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


def test_every_package_is_known_here() -> None:
    folders = {path.parent.relative_to(PACKAGE).parts[0] for path in FILES if path.parent != PACKAGE}
    assert folders <= set(ALLOWED)
