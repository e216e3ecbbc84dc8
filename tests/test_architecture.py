"""Imports run one way: cli → stages → runs → batches → the pieces → runtime; the pieces do not know each other."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import click
import pytest

from tests.conftest import REPOSITORY
from tests.imports import Source
from tinyvit_kd.cli import cli

NAME = "tinyvit_kd"
PACKAGE = REPOSITORY / NAME
PIECES = ("data", "views", "store", "models", "training")
BELOW = {"errors", "config", "runtime", "storage"}
# What each room and each file at the top may import besides itself.
ALLOWED: dict[str, set[str]] = {
    "__init__": {"errors", "config", "data", "store", "api"},
    "errors": set(),
    "config": {"errors"},
    "runtime": {"errors", "config"},
    "storage": {"errors", "config", "runtime"},
    **dict.fromkeys(PIECES, BELOW),
    "batches": {*BELOW, *PIECES},
    "runs": {*BELOW, *PIECES, "batches"},
    "api": {*BELOW, *PIECES, "batches", "runs", "analysis"},
    "analysis": {*BELOW, *PIECES, "batches", "runs"},
    "planning": {*BELOW, *PIECES, "batches", "runs"},
    "contraction": {*BELOW, *PIECES, "batches", "runs", "planning"},
    "reports": {*BELOW, *PIECES, "batches", "runs", "analysis", "contraction"},
    "stages": {*BELOW, *PIECES, "batches", "runs", "analysis", "planning", "contraction", "reports"},
    "commands": {*BELOW, "stages"},
    "cli": {*BELOW, "stages", "commands", "__init__"},
    "__main__": {"cli"},
}
# Modules that only these files or rooms may import. Add a line for another module.
ONLY_IN: dict[str, set[str]] = {
    "zarr": set(),  # for tests alone: see store/chunks.py
    "numcodecs": {"store/chunks.py"},
    "google_crc32c": {"store/chunks.py"},
    "tarfile": {"data/tars/members.py"},
    "zipfile": {"data/indexing/npz.py", "data/building/source_archives.py", "training/checkpoint.py"},
    "webdataset": {"data/building/shard_writer.py", "data/locating/remote.py"},
    "safetensors": {"models/modelfile.py", "models/head_file.py"},
    "open_clip": {"models/open_clip_networks.py"},
    "sklearn": {"models/prototypes.py"},
    "plotly": {"reports/assets.py"},
    "transformers": {"models/transformers_networks.py"},
    "PIL": {"views", "api", "data/synthetic.py", "analysis/samples/sheets.py", "analysis/samples/drawing.py"},
    "yaml": {"config/yaml_text.py"},
    "click": {"cli.py", "commands"},
    "fcntl": {"runtime/files.py", "runtime/range_locks.py"},
    "obstore": {"storage"},
    "signal": {"runtime/signals.py"},
    "multiprocessing": {"runtime"},
    "wandb": {"runtime/loggers/weights_and_biases.py"},
    "mlflow": {"runtime/loggers/mlflow_tracking.py"},
    "torch.distributed": {
        "runtime",
        *(f"training/{name}.py" for name in ("batch_norm", "data_parallel", "stop_vote")),
    },
}
# Only these files and rooms know where things are on disk. All others are given paths, or use names in a storage.
JOINS_PATHS = {
    *("data", "runs", "analysis"),
    *(
        "contraction/claims.py",
        "contraction/results_folder.py",
        "contraction/search_files.py",
        "runtime/files.py",
        "runtime/loggers/own_files.py",
        "runtime/loggers/mlflow_tracking.py",
        "runtime/loggers/logged_ids.py",
        "runtime/topology.py",
        "models/exporting/timm_files.py",
        "models/modelfile.py",
        "models/model_location.py",
        "runtime/cache_folder.py",
        "storage/copies.py",
        "contraction/timings_folder.py",
        "training/checkpoint_files.py",
        "training/loop.py",
    ),
    *("config/recipes_page.py", "stages/demo.py"),
}
# Recipes name code of their users, and the Python API imports its names lazily.
IMPORTS_COMPUTED_NAMES = {"runtime/foreign_code.py", "__init__.py"}

FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted(path.parent for path in FILES if path.name == "__init__.py" and path.parent != PACKAGE)
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
each_room = pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)


@cache
def source_of(path: Path) -> Source:
    return Source(path.read_text(), ".".join(path.relative_to(REPOSITORY).parent.parts))


def part_of(name: str) -> str | None:
    """The room or file at the top that a dotted name belongs to; None for names of other packages."""
    package, *rest = name.split(".")
    if package != NAME or rest == ["__version__"]:  # a text, which anybody may say
        return None
    return rest[0] if rest and rest[0] in ALLOWED else "__init__"


def parts_imported(source: Source) -> set[str]:
    return {part for part in map(part_of, source.imports) if part is not None}


def is_among(path: Path, places: set[str]) -> bool:
    """Whether a file or its room is listed."""
    place = path.relative_to(PACKAGE)
    return bool({str(place), place.parts[0]} & places)


def uses(source: Source, module: str) -> bool:
    return any(name == module or name.startswith(f"{module}.") for name in source.imports)


@each_file
def test_a_file_imports_only_what_stands_below_it(path: Path) -> None:
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert parts_imported(source_of(path)) <= {*ALLOWED[part], part}


@each_file
def test_a_file_imports_no_module_that_is_reserved_for_others(path: Path) -> None:
    source = source_of(path)
    found = {module for module, places in ONLY_IN.items() if uses(source, module) and not is_among(path, places)}
    assert not found
    assert not source.computed_imports or is_among(path, IMPORTS_COMPUTED_NAMES)


def test_the_tables_list_no_file_that_does_not_need_it() -> None:
    for module, places in ONLY_IN.items():
        assert places_without([path for path in FILES if uses(source_of(path), module)], places) == set(), module
    assert places_without([path for path in FILES if joins_paths(path)], JOINS_PATHS) == set()
    assert places_without([path for path in FILES if source_of(path).computed_imports], IMPORTS_COMPUTED_NAMES) == set()


def places_without(paths: list[Path], places: set[str]) -> set[str]:
    """Those files and rooms that contain none of the given files."""
    return {place for place in places if not any(is_among(path, {place}) for path in paths)}


@each_file
def test_only_listed_files_join_paths(path: Path) -> None:
    assert not joins_paths(path) or is_among(path, JOINS_PATHS)


def joins_paths(path: Path) -> bool:
    source = source_of(path)
    constants = {name.rpartition(".")[2]: text for name, text in all_constants().items() if name in source.imports}
    return bool(source.joined_paths(constants))


@cache
def all_constants() -> dict[str, str]:
    """All string constants of the package, by dotted name."""
    modules = {".".join(path.relative_to(REPOSITORY).with_suffix("").parts): source_of(path) for path in FILES}
    return {f"{module}.{name}": text for module, source in modules.items() for name, text in source.constants.items()}


@each_file
def test_a_file_keeps_to_its_one_job(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


def test_every_room_and_every_file_at_the_top_is_known_here() -> None:
    assert {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES} == set(ALLOWED)


@each_room
def test_a_room_says_what_lives_there_and_what_does_not(room: Path) -> None:
    tree = ast.parse((room / "__init__.py").read_text())
    said = ast.get_docstring(tree) or ""
    assert len(tree.body) == 1, "nothing but a docstring"
    assert re.search(r"^Here( also)?: ", said, re.MULTILINE)
    elsewhere = re.search(r"^Not here: (.*)", said, re.MULTILINE | re.DOTALL)
    assert elsewhere is not None
    for name in re.findall(r"``([\w.]+)``", elsewhere[1]):
        assert (PACKAGE / name.replace(".", "/")).is_dir() or (PACKAGE / f"{name.replace('.', '/')}.py").is_file(), name


def test_stages_hold_one_file_for_each_command_and_nothing_else() -> None:
    """A command is a file; a group is a file, or a folder with a file for each of its commands."""
    assert names_in(PACKAGE / "stages") == {name.replace("-", "_") for name in cli.commands}
    for name, command in cli.commands.items():
        folder = PACKAGE / "stages" / name
        if folder.is_dir():
            assert isinstance(command, click.Group)
            assert names_in(folder) == set(command.commands)


def names_in(folder: Path) -> set[str]:
    """Modules and packages in a folder, without their endings."""
    return {path.stem for path in folder.iterdir()} - {"__init__", "__pycache__"}


FORMS = {
    "import a.b": ("import tinyvit_kd.store.codec", "store"),
    "import a.b as c": ("import tinyvit_kd.store.codec as coding", "store"),
    "import of several": ("import os, tinyvit_kd.store", "store"),
    "from a.b import an attribute": ("from tinyvit_kd.store.codec import encode", "store"),
    "from a.b import *": ("from tinyvit_kd.store.codec import *", "store"),
    "from a import a module": ("from tinyvit_kd.store import codec", "store"),
    "from the package import a room": ("from tinyvit_kd import store", "store"),
    "from the package import a file": ("from tinyvit_kd import errors as wrong", "errors"),
    "from the package import what it defines": ("from tinyvit_kd import __all__", "__init__"),
    "the package, and through it a room": ("import tinyvit_kd\nread = tinyvit_kd.store.codec.read", "store"),
    "the package by another name": ("import tinyvit_kd as kd\nread = kd.store.codec.read", "store"),
    "a relative module": ("from .codec import encode", "store"),
    "a relative room": ("from ..views import render", "views"),
    "a relative sibling": ("from .. import errors", "errors"),
    "inside a function": ("def read():\n    from tinyvit_kd.store import codec", "store"),
    "inside a method, in a branch": (
        "class A:\n    def f(self):\n        if 1:\n            import tinyvit_kd.store",
        "store",
    ),
    "for types alone": ("if TYPE_CHECKING:\n    from tinyvit_kd.store import codec", "store"),
    "in a try": ("try:\n    import tinyvit_kd.store\nexcept ImportError:\n    pass", "store"),
    "import_module": ("importlib.import_module('tinyvit_kd.store.codec')", "store"),
    "import_module, imported": ("import_module('tinyvit_kd.store')", "store"),
    "import_module of a constant": ("NAME = 'tinyvit_kd.store'\ndef f():\n    import_module(NAME)", "store"),
    "import_module of a relative name": ("import_module('..views.render', 'tinyvit_kd.store')", "views"),
    "import_module of a relative name, by keyword": ("import_module('.codec', package='tinyvit_kd.store')", "store"),
    "__import__": ("__import__('tinyvit_kd.store')", "store"),
    "pkgutil": ("pkgutil.resolve_name('tinyvit_kd.store.codec:encode')", "store"),
}


@pytest.mark.parametrize(("text", "part"), FORMS.values(), ids=FORMS)
def test_every_form_of_import_is_found(text: str, part: str) -> None:
    assert part in parts_imported(Source(text, "tinyvit_kd.store"))


@pytest.mark.parametrize(
    "text",
    [
        "import os",
        "'import tinyvit_kd.store'",
        "# import tinyvit_kd.store",
        "from tinyvit_kd_store import codec",
        "a.b.c",
    ],
)
def test_other_code_is_not_mistaken_for_an_import(text: str) -> None:
    assert parts_imported(Source(text)) == set()


def test_an_import_by_a_computed_name_is_found_with_its_line() -> None:
    source = Source("import importlib\ndef f(name):\n    return importlib.import_module(f'tinyvit_kd.{name}')")
    assert source.computed_imports == [3]
    assert Source("importlib.import_module('tinyvit_kd.store')").computed_imports == []


@pytest.mark.parametrize(
    "text",
    [
        "folder / 'a.json'",
        "folder / f'{name}.pt'",
        "FILE = 'a'\nfolder / FILE",
        "folder / MODEL",
        "path.with_suffix('.pt')",
    ],
)
def test_a_joined_path_is_found(text: str) -> None:
    assert Source(text).joined_paths({"MODEL": "model.safetensors"})


@pytest.mark.parametrize("text", ["a / b", "a / 2", "a / SIZE", "path.name", "f'{a}/{b}'", "path.parent"])
def test_other_code_is_not_mistaken_for_a_joined_path(text: str) -> None:
    assert Source(text).joined_paths({"MODEL": "model.safetensors"}) == []
