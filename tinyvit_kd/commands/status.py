"""``status``: how far runs, dumps and searches are."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import click

from tinyvit_kd.commands.printing import json_option, print_result
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.signals import Preempted

REFRESH = 5.0  # seconds
_CLEAR = "\033[H\033[2J\033[3J"


class _Watching(click.Command):
    """Lets ``--watch`` stand in front of a path: what follows it and is no number is not its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        followed = [*args[1:], ""]
        given = [
            f"{each}={REFRESH:g}" if each == "--watch" and not _is_number(after) else each
            for each, after in zip(args, followed, strict=True)
        ]
        return super().parse_args(ctx, given)


@click.command("status", cls=_Watching, short_help="How far runs, dumps and searches are, from outside, at any time.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--details", is_flag=True, help="Show each of several in some lines, not in one.")
@click.option(
    "--watch",
    type=click.FloatRange(min=0.1),
    metavar="[SECONDS]",
    help=f"Look again and again, every {REFRESH:g} seconds if no number is given; Ctrl-C ends it.",
)
@click.option(
    "--stale",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Exit code 1 if one has not finished, and has shown no sign of life for longer than this.",
)
@click.option(
    "--part",
    metavar="I/N|auto|auto/N",
    help="PATH is a store: look at this part of its dump alone, by its own files, as --part of dump-logits.",
)
@json_option
def status_command(
    paths: tuple[str, ...], details: bool, watch: float | None, stale: float | None, part: str | None, as_json: bool
) -> None:
    """Tell how far the runs and dumps at PATH are: done, rate, time left, last loss and evaluation, sign of life.

    PATH is a run folder, a store, the folder of a search (contract), or one that holds some. Of a search it tells
    rounds, the best candidates, and which process has which in hand. Nothing is written, and no block is read; a
    machine that sees the disk is enough. Exit code 0, whatever is found; with --stale, 1 if a job that has not finished
    is silent.
    """
    from tinyvit_kd.runtime.job_array import part_of
    from tinyvit_kd.stages.status import describe, is_stale, status

    chosen = None if part is None else part_of(part, os.environ)

    def look() -> bool:
        now = time.time()
        found = status(paths, now, chosen)
        values = {"time": now, "jobs": [each.as_dict() for each in found]}
        text = describe(found, details)
        if watch is not None and not as_json and sys.stdout.isatty():
            text = f"{_CLEAR}{time.strftime('%H:%M:%S')}\n{text}"
        print_result(text, values, as_json)
        sys.stdout.flush()
        return stale is not None and any(is_stale(each, stale) for each in found)

    is_late = look()
    if watch is not None:
        is_late = _keep_looking(look, watch, is_late)
    sys.exit(1 if is_late else 0)


def _keep_looking(look: Any, seconds: float, is_late: bool) -> bool:
    """Look until Ctrl-C or another signal; what is gone meanwhile may come back."""
    try:
        with saying("status", speaks=False):
            while True:
                time.sleep(seconds)
                try:
                    is_late = look()
                except ConfigError as error:
                    click.echo(str(error), err=True)
    except (Preempted, KeyboardInterrupt):
        return is_late


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
