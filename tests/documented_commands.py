"""Whether a command of a page could be typed: program, options, files, targets and recipes exist, and values fit."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from click.testing import CliRunner
from torch.distributed.run import get_args_parser

from tests.conftest import REPOSITORY
from tests.data import handed_out, source_trees
from tests.small_recipes import laptop_recipe
from tinyvit_kd.cli import cli
from tinyvit_kd.config.base import Section
from tinyvit_kd.config.load import load_recipe, read_yaml
from tinyvit_kd.config.recipes import STAGE_CONFIGS

Recipes = Mapping[str, Path]  # recipes that a page itself gives, by the path that its commands name
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*")  # RECIPE, STORE: what the reader puts in

IMAGES = ("IMAGES", "VAL_IMAGES", "DATASET/train", "DATASET/val")  # folders of the reader's


SOURCES = (
    *("LIST.csv", "SAVED", "HUB", "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12"),
    *("winter21_whole", "tiny-imagenet-200.zip"),
)  # which write_sources writes


def lay_out(folder: Path) -> None:
    """What a reader has before the first command: images of their own, and the shipped recipes."""
    for name in IMAGES:
        (folder / name).mkdir(parents=True)
    (folder / "configs").symlink_to(REPOSITORY / "configs")
    for name in SOURCES:
        (folder / name).touch()


def write_sources(folder: Path) -> None:
    """What the pages name besides folders of images, with a few images in each."""
    from tests.data import tables  # needs pyarrow, without which the pages cannot be followed

    paths = sorted(path.relative_to(folder) for path in (folder / IMAGES[0]).rglob("*.jpg"))[:4]
    rows = [f"{path},{path.parent.name}" for path in paths]
    (folder / "LIST.csv").write_text("\n".join(["path,label", *rows]))
    tables.save_to_disk(folder / "SAVED", range(7))
    tables.write_parquet(folder / "HUB" / "data" / "train-00000-of-00001.parquet", tables.hub_table(range(7)))
    source_trees.tar_of_tars(folder / "ILSVRC2012_img_train.tar", handed_out.ILSVRC.values())
    handed_out.validation_images(folder / "ILSVRC2012_img_val.tar")
    handed_out.development_kit(folder)
    source_trees.tar_of(folder / "winter21_whole" / "n00004475.tar", ["n00004475_1.JPEG"])
    source_trees.tar_of(folder / "winter21_whole" / "n00005787.tar", ["n00005787_1.JPEG"])
    handed_out.zipped(handed_out.tiny_imagenet(folder / "tiny-imagenet-200"))


class OwnCommand(NamedTuple):
    """A command of ``tinyvit-kd``, as click understands it."""

    name: str  # of the command inside its group, which for a stage is the stage's
    values: Mapping[str, Any]  # of its arguments and options

    @property
    def recipe(self) -> str | None:
        """The recipe that it reads."""
        return str(self.values["recipe"]) if "recipe" in self.values else None

    def load(self, recipes: Recipes) -> Section | None:
        """Its recipe with its ``--set`` options, checked as the command does; a shipped one stands in for RECIPE."""
        if self.recipe is None:
            return None
        path = recipes.get(self.recipe, REPOSITORY / self.recipe)
        if PLACEHOLDER.fullmatch(self.recipe):
            path = laptop_recipe(self.name if self.name in STAGE_CONFIGS else "pretrain")
        assert path.is_file(), f"there is no recipe {self.recipe}"
        stage = self.name if self.name in STAGE_CONFIGS else read_yaml(path)["stage"]
        return load_recipe(STAGE_CONFIGS[stage], path, self.values.get("overrides", ()))


def understood(words: Sequence[str]) -> OwnCommand | None:
    """What click makes of a command, which is not run; none where it only shows something, as ``--help`` does."""
    found: list[OwnCommand] = []
    with pytest.MonkeyPatch.context() as patch:
        for name, command in _leaves(cli):
            patch.setattr(command, "callback", partial(_note, found, name))
        done = CliRunner().invoke(cli, list(words))
    assert done.exit_code == 0, f"tinyvit-kd {' '.join(words)}: {done.output} {done.exception}"
    return found[0] if found else None


def _leaves(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _leaves(command)
        else:
            yield name, command


def _note(found: list[OwnCommand], name: str, /, **values: Any) -> None:
    found.append(OwnCommand(name, values))


def check(words: Sequence[str], recipes: Recipes) -> None:
    """Refuse a command that nobody could type, and any kind of command that is not known here."""
    program, *rest = _without_prefixes(words)
    assert program in KINDS, f"no test knows what to make of {' '.join(words)}"
    KINDS[program](rest, recipes)


def is_command(text: str) -> bool:
    """Whether a piece of text is a command, not only a program's name."""
    words = _without_prefixes(text.split())
    return len(words) > 1 and words[0] in KINDS


def _without_prefixes(words: Sequence[str]) -> list[str]:
    """Without variables of the environment, the core that a command is pinned to, and the file that it prints to."""
    left = list(words)
    while left and re.fullmatch(r"[A-Z_]+=\S*", left[0]):
        left.pop(0)
    left = left[: left.index(">")] if ">" in left else left  # what is printed goes to a file
    return left[3:] if left[:2] == ["taskset", "-c"] else left


def _own(words: list[str], recipes: Recipes) -> None:
    if words[:1] == ["torchrun"]:
        if words[1:]:  # else it is only spoken of
            _torchrun(words[1:], recipes)
        return
    command = understood(words)
    if command is not None:
        command.load(recipes)


def _torchrun(words: list[str], recipes: Recipes) -> None:
    given = _parsed(get_args_parser(), words)
    assert given.module
    assert given.training_script == "tinyvit_kd"
    _own(given.training_script_args, recipes)


def _sbatch(words: list[str], recipes: Recipes) -> None:
    first = next(place for place, word in enumerate(words) if not word.startswith("--"))
    script, *rest = words[first:]
    assert (REPOSITORY / script).is_file(), script
    (stage,) = re.findall(r"^run_stage ([a-z-]+)", (REPOSITORY / script).read_text(), re.MULTILINE)
    _own([stage, *(rest or ["RECIPE"])], recipes)


def _make(words: list[str], _: Recipes) -> None:
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    assert {word for word in words if "=" not in word} <= targets


def _python(words: list[str], recipes: Recipes) -> None:
    assert words[0] == "-m", f"python {words}"
    module, rest = words[1], words[2:]
    if module == "tinyvit_kd":
        _own(rest, recipes)
    elif module == "pytest":
        _pytest(rest)
    elif module == "tinyvit_kd.config.recipes_page":
        assert not rest  # it rewrites docs/RECIPES.md, which tests/config holds in step
    else:
        assert module.startswith("benchmarks."), module
        _benchmark(module, rest)


def _pytest(words: list[str]) -> None:
    """Options, files that exist, and behind -m a mark that pyproject.toml has."""
    given = argparse.ArgumentParser()
    given.add_argument("-m", dest="mark", choices=_marks())
    given.add_argument("files", nargs="*")
    known, _ = given.parse_known_args(words)
    assert all((REPOSITORY / file).exists() for file in known.files), words


def _marks() -> list[str]:
    options = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    return [line.partition(":")[0] for line in options["markers"]]


class _AcceptedError(Exception):
    """Arguments fit; what they ask for is not done."""


def _benchmark(module: str, words: list[str]) -> None:
    """Run a benchmark's main function up to where it has taken its arguments."""
    found = importlib.import_module(module)
    if hasattr(found, "__path__"):  # a package is run by its __main__
        found = importlib.import_module(f"{module}.__main__")
    parse, main = argparse.ArgumentParser.parse_args, found.main

    def parse_and_stop(parser: argparse.ArgumentParser, given: Any = None, into: Any = None) -> None:
        parse(parser, given, into)
        raise _AcceptedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        patch.setattr(sys, "argv", [module, *words])
        try:
            main()
        except _AcceptedError:
            return
        except SystemExit:
            raise AssertionError(f"{module} does not take {words}") from None
    raise AssertionError(f"{module} did not look at its arguments")


def _script(path: str) -> Callable[[list[str], Recipes], None]:
    def check_script(words: list[str], _: Recipes) -> None:
        text = (REPOSITORY / path).read_text()
        assert [word for word in words if word.startswith("-") and word not in text] == []

    return check_script


def _parsed(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    try:
        return parser.parse_args(words)
    except SystemExit:
        raise AssertionError(f"{parser.prog} does not take {words}") from None


KINDS: Mapping[str, Callable[[list[str], Recipes], None]] = {
    "tinyvit-kd": _own,
    "torchrun": _torchrun,
    "sbatch": _sbatch,
    "make": _make,
    "python": _python,
    ".venv/bin/python": _python,
    "pipelines/laptop.sh": _script("pipelines/laptop.sh"),
    "pipelines/one_node.sh": _script("pipelines/one_node.sh"),
    "pipelines/slurm/chain.sh": _script("pipelines/slurm/chain.sh"),
    "fuzz/run": _script("fuzz/run"),
}
