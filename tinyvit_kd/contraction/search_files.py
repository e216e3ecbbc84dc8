"""Names of the files that a search leaves in its folder, besides the results that its processes share.

The recipe has not the name that a run's has, so that commands that look for runs do not take a search for one.
"""

from __future__ import annotations

import json
from pathlib import Path

from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.recipes import ContractConfig
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


def log_path(folder: Path, part: tuple[int, int], rank: int) -> Path:
    """The log of one process: ``log.txt``, ``log.part-2-of-8.txt``, ``log.rank-3.txt``."""
    number, parts = part
    middle = (f".part-{number}-of-{parts}" if parts > 1 else "") + (f".rank-{rank}" if rank else "")
    return folder / f"log{middle}.txt"


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


def join_search(folder: Path, identity: dict[str, str], config: ContractConfig) -> None:
    """Begin a search in a folder, or join the one that is there.

    Raises:
        ConfigError: it is another one.
    """
    path = folder / IDENTITY
    before = identity
    if not atomic_create(path, (json.dumps(identity, indent=2) + "\n").encode()):
        before = read_small_json(path)
    if not before:
        write_json(path, identity)  # it was damaged; results say nothing of a recipe
    elif differing(before, identity) or differing(identity, before):
        raise ConfigError(
            "this folder belongs to a search by another recipe, or from other data",
            where=str(folder),
            found=describe_changes(before, identity),
            fix="set output to a new folder, or run again with the recipe that this search was begun with "
            f"({RECIPE} in it)",
        )
    atomic_create(folder / RECIPE, dump_yaml(config).encode())
