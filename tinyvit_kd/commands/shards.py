"""The group ``shards``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tinyvit_kd.commands.printing import json_option, print_result
from tinyvit_kd.commands.shards_build import shards_build
from tinyvit_kd.runtime.heartbeat import saying

Function = TypeVar("Function", bound=Callable[..., Any])


@click.group("shards", short_help="Pack images into shards; index, describe and check them.")
@click.pass_context
def shards_group(context: click.Context) -> None:
    """Pack images into shards; index, describe and check existing shards."""
    context.with_resource(saying(f"shards {context.invoked_subcommand}"))


shards_group.add_command(shards_build)


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
            help="Folder for copies and indexes of shards from URLs; needed for URLs that are fetched whole.",
        ),
        click.option("--split", help="A split named in _info.json; default: the only one."),
    ):
        function = option(function)
    return click.argument("path")(function)


@shards_group.command("index")
@_shard_set_options
@json_option
def shards_index(path: str, as_json: bool, **options: Any) -> None:
    """Index existing webdataset tars (images with .cls, .json, .label or .txt) at PATH.

    With indexes, samples can be read in any order.
    """
    from tinyvit_kd.stages.shards.index import index

    print_result(*index(path, **options), as_json)


@shards_group.command("info")
@_shard_set_options
@json_option
def shards_info(path: str, as_json: bool, **options: Any) -> None:
    """Describe the shard set at PATH: shards, samples, labels, classes, and what of the tars is in no sample."""
    from tinyvit_kd.stages.shards.info import info

    print_result(*info(path, **options), as_json)


@shards_group.command("check")
@_shard_set_options
@click.option("--processes", default=os.cpu_count() or 1, type=click.IntRange(1), help="Shards read at a time.")
@json_option
def shards_check(path: str, processes: int, as_json: bool, **options: Any) -> None:
    """Check that every sample at PATH can be decoded, and has a unique key and a label. Exit code 1 if not.

    Samples that are lost, because a tar holds no image for them or a link that leads nowhere, are faults, too. A set
    whose labels are sorted is pointed out, because batches would lack classes.
    """
    from tinyvit_kd.stages.shards.check import check, check_figures, describe_check

    report = check(path, processes, **options)
    print_result(describe_check(report), check_figures(report), as_json)
    sys.exit(0 if report.sound else 1)
