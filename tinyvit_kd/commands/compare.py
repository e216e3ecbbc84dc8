"""``compare``: runs beside each other."""

from __future__ import annotations

import time

import click

from tinyvit_kd.commands.printing import json_option, print_result


@click.command("compare", short_help="What differs between runs' recipes, beside their results.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@json_option
def compare_command(runs: tuple[str, ...], as_json: bool) -> None:
    """Compare runs: one table of the settings, figures, data, versions and machines that are not the same in all.

    RUN is a run folder, a store for the dump that made it, or a folder that holds runs. A star marks the best value of
    the finished runs, where values can be compared. Runs that have not finished are shown with their last figures.
    """
    from tinyvit_kd.stages.compare import compare, describe

    compared = compare(runs, time.time())
    print_result(describe(compared), compared.as_dict(), as_json)
