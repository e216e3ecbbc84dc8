"""``store copy``: parts of a store elsewhere, and parts together."""

from __future__ import annotations

import sys
from typing import Any

import click

from tinyvit_kd.commands.printing import json_option, print_result


@click.command("copy", short_help="Take parts of a store elsewhere, or merge parts; checked.")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.argument("target")
@click.option("--views", metavar="NUMBERS", help="Views to copy, such as 0-9 or 0,2; default: all.")
@click.option(
    "--shards", metavar="SPEC", help="Shards to copy, by number (0-99) or name (train-0000*.tar); default: all."
)
@click.option("--replace", is_flag=True, help="Replace blocks of TARGET that are damaged, or are not the source's.")
@click.option("--verify", is_flag=True, help="Read all blocks back from TARGET, and compare every byte.")
@click.option("--threads", default=8, show_default=True, type=click.IntRange(1, 64), help="Blocks copied at a time.")
@json_option
def copy_command(sources: tuple[str, ...], target: str, as_json: bool, **options: Any) -> None:
    """Copy blocks of the store at SOURCE into the one at TARGET, which is made if it does not exist.

    Several SOURCEs are parts of one store, which were dumped apart: TARGET gets the blocks of all. Each may be a folder
    or a URL. Files are copied as they are, once their checksum and header are right; damaged ones are named and left
    out. What TARGET has already is not copied again, so that a copy that was stopped goes on when it is run again.

    With --views, a new TARGET has as many views as the largest number asks for. With --shards it still lists all
    shards, and lacks the blocks of the others.

    Exit code 1 if a block is damaged, cannot be read, or is another one in TARGET. Blocks that no SOURCE has are no
    fault.
    """
    from tinyvit_kd.stages.store.copy import copy, describe

    report = copy(sources, target, **options)
    print_result(describe(report), report.as_dict(), as_json)
    sys.exit(1 if report.faults else 0)
