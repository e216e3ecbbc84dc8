"""The class list that lies beside the shards of a set."""

from __future__ import annotations

from pathlib import Path

from tinyvit_kd.data.labels.class_list import ClassList, load_class_list, read_class_list
from tinyvit_kd.data.locating.at_urls import read_file
from tinyvit_kd.data.tars.heads import BLOCK_BYTES, is_web_page

CLASS_LIST_FILE = "classes.txt"


def classes_beside(folder: Path | str | None) -> ClassList | None:
    """The class list in the folder of a shard set; None if there is none.

    Args:
        folder: a path, the URL of a folder that a storage serves, or None.

    Raises:
        ConfigError: it is not a list of distinct ids.
        ShardError: the service of the URL does not answer, or refuses.
    """
    if isinstance(folder, str):
        where = f"{folder}/{CLASS_LIST_FILE}"
        content = read_file(where)
        if not content or is_web_page(content[:BLOCK_BYTES]):  # some web servers have an answer for any name
            return None
        return read_class_list(content, Path(CLASS_LIST_FILE).stem, where)
    if folder is None or not (folder / CLASS_LIST_FILE).is_file():
        return None
    return load_class_list(str(folder / CLASS_LIST_FILE))
