"""The commands around the stages: ``recipe``, and ``shards`` and ``store``, which build, describe and check."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])
STAGES = ("dump-logits", "pretrain", "finetune", "evaluate")


@click.command("recipe")
@click.argument("stage", type=click.Choice(STAGES), metavar="STAGE")
@click.option("--schema", is_flag=True, help="Print the JSON schema of such recipes, for editors.")
def recipe_command(stage: str, schema: bool) -> None:
    """Print a recipe for STAGE with all its fields explained.

    STAGE is dump-logits, pretrain, finetune or evaluate. Every field comes with its default, type, unit and meaning.
    Fill in the placeholders and delete what you do not change. docs/RECIPES.md has the same as tables.

    \b
        tinyvit-kd recipe pretrain > my.yaml

    Editors such as VS Code (YAML extension) complete and check recipes by their JSON schema:

    \b
        tinyvit-kd recipe pretrain --schema > pretrain.schema.json

    Then begin the recipe with the line:

    \b
        # yaml-language-server: $schema=pretrain.schema.json
    """
    from tinyvit_kd.stages.recipe import recipe

    click.echo(recipe(stage, schema))


@click.group("shards")
def shards_group() -> None:
    """Pack images into shards, index shards that exist, look into them and check them."""


@shards_group.command("build")
@click.argument("source", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("output", type=click.Path(file_okay=False, path_type=Path))
@click.option("--split", default="train", show_default=True, help="Name of the split.")
@click.option("--samples-per-shard", default=5000, show_default=True, type=click.IntRange(1), help="Samples a shard.")
@click.option("--seed", default=0, show_default=True, help="Samples are spread over the shards by this seed.")
@click.option("--processes", default=os.cpu_count() or 1, type=click.IntRange(1), help="Shards written at a time.")
def shards_build(source: Path, output: Path, split: str, samples_per_shard: int, seed: int, processes: int) -> None:
    """Pack SOURCE into webdataset tars in OUTPUT.

    SOURCE is a folder of one folder, one tar or one zip a class. Run again after an interruption, it goes on.
    """
    from tinyvit_kd.stages.shards import build

    click.echo(build(source, output, split, samples_per_shard, seed, processes))


def _shard_set_options(function: Function) -> Function:
    function = click.option(
        "--index-dir", type=click.Path(path_type=Path), help="Where the byte indexes are; default: beside the shards."
    )(function)
    function = click.option("--split", help="Split named in _info.json.")(function)
    return click.argument("path")(function)


@shards_group.command("index")
@_shard_set_options
def shards_index(path: str, split: str | None, index_dir: Path | None) -> None:
    """Prepare existing webdataset tars (.jpg + .cls or .json) at PATH for random access."""
    from tinyvit_kd.stages.shards import index

    click.echo(index(path, split, index_dir))


@shards_group.command("info")
@_shard_set_options
def shards_info(path: str, split: str | None, index_dir: Path | None) -> None:
    """Print what a shard set holds."""
    from tinyvit_kd.stages.shards import info

    click.echo(info(path, split, index_dir))


@shards_group.command("check")
@_shard_set_options
@click.option("--processes", default=os.cpu_count() or 1, type=click.IntRange(1), help="Shards read at a time.")
def shards_check(path: str, split: str | None, index_dir: Path | None, processes: int) -> None:
    """Read every sample at PATH: does it decode, is its key unique, has it a label? Exit code 1 if not."""
    from tinyvit_kd.stages.shards import check

    text, sound = check(path, split, index_dir, processes)
    click.echo(text)
    sys.exit(0 if sound else 1)


@click.group("store")
def store_group() -> None:
    """Look into a store of probabilities, check and repair it."""


@store_group.command("info")
@click.argument("path")
@click.option("--holes", is_flag=True, help="List every hole: shard, index, reason.")
def store_info(path: str, holes: bool) -> None:
    """Print what a store holds: blocks, bytes a record, teacher's certainty, holes."""
    from tinyvit_kd.stages.store import info, list_holes

    click.echo(list_holes(path) if holes else info(path))


@store_group.command("check")
@click.argument("path")
@click.option("--processes", default=os.cpu_count() or 1, type=click.IntRange(1), help="Shards read at a time.")
@click.option("--repair", is_flag=True, help="Remove damaged blocks, so that dump-logits makes them again.")
def store_check(path: str, processes: int, repair: bool) -> None:
    """Read every block at PATH: is it whole, is it the store's own, and what lies beside them? Exit code 1 if not.

    Blocks that are missing are no fault: dump-logits makes them. --repair removes damaged blocks, and files that a
    killed dump left behind more than a minute ago; it leaves everything else.
    """
    from tinyvit_kd.stages.store import check, describe_check, require_writable
    from tinyvit_kd.stages.store import repair as repair_store

    if repair:
        require_writable(path)
    report = check(path, processes)
    click.echo(describe_check(report))
    sound = report.sound
    if repair:
        text, sound = repair_store(path, report)
        click.echo(text)
    sys.exit(0 if sound else 1)
