"""The command ``plan``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tinyvit_kd.commands.paths import NamedPath
from tinyvit_kd.commands.printing import json_option, print_result


@click.command("plan", short_help="What recipes will take: hours, bytes, memory; what is wrong with them.")
@click.argument("recipes", nargs=-1, required=True, type=NamedPath(path_type=Path), metavar="RECIPE...")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="[STAGE:]KEY=VALUE",
    help="Override a field, in each recipe with that section or in those of one stage.",
)
@click.option(
    "--samples",
    multiple=True,
    metavar="[STAGE:]N",
    help="Samples of shards that are not there yet. Without STAGE: of the first recipe's. evaluate:N for scoring.",
)
@click.option("--bytes-per-image", multiple=True, metavar="[STAGE:]B", help="Mean size of an image file there.")
@click.option(
    "--samples-per-shard", default=5000, show_default=True, type=click.IntRange(1), help="Samples per shard there."
)
@click.option(
    "--rate",
    "given_rates",
    multiple=True,
    metavar="[STAGE:]PART=N",
    help="How fast a part is: views (per second and core), teacher and student (views per second and GPU), write "
    "(records per second and process), read (MB per second in all).",
)
@click.option(
    "--measure", "measured", is_flag=True, help="Measure these rates on this machine, a few seconds for each."
)
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1), help="Processes of each run.")
@click.option("--gpus", type=click.IntRange(1), help="The same, where each process has a GPU.")
@click.option("--cores", type=click.IntRange(1), help="Cores for loading processes; default: one for each.")
@click.option(
    "--elsewhere", is_flag=True, help="Plan for another machine: what is missing or full on this one is no mistake."
)
@json_option
def plan_command(recipes: tuple[Path, ...], as_json: bool, **options: object) -> None:
    """Say what the recipes of one or several stages will take together, before anything runs.

    Prints views, passes, multiply-adds, steps, bytes, files, memory and, with --rate or --measure, hours, what limits
    them and what would relieve that. Makes all checks that need no run, across recipes: exit code 2 if something is
    wrong. Writes nothing but temporary files of --measure.
    """
    from tinyvit_kd.stages.plan import plan

    text, values, sound = plan(recipes, **options)  # type: ignore[arg-type]
    print_result(text, values, as_json)
    sys.exit(0 if sound else 2)
