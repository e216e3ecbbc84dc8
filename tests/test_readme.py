"""The pages lead somewhere: links, anchors, names of files and the tree of the package are those that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests import pages
from tests.conftest import REPOSITORY
from tests.documented_commands import check, lay_out
from tests.pages import PAGES, README
from tinyvit_kd.cli import cli

PACKAGE = REPOSITORY / "tinyvit_kd"
LINKING = [*PAGES, REPOSITORY / "CHANGELOG.md", REPOSITORY / "fuzz" / "README.md"]
SOURCE = re.compile(r"[\w./-]+\.(?:py|pyi|c|h|sh|slurm)|\w[\w.-]*/[\w./-]*(?:/|\.(?:md|yaml|json))|\w+/")
ROOMS = {path.parent for path in PACKAGE.glob("*/__init__.py")}


def tree() -> list[str]:
    """The paths of the README's tree, as they stand there."""
    blocks = [block.text for block in pages.blocks(README) if "tinyvit_kd/cli.py" in block.text]
    assert len(blocks) == 1
    return [line.split()[0] for line in blocks[0].splitlines()]


def test_the_readme_is_a_welcome_and_no_manual() -> None:
    assert len(README.read_text().splitlines()) <= 160


def test_every_path_of_the_readme_s_tree_exists_and_stands_there_once() -> None:
    paths = tree()
    assert len(set(paths)) == len(paths)
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []
    assert [path for path in paths if (REPOSITORY / path).is_dir() != path.endswith("/")] == []


def test_the_readme_s_tree_has_every_room_and_the_three_stages() -> None:
    listed = {REPOSITORY / path for path in tree()}
    stages = {PACKAGE / "stages" / f"{name}.py" for name in ("dump_logits", "pretrain", "finetune")}
    alone = {path for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}
    assert listed >= ROOMS | stages | alone


@pytest.mark.parametrize("page", LINKING, ids=pages.name)
def test_links_between_pages_lead_to_files_and_headings(page: Path) -> None:
    for path, anchor in pages.links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in pages.anchors(target), f"{path}#{anchor}"


def test_the_readme_links_to_every_page() -> None:
    linked = {(README.parent / path).resolve() for path, _ in pages.links(README) if path}
    assert linked >= set(PAGES) - {README}


@pytest.mark.parametrize("page", PAGES, ids=pages.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    own = {block.file for block in pages.blocks(page)}
    roots = (REPOSITORY, PACKAGE, page.parent)
    named = {text for text in pages.code(page) if SOURCE.fullmatch(text)} - own
    assert [text for text in named if not any((root / text).exists() for root in roots)] == []


@pytest.mark.parametrize(
    "words",
    [words for block in pages.blocks(README) if block.language == "sh" for words in pages.commands(block.text)],
    ids=" ".join,
)
def test_a_command_in_the_readme_parses(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    check(words, {})


def test_make_has_the_targets_that_everybody_needs() -> None:
    targets = set(re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert {"install", "demo", "test", "lint"} <= targets


def test_help_is_a_map_of_the_stages() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).output
    for name in ("shards", "dump-logits", "pretrain", "finetune", "evaluate", "store", "demo"):
        assert re.search(rf"^\s*\d?\s+{name}\s", shown, re.MULTILINE), name
