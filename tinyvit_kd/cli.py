"""The command line: a map of the stages, and the only place that exits."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from tinyvit_kd import __version__
from tinyvit_kd.commands.audition import audition_command
from tinyvit_kd.commands.compare import compare_command
from tinyvit_kd.commands.export import export_command
from tinyvit_kd.commands.head import head_group
from tinyvit_kd.commands.plan import plan_command
from tinyvit_kd.commands.predict import predict_command
from tinyvit_kd.commands.recipe import recipe_command
from tinyvit_kd.commands.report import report_command
from tinyvit_kd.commands.sections import SectionedGroup
from tinyvit_kd.commands.shards import shards_group
from tinyvit_kd.commands.stages import (
    contract_command,
    demo_command,
    dump_logits_command,
    evaluate_command,
    finetune_command,
    pretrain_command,
)
from tinyvit_kd.commands.status import status_command
from tinyvit_kd.commands.store import store_group
from tinyvit_kd.commands.torchrun import torchrun_command
from tinyvit_kd.errors import StalledError, TinyVitKdError
from tinyvit_kd.runtime.foreign_errors import determinism_refused, error_chain, shortage_behind
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.lines import own_rank, quiet_lines
from tinyvit_kd.runtime.refusals import from_os_error
from tinyvit_kd.runtime.signals import (
    REQUEUE_EXIT_CODE,
    Preempted,
    ignore_signals,
    leave_on_signals,
    leave_with_torchrun,
)
from tinyvit_kd.runtime.streams import prepare_streams
from tinyvit_kd.runtime.wording import printable

USER_ERROR = 2
SECTIONS: dict[str, list[click.Command]] = {
    "Before a run": [shards_group, head_group, recipe_command, plan_command, audition_command],
    "The three stages": [dump_logits_command, pretrain_command, finetune_command, torchrun_command],
    "Make a student to measure": [contract_command],
    "Watch and compare runs": [status_command, compare_command, report_command],
    "Look into a store": [store_group],
    "Score and use a model": [evaluate_command, predict_command, export_command],
    "Try it": [demo_command],
}


@click.group(
    cls=SectionedGroup,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="Show tracebacks instead of errors of one paragraph.")
@click.option("-q", "--quiet", is_flag=True, help="Show results and errors alone; log.txt of a run has all lines.")
@click.pass_context
def cli(context: click.Context, debug: bool, quiet: bool) -> None:
    """Knowledge distillation for vision with the teacher taken out of the training loop.

    Each stage reads one YAML recipe (see configs/, or print one with the command recipe), and --set section.key=value
    overrides a field. Under torchrun a stage uses all processes: torchrun --nproc_per_node 8 -m tinyvit_kd pretrain
    RECIPE. Exit code 75 means that the same command can be run again to continue: a signal (SIGTERM, SIGUSR1, SIGHUP,
    Ctrl-C) stopped it, a storage hung, a process died, or another run holds its folder. Exit code 2 means that
    something has to be corrected first.
    """
    context.obj = {"debug": debug}
    if quiet:
        context.with_resource(quiet_lines())
    context.with_resource(saying(context.invoked_subcommand or ""))  # and whatever is done in it says more


def main() -> None:
    """Entry point. Errors become one paragraph on stderr and an exit code."""
    prepare_streams()
    _spare_threads()
    _stand_somewhere()
    debug = "--debug" in sys.argv
    with leave_on_signals():
        try:
            with _paragraphs(debug):
                leave_with_torchrun()
                cli(standalone_mode=True)
        except SystemExit:
            ignore_signals()  # a signal while Python exits would change the exit code
            raise


def _spare_threads() -> None:
    """Keep numpy's OpenBLAS, which nothing here calls, from starting a thread per core in each process.

    Where a container limits threads, OpenBLAS would interrupt the command as Ctrl-C does. On other processors torch has
    the same library for its own work.
    """
    if platform.machine().lower() in ("x86_64", "amd64"):
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _stand_somewhere() -> None:
    """Leave at once where the working directory was removed: libraries would end the process without a word of ours."""
    try:
        os.getcwd()
    except OSError as error:
        _leave(
            f"the working directory is gone. Found: {error.strerror}. To do: change to one that exists, and run again.",
            USER_ERROR,
        )


@contextmanager
def _paragraphs(debug: bool) -> Iterator[None]:
    try:
        with _whatever_it_interrupted():
            yield
    except Preempted as stop:
        _leave(stop.message, REQUEUE_EXIT_CODE)
    except StalledError as error:
        _say(str(error))
        os._exit(REQUEUE_EXIT_CODE)  # an ordinary exit would wait for the process that hangs
    except TinyVitKdError as error:
        if debug:
            raise
        _leave(str(error), REQUEUE_EXIT_CODE if error.may_pass else USER_ERROR)
    except (OSError, RuntimeError, MemoryError, ValueError) as error:
        refused = from_os_error(error) if isinstance(error, OSError) else shortage_behind(error)
        refused = refused or determinism_refused(error)
        if debug or refused is None:
            raise
        _leave(str(refused), USER_ERROR)


@contextmanager
def _whatever_it_interrupted() -> Iterator[None]:
    """Raise ``Preempted`` if it is the cause of another error; torch, for one, wraps what interrupts its writing."""
    try:
        yield
    except Exception as error:
        stop = next((each for each in error_chain(error) if isinstance(each, Preempted)), None)
        if stop is None:
            raise
        raise stop from None


def _say(message: str) -> None:
    prefix = f"[rank {rank}] " if (rank := own_rank()) else ""
    click.echo(f"{prefix}{printable(message, lines=True)}", err=True)
    sys.stderr.flush()


def _leave(message: str, code: int) -> None:
    _say(message)
    sys.exit(code)
