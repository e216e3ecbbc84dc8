"""The command line: a map of the stages, and the only place that exits."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from tinyvit_kd import __version__
from tinyvit_kd.commands import recipe_command, shards_group, store_group
from tinyvit_kd.config.base import Section
from tinyvit_kd.errors import ConfigError, StalledError, TinyVitKdError
from tinyvit_kd.runtime.foreign_errors import determinism_refused, error_chain, shortage_behind
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.lines import lines_for_a_log, own_rank
from tinyvit_kd.runtime.refusals import from_os_error
from tinyvit_kd.runtime.signals import (
    REQUEUE_EXIT_CODE,
    Preempted,
    ignore_signals,
    leave_on_signals,
    leave_with_torchrun,
    raise_if_stopped,
)
from tinyvit_kd.runtime.streams import prepare_streams

USER_ERROR = 2
Function = TypeVar("Function", bound=Callable[..., Any])
Recipe = TypeVar("Recipe", bound=Section)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="Show tracebacks instead of errors of one paragraph.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    """Knowledge distillation for vision with the teacher taken out of the training loop.

    \b
    0  shards       pack images into shards, index and check them
    1  dump-logits  run a teacher once over augmented views, keep its top-k probabilities
    2  pretrain     train a student on exactly those views, without the teacher
    3  finetune     train on labels: adapt a student, make a teacher, or a baseline
       evaluate     score a model on labelled shards
       recipe       print a stage's recipe with every field explained, or its JSON schema
       store        describe, check and repair a store of probabilities
       demo         all of it in a few minutes, on images that it draws

    Each stage reads one YAML recipe (see configs/, or print one with the command recipe), and --set section.key=value
    overrides a field. Under torchrun a stage uses all processes: torchrun --nproc_per_node 8 -m tinyvit_kd pretrain
    RECIPE. Exit code 75 means that the same command can be run again to continue: a signal (SIGTERM, SIGUSR1, SIGHUP,
    Ctrl-C) stopped it, a storage hung, a process died, or another run holds its folder. Exit code 2 means that
    something has to be corrected first.
    """
    context.obj = {"debug": debug}
    context.with_resource(saying(context.invoked_subcommand or ""))  # and whatever is done in it says more


def _recipe_options(function: Function) -> Function:
    function = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a field of the recipe, e.g. optim.base_lr=1e-3.",
    )(function)
    return click.argument("recipe", type=click.Path(path_type=Path))(function)


@cli.command("dump-logits")
@_recipe_options
@click.option(
    "--part",
    default="1/1",
    metavar="I/N",
    help="Make only the I-th of N parts, for independent jobs that share one store.",
)
@click.option(
    "--views-from",
    metavar="STORE",
    help="Show this teacher the views of another teacher's store, so that a student can learn from both.",
)
def dump_logits_command(recipe: Path, overrides: tuple[str, ...], part: str, views_from: str | None) -> None:
    """Stage 1: run the teacher over all views that are missing in the store."""
    from tinyvit_kd.config.recipes import DumpConfig

    chosen = _part(part)
    if views_from is not None:
        overrides = (*overrides, f"views_from={json.dumps(views_from)}")
    config = _load(DumpConfig, recipe, overrides)
    from tinyvit_kd.stages.dump_logits import dump_logits

    _run_stage(config, lambda config, job: dump_logits(config, job, chosen), independent=chosen != (1, 1))


@cli.command("pretrain")
@_recipe_options
def pretrain_command(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Stage 2: train a student from the store; the teacher is never loaded."""
    from tinyvit_kd.config.recipes import PretrainConfig

    config = _load(PretrainConfig, recipe, overrides)
    from tinyvit_kd.stages.pretrain import pretrain

    _run_stage(config, pretrain)


@cli.command("finetune")
@_recipe_options
def finetune_command(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Stage 3: train on labelled shards, from a student or from scratch."""
    from tinyvit_kd.config.recipes import FinetuneConfig

    config = _load(FinetuneConfig, recipe, overrides)
    from tinyvit_kd.stages.finetune import finetune

    _run_stage(config, finetune)


@cli.command("evaluate")
@_recipe_options
def evaluate_command(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Score a model on labelled shards: top-1, top-5 and mean per class; of two heads, each one's top-1, too."""
    from tinyvit_kd.config.recipes import EvaluateConfig

    config = _load(EvaluateConfig, recipe, overrides)
    from tinyvit_kd.stages.evaluate import evaluate

    _run_stage(config, evaluate)


cli.add_command(recipe_command)
cli.add_command(shards_group)
cli.add_command(store_group)


@cli.command("demo")
@click.option("--seed", default=0, show_default=True, help="Varies images, weights, views and order.")
@click.option("--folder", type=click.Path(path_type=Path), help="Work folder; default: demo-run, with the seed.")
@click.option("--json", "as_json", is_flag=True, help="Also print the table as a last line of JSON.")
def demo_command(seed: int, folder: Path | None, as_json: bool) -> None:
    """Run the three stages in a few minutes on a laptop, on images that it draws."""
    from tinyvit_kd.runtime.distributed import start_job
    from tinyvit_kd.stages.demo import demo, table

    with start_job("auto", threads=max(1, (os.cpu_count() or 1) - 1)) as job:
        result = demo(folder or Path("demo-run" if seed == 0 else f"demo-run-{seed}"), seed, job)
        if job.is_main:
            click.echo(table(result))
            if as_json:
                click.echo(json.dumps(result))


def _load(kind: type[Recipe], recipe: Path, overrides: tuple[str, ...]) -> Recipe:
    """Load a recipe. The stage, and torch with it, is imported after that, so that mistakes are reported at once."""
    from tinyvit_kd.config.load import load_recipe

    return load_recipe(kind, recipe, overrides)


def _run_stage(config: Any, stage: Callable[[Any, Any], Any], independent: bool = False) -> None:
    from tinyvit_kd.runtime.distributed import start_job

    runtime = config.runtime
    with lines_for_a_log(), start_job(runtime.device, runtime.threads, independent, runtime) as job:
        raise_if_stopped()
        result = stage(config, job)
        if job.is_main:
            click.echo(json.dumps({name: short(value) for name, value in result.items()}))


def short(value: float) -> float:
    """Round to six decimals or, below 1, to six significant digits, because a learning rate may be tiny."""
    return round(value, 6) if isinstance(value, int) or abs(value) >= 1 else float(f"{value:.6g}")


def _part(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise ConfigError("--part takes I/N with 1 <= I <= N", found=text, expected="for example 2/8")
    return int(number), int(count)


def main() -> None:
    """Entry point. Errors become one paragraph on stderr and an exit code."""
    prepare_streams()
    _spare_threads()
    _stand_somewhere()
    debug = "--debug" in sys.argv
    try:
        with leave_on_signals(), _paragraphs(debug):
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
        _leave(str(error), REQUEUE_EXIT_CODE if error.can_be_retried else USER_ERROR)
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
    # Names come from whoever made a store or a tar: they must not control the terminal.
    shown = "".join(each if each.isprintable() or each == "\n" else ascii(each)[1:-1] for each in message)
    click.echo(f"{prefix}{shown}", err=True)
    sys.stderr.flush()


def _leave(message: str, code: int) -> None:
    _say(message)
    sys.exit(code)
