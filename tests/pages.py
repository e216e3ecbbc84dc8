"""The pages that a user reads, taken apart: blocks of code, commands, links, headings and names of files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.conftest import REPOSITORY

README = REPOSITORY / "README.md"
PAGES = [README, *sorted((REPOSITORY / "docs").glob("*.md"))]
LANGUAGES = {"sh", "python", "yaml", "json", "text"}

_FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+)$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that the block is: its first line is a comment with a path and nothing else."""
        first = re.match(r"# ([\w./-]+\.(?:py|yaml))\n", self.text)
        return first[1] if first else None


def name(page: Path) -> str:
    """A page's path in the repository."""
    return str(page.relative_to(REPOSITORY))


def blocks(page: Path) -> list[Block]:
    """A page's fenced blocks, in order."""
    return [Block(language, text) for language, text in _FENCE.findall(page.read_text())]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def commands(shell: str) -> list[list[str]]:
    """The commands of a piece of shell, as words: without comments, and joined where a line goes on."""
    found = (shlex.split(line, comments=True) for line in shell.replace("\\\n", " ").splitlines())
    return [words for words in found if words]


def without_settings(words: list[str]) -> list[str]:
    """The words of a command without its ``--set`` options."""
    values = {place + 1 for place, word in enumerate(words) if word == "--set"}
    return [word for place, word in enumerate(words) if word != "--set" and place not in values]


def code(page: Path) -> list[str]:
    """What stands between single backticks, with line breaks as blanks."""
    return [" ".join(text.split()) for text in _CODE.findall(prose(page))]


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Links to files of the repository: path relative to the page ("" for the page itself) and anchor."""
    for target in _LINK.findall(prose(page)):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield path, anchor


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    titles = (re.sub(r"[^\w\- ]", "", title.lower()) for title in _HEADING.findall(prose(page)))
    return {title.strip().replace(" ", "-") for title in titles}
