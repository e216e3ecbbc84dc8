"""Whether a process may share a search: with the recipe and data that it was begun with, on a machine of its kind."""

from __future__ import annotations

import json
from pathlib import Path

from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.recipes import ContractConfig
from tinyvit_kd.contraction.search_files import RECIPE, identity_path, recipe_path
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runs.identity import describe_changes, differing
from tinyvit_kd.runtime.files import atomic_create, read_small_json, write_json


def join_search(folder: Path, identity: dict[str, str], here: dict[str, str], config: ContractConfig) -> None:
    """Begin a search in a folder, or join the one that is there.

    Args:
        identity: what of the recipe and its data must be the same for processes to share the search, by name.
        here: what of the machine must be. Folders of earlier versions do not tell all of it; what they do not tell is
            not compared.

    Raises:
        ConfigError: it is another one, or goes on on machines of another kind.
    """
    path, own = identity_path(folder), identity | here
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
    atomic_create(recipe_path(folder), dump_yaml(config).encode())
