"""The command ``torchrun``."""

from __future__ import annotations

import sys

import click


@click.command(
    "torchrun",
    short_help="torchrun that ends with its processes' exit code, for schedulers.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, required=True, type=click.UNPROCESSED)
def torchrun_command(arguments: tuple[str, ...]) -> None:
    """Start a stage on several processes by torchrun, and end with what they ended with.

    ARGUMENTS are torchrun's own: tinyvit-kd torchrun --standalone --nproc_per_node 8 -m tinyvit_kd pretrain RECIPE.
    torchrun itself ends with 1 whatever happened. This ends with 0, 2 for a mistake, 1 for a bug, and 75 where the same
    command can be run again: after a signal (SIGUSR1, too), a killed process, or where machines do not meet.
    """
    from tinyvit_kd.stages.torchrun import torchrun

    sys.exit(torchrun(arguments))
