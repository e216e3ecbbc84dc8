"""Names of the files that a search leaves in its folder, besides the results that its processes share.

The recipe has not the name that a run's has, so that commands that look for runs do not take a search for one.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.recipes import ContractConfig
from tinyvit_kd.contraction.results_folder import ResultsFolder
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runs.identity import describe_changes, differing
from tinyvit_kd.runtime.files import atomic_create, read_small_json, write_json
from tinyvit_kd.storage.copies import local_path

RECIPE = "contract.yaml"
IDENTITY = "identity.json"  # what must be the same for processes to share the search
_ROUNDS = "rounds.json"
_CARD = "contract.md"
PAGE = "contract.html"
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
    name = f"log{middle}.txt"
    with results.claimed(name) as is_ours:
        yield folder / (name if is_ours else f"log{middle}.{platform.node()}-{os.getpid()}.txt")


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
    return folder / PAGE


def winner_path(folder: Path, place: int) -> Path:
    """The recipe of a winner: ``winner.yaml``, ``winner-2.yaml``, from the first place on."""
    return folder / f"{_winner(place)}.yaml"


def winner_output(config: ContractConfig, place: int) -> str:
    """Where a winner is trained: beside the search's folder."""
    return f"{config.output}-{_winner(place)}"


def _winner(place: int) -> str:
    return "winner" if place == 1 else f"winner-{place}"


def join_search(folder: Path, identity: dict[str, str], here: dict[str, str], config: ContractConfig) -> None:
    """Begin a search in a folder, or join the one that is there.

    Args:
        identity: what of the recipe and its data must be the same for processes to share the search, by name.
        here: what of the machine must be. Folders of earlier versions do not tell all of it; what they do not tell is
            not compared.

    Raises:
        ConfigError: it is another one, or goes on on machines of another kind.
    """
    path, own = folder / IDENTITY, identity | here
    before = own
    if not atomic_create(path, (json.dumps(own, indent=2) + "\n").encode()):
        before = read_small_json(path)
    if not before:
        write_json(path, own)  # it was damaged; results say nothing of a recipe
        before = own
    compared = {name: value for name, value in own.items() if name in before or name not in here}
    changed = {*differing(before, compared), *differing(compared, before)}
    if changed - here.keys():
        raise ConfigError(
            "this folder belongs to a search by another recipe, or from other data",
            where=str(folder),
            found=describe_changes(before, compared),
            fix="set output to a new folder, or run again with the recipe that this search was begun with "
            f"({RECIPE} in it)",
        )
    if changed:
        raise ConfigError(
            "this search was begun on a machine of another kind, and what this one finds could not be compared",
            where=str(folder),
            found=describe_changes(before, compared),
            fix="go on with it on machines of that kind, with the same runtime, or set output to a new folder"
            + ("; with figures in throughput.hardware, throughput is the same on all" if "timings" in changed else ""),
        )
    atomic_create(folder / RECIPE, dump_yaml(config).encode())
