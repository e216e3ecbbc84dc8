"""Names of the files that a run or a search leaves in its folder, and a dump beside its store.

Imports nothing heavy: whoever looks at runs from outside starts in a moment.
"""

from __future__ import annotations

import re
from pathlib import Path

from tinyvit_kd.storage.copies import local_path, parts_of

RECIPE = "recipe.yaml"
SUMMARY = "summary.json"  # with it and a model file, a run has finished
RESULTS = "results.json"  # of a finished run: figures, and all that they depend on
ATTEMPTS = "attempts.json"  # when the run was started and ended, each time
LOG = "log.txt"
SEARCH_RECIPE = "contract.yaml"  # of a search, whose folder is that of no run
SEARCH_IDENTITY = "identity.json"
SEARCH_PAGE = "contract.html"
_DUMP_FILE = re.compile(r"(.+?)(?:\.part-(\d+)-of-(\d+))?\.(log|results\.json|attempts\.json|progress\.json)")


def beside_store(store: str, ending: str, part: tuple[int, int] = (1, 1), folder: Path | None = None) -> Path | None:
    """The path of a dump's file, which is not in the store, since that holds what zarr and a check know.

    Args:
        store: path or URL of the store, as a recipe has it.
        ending: such as ``log`` or ``results.json``.
        part: (i, n) of a dump in parts, each of which has files of its own: ``store.part-2-of-8.log``.

        folder: of this machine, for what belongs beside a store at a URL.

    Returns:
        None if the store is at a URL, and no folder is given.
    """
    path = local_path(store)
    if path is not None:
        return path.absolute().parent / dump_file_name(path.absolute().name, ending, part)
    return None if folder is None else folder / dump_file_name(parts_of(store)[1], ending, part)


def dump_file_name(store: str, ending: str, part: tuple[int, int]) -> str:
    """The name of a dump's file beside the store of a name: ``store.part-2-of-8.log``."""
    number, parts = part
    middle = "" if parts == 1 else f".part-{number}-of-{parts}"
    return f"{store}{middle}.{ending}"


def dump_file(name: str) -> tuple[str, tuple[int, int], str] | None:
    """What ``beside_store`` made a file's name of: the store's own name, the part and the ending; else None.

    Args:
        name: last part of the file's path.
    """
    match = _DUMP_FILE.fullmatch(name)
    return None if match is None else (match[1], (int(match[2] or 1), int(match[3] or 1)), match[4])
