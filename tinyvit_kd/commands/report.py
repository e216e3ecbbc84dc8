"""The command ``report``."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

OUTPUT = Path("report.html")


@click.command("report", short_help="Show runs and stores in one HTML file that loads nothing.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=OUTPUT,
    show_default=True,
    help="The file to write; one that is there is replaced.",
)
@click.option("--title", help="Title of the page; default: names of the runs and stores.")
@click.option(
    "--blocks", type=click.IntRange(0), default=32, show_default=True, help="Blocks of each store to take figures from."
)
@click.option(
    "--samples",
    type=click.IntRange(0, 48),
    default=4,
    show_default=True,
    help="Samples of each store to show with their views.",
)
@click.option("--shards", help="Shards that the stores were dumped from; default: those that recipes name.")
@click.option("--split", help="Split of --shards.")
@click.option("--class-list", help="Class list of the labels of --shards; default: classes.txt beside them.")
@click.option("--processes", default=os.cpu_count() or 1, type=click.IntRange(1), help="Processes that read blocks.")
def report_command(
    paths: tuple[str, ...],
    output: Path,
    shards: str | None,
    split: str | None,
    class_list: str | None,
    **options: Any,
) -> None:
    """Write one HTML file about the runs and stores at each PATH: results, curves, what differs, where they come from.

    A PATH is the folder of a run, finished or not, or of a store, or one that holds several of them. Stores that a run
    learned from are shown, too, where they are there. The file loads nothing: it opens offline and on a phone, and
    prints.
    """
    from tinyvit_kd.stages.report import report

    named = {"path": shards, "split": split, "class_list": class_list} if shards else None
    command = shlex.join(["tinyvit-kd", *sys.argv[1:]])
    click.echo(report(paths, output, shards=named, command=command, **options))
