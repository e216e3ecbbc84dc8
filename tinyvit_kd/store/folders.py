"""What lies in the folders of shards' arrays: a listing for each on a disk, as few as possible in an object store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from tinyvit_kd.storage.base import Entry, Storage
from tinyvit_kd.storage.together import together
from tinyvit_kd.store.names import array_name

_PAGE = 1000  # entries of one request for a listing


def array_entries(
    storage: Storage, shards: Sequence[int], blocks: int, on_refusal: Callable[[OSError], None] | None = None
) -> Iterator[tuple[int, list[Entry]]]:
    """Each shard with the entries of its array's folder, in the order of ``shards``.

    An object store lists all that lies below the root in pages; that takes fewer requests than a listing for each of
    many folders.

    Args:
        blocks: how many the store may have.
        on_refusal: told of a folder that cannot be listed, which counts as empty then; None: it is raised, as it
            is where all is listed at once.
    """

    def listed(shard: int) -> list[Entry]:
        try:
            return storage.list(array_name(shard))
        except OSError as error:
            if on_refusal is None:
                raise
            on_refusal(error)
            return []

    if storage.at_a_time == 1 or len(shards) <= -(-blocks // _PAGE):
        yield from zip(shards, together(storage, listed, shards), strict=True)
        return
    found: defaultdict[str, list[Entry]] = defaultdict(list)
    for entry in storage.walk():
        found[entry.name.partition("/")[0]].append(entry)
    yield from ((shard, found[array_name(shard)]) for shard in shards)
