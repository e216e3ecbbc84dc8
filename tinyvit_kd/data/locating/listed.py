"""Sizes, times and tags of the files of a shard set at URLs, from one listing of each of its folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tinyvit_kd.data.locating.served import WEB, is_served, kind_of_refusal, located, split_url
from tinyvit_kd.storage.base import FileInfo

_FEWEST = 4  # shards in a folder for which it is listed; it may hold much else


@dataclass(frozen=True)
class ListedFiles:
    """What is in the folders of a shard set, as it was when they were listed.

    Attributes:
        folders: by bucket and folder, the files directly in it by their names in the bucket.
    """

    folders: Mapping[tuple[str, str], Mapping[str, FileInfo]] = field(default_factory=dict)

    def knows(self, root: str, name: str) -> bool:
        """Whether the folder of a file has been listed."""
        return (root, name.rpartition("/")[0]) in self.folders

    def info(self, root: str, name: str) -> FileInfo | None:
        """Size and time of a file in a listed folder; None if it is not there."""
        return self.folders[root, name.rpartition("/")[0]].get(name)


def list_folders(locations: Iterable[str]) -> ListedFiles:
    """List the folders in which the shards of a set are: one request per 1,000 files. Web servers have no listings.

    Raises:
        OSError: a service does not answer, or refuses.
    """
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for location in locations:
        if is_served(location) and not location.startswith(WEB):
            root, name = split_url(location)
            place = root, name.rpartition("/")[0]
            counts[place] += 1
            examples[place] = location
    folders = {}
    for place, count in counts.items():
        if count < _FEWEST or (found := located(examples[place])) is None:
            continue
        try:
            folders[place] = found[0].infos(place[1])
        except OSError as error:
            if kind_of_refusal(error) not in ("permission", "unsupported"):  # to list is a permission of its own
                raise
    return ListedFiles(folders)
