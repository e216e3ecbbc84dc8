"""The group ``store``."""

from __future__ import annotations

import os
import sys

import click

from tinyvit_kd.commands.printing import json_option, print_json, print_result, print_text
from tinyvit_kd.commands.store_copy import copy_command
from tinyvit_kd.commands.store_records import stats_command, suspects_command
from tinyvit_kd.commands.store_samples import show_command, verify_command
from tinyvit_kd.runtime.heartbeat import saying


@click.group("store")
@click.pass_context
def store_group(context: click.Context) -> None:
    """Describe, check, repair and copy a store of probabilities."""
    context.with_resource(saying(f"store {context.invoked_subcommand}"))


@store_group.command("info")
@click.argument("path")
@click.option("--holes", is_flag=True, help="List every hole instead: shard, index, reason.")
@json_option
def store_info(path: str, holes: bool, as_json: bool) -> None:
    """Describe the store at PATH: blocks, bytes per record, teacher's certainty, holes."""
    from tinyvit_kd.stages.store.info import info, list_holes

    text, figures = list_holes(path) if holes else info(path)
    print_result(text, figures, as_json)


@store_group.command("check")
@click.argument("path")
@click.option("--processes", default=os.cpu_count() or 1, type=click.IntRange(1), help="Shards read at a time.")
@click.option("--repair", is_flag=True, help="Remove damaged blocks, so that dump-logits makes them again.")
@click.option("--require-complete", is_flag=True, help="Exit code 1 if blocks are missing, too.")
@json_option
def store_check(path: str, processes: int, repair: bool, require_complete: bool, as_json: bool) -> None:
    """Check that every block at PATH is undamaged and belongs to the store. Exit code 1 if not.

    Files that are not part of the store are faults, too. Missing blocks are not, unless --require-complete says so:
    dump-logits makes them. The last line says whether the store is sound, and whether it is complete. --repair removes
    damaged blocks, and files that a killed dump left behind more than a minute ago. It removes nothing else.
    """
    from tinyvit_kd.stages.store.check import check, check_figures, describe_check, require_writable
    from tinyvit_kd.stages.store.check import repair as repair_store

    if repair:
        require_writable(path)
    report = check(path, processes)
    print_text(describe_check(report, with_verdict=not repair), as_json)
    figures, sound = check_figures(report), report.sound
    if repair:
        text, sound = repair_store(path, report)
        print_text(text, as_json)
        figures |= {"sound": sound, "missing": report.missing}
    print_json(figures, as_json)
    sys.exit(0 if sound and (report.complete or not require_complete) else 1)


store_group.add_command(copy_command)
store_group.add_command(stats_command)
store_group.add_command(suspects_command)
store_group.add_command(show_command)
store_group.add_command(verify_command)
