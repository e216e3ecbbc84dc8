"""``store show`` and ``store verify``: samples of a store, for the eye and against the teacher."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from tinyvit_kd.commands.printing import json_option, print_result
from tinyvit_kd.commands.store_records import label_options

_trust = click.option(
    "--trust-transform", is_flag=True, help="Import and call the transform that the store names, if it names one."
)


@click.command("show", short_help="Samples as one picture: image, views, the teacher's best classes.")
@click.argument("path")
@click.argument("samples", nargs=-1)
@click.option("--random", default=0, type=click.IntRange(0), metavar="N", help="Also N samples at random.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Which samples --random draws.")
@click.option("--suspects", is_flag=True, help="Also the samples whose label the teacher contradicts most surely.")
@click.option("--holes", is_flag=True, help="Also samples whose image could not be decoded.")
@click.option("--limit", default=8, show_default=True, type=click.IntRange(1), help="How many suspects, and holes.")
@click.option("--views", metavar="NUMBERS", help="Views to show, such as 0-3 or 0,2; default: the first 4.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="A .png or .jpg file; default: PATH.show.png, beside the store."
)
@click.option("--font", type=click.Path(path_type=Path), help="A font file, for names that are not in Latin letters.")
@click.option(
    "--processes", default=os.cpu_count() or 1, type=click.IntRange(1), help="Processes that look for suspects."
)
@_trust
@label_options
@json_option
def show_command(
    path: str,
    samples: tuple[str, ...],
    random: int,
    seed: int,
    suspects: bool,
    holes: bool,
    limit: int,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Draw samples of the store at PATH as one picture.

    A sample is named SHARD:INDEX (0:12, train-000000.tar:12) or by its key; without any, 8 are drawn at random. A row
    has the image with its label, then its views, rendered again as the teacher saw them, each above the teacher's five
    best classes. Digests are compared: a view that differs has a red frame, and the exit code is 1.

    The images come from --shards or, without it, from the shards that the dump's results name.
    """
    from tinyvit_kd.stages.store.show import Choice, show

    if not (samples or random or suspects or holes):
        random = 8
    choice = Choice(samples, random, seed, suspects, holes, limit)
    text, result, faultless = show(path, choice, output, **options)
    print_result(text, result, as_json)
    sys.exit(0 if faultless else 1)


@click.command("verify", short_help="Ask the teacher again about a sample of records, and compare.")
@click.argument("path")
@click.option(
    "--teacher",
    "recipe",
    required=True,
    type=click.Path(path_type=Path),
    metavar="RECIPE",
    help="The recipe that the store was dumped with, or a file with its section teacher.",
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a field of the recipe.")
@click.option("--samples", default=256, show_default=True, type=click.IntRange(1, 100_000), help="How many records.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Which records.")
@click.option("--shards", "path_of_shards", help="Path of the shards, in place of the recipe's.")
@click.option("--split", help="A split named in _info.json, in place of the recipe's.")
@click.option("--index-dir", type=click.Path(), help="Folder of the byte indexes, in place of the recipe's.")
@click.option("--cache-dir", type=click.Path(), help="Folder for copies of shards, in place of the recipe's.")
@click.option("--cache-gib", type=click.FloatRange(0, min_open=True), help="GiB that the copies may take.")
@click.option("--cache-local", is_flag=True, default=None, help="Copy shards at paths, too.")
@_trust
@json_option
def verify_command(
    path: str,
    recipe: Path,
    overrides: tuple[str, ...],
    samples: int,
    seed: int,
    path_of_shards: str | None,
    trust_transform: bool,
    as_json: bool,
    **shards: Any,
) -> None:
    """Check a random sample of the records of the store at PATH against their teacher. Exit code 1 if they differ.

    Views are rendered again, and their digests compared; then the teacher is asked about them on this machine, in the
    recipe's precision (--set runtime.device=cpu, --set runtime.precision=float32). Probabilities may differ by what the
    store's encoding and rounding in these precisions explain (docs/STORES.md). Where another class is best because two
    are that close, the record counts as a near tie, not as a fault.
    """
    from tinyvit_kd.stages.store.verify import read_recipe, verify

    given = {name: value for name, value in {"path": path_of_shards, **shards}.items() if value is not None}
    config = read_recipe(recipe, overrides, path, given)
    from tinyvit_kd.runtime.distributed import start_job

    runtime = config.runtime
    with start_job(runtime.device, runtime.threads, True, runtime) as job:
        text, result, passed = verify(path, config, job, samples, seed, trust_transform)
    print_result(text, result, as_json)
    sys.exit(0 if passed else 1)
