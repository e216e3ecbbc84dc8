"""Names of the files that a search leaves in its folder, besides the results that its processes share.

The recipe has not the name that a run's has, so that commands that look for runs do not take a search for one. Imports
nothing heavy: whoever looks at searches from outside starts in a moment.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinyvit_kd.config.recipes import ContractConfig
from tinyvit_kd.contraction.results_folder import ResultsFolder
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runs.run_files import SEARCH_IDENTITY, SEARCH_PAGE, SEARCH_RECIPE
from tinyvit_kd.runtime.files import modified
from tinyvit_kd.storage.copies import local_path

RECIPE = SEARCH_RECIPE
_ROUNDS = "rounds.json"
_CARD = "contract.md"
_TIMINGS = "timings"  # throughput by shape, machine and settings, as it was measured


def search_folder(config: ContractConfig) -> Path:
    """The folder of a search.

    Raises:
        ConfigError: it is at a URL.
    """
    path = local_path(config.output)
    if path is None:
        raise ConfigError(
            "a search works in a folder, through which its processes share results",
            where="output",
            found=config.output,
            expected="a path, on a disk that all machines share if several take part",
            fix="set output to a folder; the winners' recipes may have an output at a URL",
        )
    return path


@contextmanager
def own_log(folder: Path, results: ResultsFolder, part: tuple[int, int], rank: int) -> Iterator[Path]:
    """The log of this process, which no other process writes to while the context lasts.

    Yields:
        ``log.txt``, ``log.part-2-of-8.txt`` or ``log.rank-3.txt``; where another process is at work with that one,
        ``log.HOST-PROCESS.txt``, with part and rank before that.
    """
    number, parts = part
    middle = (f".part-{number}-of-{parts}" if parts > 1 else "") + (f".rank-{rank}" if rank else "")
    with results.claimed(f"log{middle}.txt") as is_ours:
        if is_ours:
            yield folder / f"log{middle}.txt"
            return
    name = f"log{middle}.{platform.node()}-{os.getpid()}.txt"
    with results.claimed(name):  # which says that this process is at work
        yield folder / name


def recipe_path(folder: Path) -> Path:
    """The recipe of a search."""
    return folder / RECIPE


def identity_path(folder: Path) -> Path:
    """What must be the same for processes to share the search."""
    return folder / SEARCH_IDENTITY


def logs(folder: Path) -> list[Path]:
    """The logs of all processes, the one that was written last at the end."""
    found = {path: modified(path) for path in folder.glob("log*.txt")}
    return sorted(found, key=lambda path: found[path] or 0.0)


def rounds_path(folder: Path) -> Path:
    """All rounds that are finished, for programs."""
    return folder / _ROUNDS


def card_path(folder: Path) -> Path:
    """How the winners were found, for people."""
    return folder / _CARD


def timings_folder(folder: Path) -> Path:
    """Where the throughput of shapes is kept as it was measured."""
    return folder / _TIMINGS


def page_path(folder: Path) -> Path:
    """The page of a search."""
    return folder / SEARCH_PAGE


def winner_path(folder: Path, place: int) -> Path:
    """The recipe of a winner: ``winner.yaml``, ``winner-2.yaml``, from the first place on."""
    return folder / f"{_winner(place)}.yaml"


def winner_output(config: ContractConfig, place: int) -> str:
    """Where a winner is trained: beside the search's folder."""
    return f"{config.output}-{_winner(place)}"


def _winner(place: int) -> str:
    return "winner" if place == 1 else f"winner-{place}"
