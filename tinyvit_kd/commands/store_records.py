"""``store stats`` and ``store suspects``: what the records say."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tinyvit_kd.commands.printing import json_option, print_result

Function = TypeVar("Function", bound=Callable[..., Any])


def label_options(function: Function) -> Function:
    """The options of the shards that labels come from, as ``shards`` commands have them."""
    for option in (
        click.option("--cache-dir", type=click.Path(path_type=Path), help="Folder for shards fetched from URLs."),
        click.option("--index-dir", type=click.Path(path_type=Path), help="Folder of the byte indexes."),
        click.option(
            "--first-label", default=0, type=click.IntRange(0), help="Number of the first class in the labels."
        ),
        click.option("--label-key", help="The field of .json that is the label."),
        click.option("--class-list", help="Class list of the labels; default: classes.txt beside the shards."),
        click.option("--split", help="A split named in _info.json; default: the only one."),
        click.option("--shards", help="The shards that the store was dumped from, for their labels."),
    ):
        function = option(function)
    return function


_processes = click.option(
    "--processes", default=os.cpu_count() or 1, type=click.IntRange(1), help="Processes that share the work."
)


@click.command("stats", short_help="Say how right, sure and alike the teacher's answers are.")
@click.argument("path")
@click.option("--sample", help="Read so many blocks, or such a fraction (0.05, 5%); default: all.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Which blocks are in the sample.")
@_processes
@label_options
@json_option
def stats_command(path: str, as_json: bool, **options: Any) -> None:
    """What the records of the store at PATH say of the teacher, and what they take on disk.

    Agreement with labels (in all, by view, by class), calibration, confidence, entropy, the probability that the K
    best classes keep, agreement of a sample's views with each other, classes that are never named, bytes by field,
    holes.

    Labels are those of --shards. Without it they are taken from the shards that the dump's results name, if these are
    still there, or from the sample of labels that the store keeps.
    """
    from tinyvit_kd.stages.store.stats import stats

    print_result(*stats(path, **options), as_json)


_fraction = click.FloatRange(0, 1)


@click.command("suspects", short_help="List samples whose label the teacher contradicts.")
@click.argument("path")
@click.option(
    "--contradicted", default=0.8, show_default=True, type=_fraction, help="Least fraction of a sample's views."
)
@click.option(
    "--label-probability", default=0.1, show_default=True, type=_fraction, help="Largest mean probability of the label."
)
@click.option(
    "--teacher-probability",
    default=0.3,
    show_default=True,
    type=_fraction,
    help="Least mean probability of the teacher's class.",
)
@click.option(
    "--min-views",
    default=2,
    show_default=True,
    type=click.IntRange(1),
    help="Least number of its views that count; of a store with fewer, all.",
)
@click.option("--limit", type=click.IntRange(1), help="Print only so many, the surest.")
@click.option("--output", type=click.Path(path_type=Path), help="A file in place of the terminal.")
@_processes
@label_options
@json_option
def suspects_command(path: str, output: Path | None, as_json: bool, **options: Any) -> None:
    """Samples of the store at PATH whose label the teacher contradicts in most views, and with confidence, as CSV.

    A sample is suspect if its label is not the best class in at least --contradicted of its views, the mean probability
    of its label is at most --label-probability, and that of the class which the teacher names instead is at least
    --teacher-probability. The surest come first: those with the largest difference of both.

    Labels and keys come from --shards or, without it, from the shards that the dump's results name.
    """
    from tinyvit_kd.stages.store import suspects

    if output is not None:
        suspects.require_place(output)
    found, summary = suspects.suspects(path, **options)
    text = suspects.as_json(found) if as_json else suspects.as_csv(found)
    if output is None:
        click.echo(text, nl=False)
    else:
        suspects.write(output, text)
    click.echo(summary, err=True)
