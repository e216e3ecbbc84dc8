"""The commands beside the stages: ``recipe``, ``shards`` and ``store``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tinyvit_kd.runtime.heartbeat import saying

Function = TypeVar("Function", bound=Callable[..., Any])
STAGES = ("dump-logits", "pretrain", "finetune", "evaluate")


@click.command("recipe")
@click.argument("stage", type=click.Choice(STAGES), metavar="STAGE")
@click.option("--schema", is_flag=True, help="Print the JSON schema of this stage's recipes, for editors.")
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
@click.pass_context
def shards_group(context: click.Context) -> None:
    """Pack images into shards; index, describe and check existing shards."""
    context.with_resource(saying(f"shards {context.invoked_subcommand}"))


@shards_group.command("build")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=click.Path(file_okay=False, path_type=Path))
@click.option("--split", help="Name of the split; default: train.")
@click.option("--split-from-folders", is_flag=True, help="Each folder, tar or zip in SOURCE is a split: train, val, …")
@click.option("--samples-per-shard", default=5000, show_default=True, type=click.IntRange(1), help="Samples per shard.")
@click.option("--seed", default=0, show_default=True, help="Seed of the random assignment of samples to shards.")
@click.option("--processes", default=os.cpu_count() or 1, type=click.IntRange(1), help="Shards written at a time.")
@click.option(
    "--folders-are-classes",
    is_flag=True,
    help="Each folder, tar or zip in SOURCE is a class with all that lies below it, whatever its name.",
)
@click.option(
    "--empty-classes",
    type=click.Choice(("stop", "keep", "leave-out")),
    default="stop",
    show_default=True,
    help="Folders without images: keep gives them a number.",
)
@click.option(
    "--outside-links",
    type=click.Choice(("stop", "follow", "leave-out")),
    default="stop",
    show_default=True,
    help="Links that lead out of SOURCE: follow packs what they lead to.",
)
@click.option("--list", "list_all", is_flag=True, help="Name all that is left out, not only the first ones.")
def shards_build(
    source: Path,
    output: Path,
    split: str | None,
    split_from_folders: bool,
    samples_per_shard: int,
    seed: int,
    processes: int,
    folders_are_classes: bool,
    empty_classes: str,
    outside_links: str,
    list_all: bool,
) -> None:
    """Pack the images in SOURCE into webdataset tars in OUTPUT.

    SOURCE is a folder with one folder, one tar or one zip per class; or a tar or zip of class folders, or a tar of one
    tar per class. Where its folders may be something else than classes, the command stops and says what to give. What
    becomes no sample is counted and named; the last line is JSON. After an interruption, run the same command again
    to make the missing shards. docs/DATA.md has the rules.
    """
    from tinyvit_kd.stages.shards import build

    if split is not None and split_from_folders:
        raise click.UsageError("--split and --split-from-folders exclude each other.")
    rules = {
        "folders_are_classes": folders_are_classes,
        "empty_classes": empty_classes,
        "outside_links": outside_links,
    }
    chosen = None if split_from_folders else split or "train"
    text, counts = build(source, output, chosen, samples_per_shard, seed, processes, rules, list_all)
    click.echo(text)
    click.echo(json.dumps(counts))


def _shard_set_options(function: Function) -> Function:
    for option in (
        click.option(
            "--first-label",
            default=0,
            show_default=True,
            type=click.IntRange(0),
            help="Number of the first class in the labels; 1 if they count from 1.",
        ),
        click.option(
            "--label-key",
            help="The field of .json that is the label, with dots for nested ones; default: .cls or the usual fields.",
        ),
        click.option("--class-list", help="Class list of the labels; default: classes.txt beside the shards."),
        click.option(
            "--index-dir",
            type=click.Path(path_type=Path),
            help="Folder of the byte indexes; default: beside the shards.",
        ),
        click.option(
            "--cache-dir",
            type=click.Path(path_type=Path),
            help="Folder for shards fetched from URLs; needed if PATH is one.",
        ),
        click.option("--split", help="A split named in _info.json; default: the only one."),
    ):
        function = option(function)
    return click.argument("path")(function)


@shards_group.command("index")
@_shard_set_options
def shards_index(path: str, **options: Any) -> None:
    """Index existing webdataset tars (images with .cls, .json, .label or .txt) at PATH.

    With indexes, samples can be read in any order.
    """
    from tinyvit_kd.stages.shards import index

    click.echo(index(path, **options))


@shards_group.command("info")
@_shard_set_options
def shards_info(path: str, **options: Any) -> None:
    """Describe the shard set at PATH: shards, samples, labels, classes, and what of the tars is in no sample."""
    from tinyvit_kd.stages.shards import info

    click.echo(info(path, **options))


@shards_group.command("check")
@_shard_set_options
@click.option("--processes", default=os.cpu_count() or 1, type=click.IntRange(1), help="Shards read at a time.")
def shards_check(path: str, processes: int, **options: Any) -> None:
    """Check that every sample at PATH can be decoded, and has a unique key and a label. Exit code 1 if not.

    Samples that are lost, because a tar holds no image for them or a link that leads nowhere, are faults, too. A set
    whose labels are sorted is pointed out, because batches would lack classes.
    """
    from tinyvit_kd.stages.shards import check

    text, sound = check(path, processes, **options)
    click.echo(text)
    sys.exit(0 if sound else 1)


@click.group("store")
@click.pass_context
def store_group(context: click.Context) -> None:
    """Describe, check and repair a store of probabilities."""
    context.with_resource(saying(f"store {context.invoked_subcommand}"))


@store_group.command("info")
@click.argument("path")
@click.option("--holes", is_flag=True, help="List every hole instead: shard, index, reason.")
def store_info(path: str, holes: bool) -> None:
    """Describe the store at PATH: blocks, bytes per record, teacher's certainty, holes."""
    from tinyvit_kd.stages.store import info, list_holes

    click.echo(list_holes(path) if holes else info(path))


@store_group.command("check")
@click.argument("path")
@click.option("--processes", default=os.cpu_count() or 1, type=click.IntRange(1), help="Shards read at a time.")
@click.option("--repair", is_flag=True, help="Remove damaged blocks, so that dump-logits makes them again.")
@click.option("--require-complete", is_flag=True, help="Exit code 1 if blocks are missing, too.")
def store_check(path: str, processes: int, repair: bool, require_complete: bool) -> None:
    """Check that every block at PATH is undamaged and belongs to the store. Exit code 1 if not.

    Files that are not part of the store are faults, too. Missing blocks are not, unless --require-complete says so:
    dump-logits makes them. The last line says whether the store is sound, and whether it is complete. --repair removes
    damaged blocks, and files that a killed dump left behind more than a minute ago. It removes nothing else.
    """
    from tinyvit_kd.stages.store import check, describe_check, require_writable
    from tinyvit_kd.stages.store import repair as repair_store

    if repair:
        require_writable(path)
    report = check(path, processes)
    click.echo(describe_check(report, with_verdict=not repair))
    sound = report.sound
    if repair:
        text, sound = repair_store(path, report)
        click.echo(text)
    sys.exit(0 if sound and (report.complete or not require_complete) else 1)
