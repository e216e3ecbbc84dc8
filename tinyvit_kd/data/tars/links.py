"""Links inside a tar: which file each of them stands for."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import NamedTuple

from tinyvit_kd.data.tars.leftovers import Leftovers
from tinyvit_kd.data.tars.member import Member
from tinyvit_kd.data.tars.member_names import passed_over


class Link(NamedTuple):
    """A hard or symbolic link."""

    name: str
    target: str  # as it is written in the tar
    is_symbolic: bool  # its target is relative to its own folder
    part: int  # number of the archive in the tar

    @property
    def path(self) -> str:
        """The target's path in the tar."""
        folder = posixpath.dirname(self.name) if self.is_symbolic else ""
        return posixpath.normpath(posixpath.join(folder, self.target))


class Links:
    """Finds the files that links lead to, among the members of one tar; no path outside of it is ever looked at."""

    def __init__(self) -> None:
        self.files: list[Member] = []  # to be appended to, in the tar's order
        self.folders: list[str] = []  # likewise
        self._by_path: dict[str, Member] = {}  # of the first ``_listed`` files; made only if there are links
        self._listed = 0
        self._waiting: list[Link] = []

    def resolve(self, link: Link) -> Member | None:
        """The file of a link, among the members so far; None if it has to wait for later ones."""
        target = self._files_by_path().get(link.path)
        if target is None:
            self._waiting.append(link)
        return target

    def resolved_late(self, leftovers: Leftovers) -> Iterator[tuple[Link, Member]]:
        """Yield the links that had to wait, with their files.

        Args:
            leftovers: counts those that lead to none.
        """
        if not self._waiting:
            return
        follow = _Chains(self._files_by_path(), {posixpath.normpath(link.name): link for link in self._waiting})
        folders = self._all_folders()
        for link in self._waiting:
            target = follow(link)
            if target is not None:
                yield link, target
            else:
                cause = passed_over(link.name) or ("folder_link" if link.path in folders else "link")
                leftovers.count(cause, link.name)

    def _files_by_path(self) -> dict[str, Member]:
        for member in self.files[self._listed :]:
            self._by_path[posixpath.normpath(member.name)] = member
        self._listed = len(self.files)
        return self._by_path

    def _all_folders(self) -> set[str]:
        folders = {"."}
        for path in (*map(posixpath.normpath, self.folders), *map(posixpath.dirname, self._by_path)):
            while path not in folders and path not in ("", "/"):
                folders.add(path)
                path = posixpath.dirname(path)
        return folders


class _Chains:
    """Follows links to links, each of them once: where a chain ends is kept for all that it passes."""

    def __init__(self, files: dict[str, Member], links: dict[str, Link]) -> None:
        self._links = links
        self._ends: dict[str, Member | None] = dict(files)

    def __call__(self, link: Link) -> Member | None:
        path, passed = link.path, list[str]()
        while path not in self._ends and path in self._links:
            self._ends[path] = None  # unless it is found below; a circle ends here
            passed.append(path)
            path = self._links[path].path
        target = self._ends.get(path)
        self._ends.update(dict.fromkeys(passed, target))
        return target
