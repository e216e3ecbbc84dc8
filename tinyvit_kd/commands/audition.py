"""The command ``audition``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tinyvit_kd.commands.paths import NamedPath
from tinyvit_kd.commands.printing import json_option, print_result

_FILE = NamedPath(path_type=Path)


@click.command("audition", short_help="Try teachers on a few samples: how good, how sure, how long, how large.")
@click.argument("recipe", type=_FILE)
@click.option(
    "--teachers",
    multiple=True,
    type=_FILE,
    metavar="FILE...",
    help="Teachers: recipes of dump-logits, or files with the fields of a teacher section. Default: RECIPE's own.",
)
@click.argument("more", nargs=-1, type=_FILE, metavar="")
@click.option("--samples", default=1000, show_default=True, type=click.IntRange(1), help="Samples to ask about.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Varies which samples these are.")
@click.option(
    "--student",
    type=_FILE,
    metavar="FILE",
    help="Also train a student from each teacher on 80 % of the samples, as this recipe of pretrain says, and score it "
    "on the others.",
)
@click.option("--steps", type=click.IntRange(1), help="Steps of each student, in whole epochs; default: 200.")
@click.option(
    "--output", type=NamedPath(path_type=Path, file_okay=False), help="Folder to keep the students' stores and runs in."
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a field of RECIPE, e.g. store.topk=20."
)
@json_option
def audition_command(
    recipe: Path,
    teachers: tuple[Path, ...],
    more: tuple[Path, ...],
    samples: int,
    seed: int,
    student: Path | None,
    steps: int | None,
    output: Path | None,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Try several teachers on the same views of a few samples, before one of them makes a store.

    RECIPE is one of dump-logits: its shards, views, K, V and settings of the machine hold for all teachers. Prints how
    often each is right and how sure it is, what each K would keep, where teachers agree, and the hours and bytes of the
    whole dump. A teacher that fails is named and left out; the exit code is then 1.

    \b
        tinyvit-kd audition RECIPE --teachers A.yaml B.yaml --samples 2000
    """
    if more and not teachers:
        raise click.UsageError(f"{more[0]}: teachers stand behind --teachers")
    for name, given in (("--steps", steps), ("--output", output)):
        if given is not None and student is None:
            raise click.UsageError(f"{name} is for a student: give --student, too")
    from tinyvit_kd.config.load import load_recipe
    from tinyvit_kd.config.recipes import DumpConfig, PretrainConfig

    config = load_recipe(DumpConfig, recipe, overrides)
    trained = None if student is None else load_recipe(PretrainConfig, student)
    from tinyvit_kd.runtime.distributed import start_job
    from tinyvit_kd.stages.audition import STEPS, Student, audition

    brief = None if trained is None else Student(trained, steps or STEPS, output)
    with start_job(config.runtime.device, config.runtime.threads, independent=True, runtime=config.runtime) as job:
        text, values, complete = audition(recipe, config, (*teachers, *more), samples, seed, brief, job)
    print_result(text, values, as_json)
    sys.exit(0 if complete else 1)
