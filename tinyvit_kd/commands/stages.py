"""The stages as commands, and the demo of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tinyvit_kd.config.base import Section
from tinyvit_kd.runtime.lines import lines_for_a_log
from tinyvit_kd.runtime.signals import raise_if_stopped

if TYPE_CHECKING:
    from tinyvit_kd.config.recipes import ContractConfig, DumpConfig
    from tinyvit_kd.runtime.distributed import Job

Function = TypeVar("Function", bound=Callable[..., Any])
Recipe = TypeVar("Recipe", bound=Section)


def _recipe_options(function: Function) -> Function:
    function = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a field of the recipe, e.g. optim.base_lr=1e-3.",
    )(function)
    return click.argument("recipe", type=click.Path(path_type=Path))(function)


def _part_option(what: str) -> Callable[[Function], Function]:
    return click.option(
        "--part",
        default="1/1",
        metavar="I/N|auto|auto/N",
        help=f"{what} auto: which one an array of Slurm, Kubernetes or AWS Batch tells; auto/N: of N.",
    )


@click.command("dump-logits", short_help="Stage 1: run a teacher over augmented views, keep its top-k probabilities.")
@_recipe_options
@_part_option("Make only the I-th of N parts, for independent jobs that share one store.")
@click.option(
    "--views-from",
    metavar="STORE",
    help="Show this teacher the views of another teacher's store, so that a student can learn from both.",
)
def dump_logits_command(recipe: Path, overrides: tuple[str, ...], part: str, views_from: str | None) -> None:
    """Stage 1: run the teacher over all views that are missing in the store."""
    from tinyvit_kd.config.recipes import DumpConfig
    from tinyvit_kd.runtime.job_array import AUTO, part_of

    chosen = part_of(part, os.environ)
    if views_from is not None:
        overrides = (*overrides, f"views_from={json.dumps(views_from)}")
    config = _load(DumpConfig, recipe, overrides)
    from tinyvit_kd.stages.dump_logits import dump_logits

    def dump(config: DumpConfig, job: Job) -> dict[str, float]:
        return dump_logits(config, job, chosen, splits_anew=part != AUTO)

    _run_stage(config, dump, independent=chosen != (1, 1))


@click.command("pretrain", short_help="Stage 2: train a student on exactly those views, without the teacher.")
@_recipe_options
def pretrain_command(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Stage 2: train a student from the store; the teacher is never loaded."""
    from tinyvit_kd.config.recipes import PretrainConfig

    config = _load(PretrainConfig, recipe, overrides)
    from tinyvit_kd.stages.pretrain import pretrain

    _run_stage(config, pretrain)


@click.command("finetune", short_help="Stage 3: train on labels: adapt a student, make a teacher or a baseline.")
@_recipe_options
def finetune_command(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Stage 3: train on labelled shards, from a student or from scratch."""
    from tinyvit_kd.config.recipes import FinetuneConfig

    config = _load(FinetuneConfig, recipe, overrides)
    from tinyvit_kd.stages.finetune import finetune

    _run_stage(config, finetune)


@click.command("evaluate", short_help="Score a model on labelled shards.")
@_recipe_options
def evaluate_command(recipe: Path, overrides: tuple[str, ...]) -> None:
    """Score a model on labelled shards: top-1, top-5 and mean per class; of two heads, each one's top-1, too."""
    from tinyvit_kd.config.recipes import EvaluateConfig

    config = _load(EvaluateConfig, recipe, overrides)
    from tinyvit_kd.stages.evaluate import evaluate

    _run_stage(config, evaluate)


@click.command("contract", short_help="Find the best student within limits, from a larger one, by brief trainings.")
@_recipe_options
@_part_option("This is the I-th of N independent jobs that share the search through its folder.")
def contract_command(recipe: Path, overrides: tuple[str, ...], part: str) -> None:
    """Find the best student within limits, by progressive contraction of a larger one.

    Writes recipes for pretrain (winner.yaml), a card (contract.md) and a page (contract.html) into the run folder. Any
    number of processes, of torchrun or of jobs with --part, share the candidates through that folder; run the same
    command again to go on after a stop.
    """
    from tinyvit_kd.config.recipes import ContractConfig
    from tinyvit_kd.runtime.job_array import part_of

    chosen = part_of(part, os.environ)
    config = _load(ContractConfig, recipe, overrides)
    from tinyvit_kd.stages.contract import contract

    def search(config: ContractConfig, job: Job) -> dict[str, float]:
        return contract(config, job, chosen)

    _run_stage(config, search, independent=chosen != (1, 1), shares_steps=False)


@click.command("demo", short_help="All stages in a few minutes on a laptop, on images that it draws.")
@click.option("--seed", default=0, show_default=True, help="Varies images, weights, views and order.")
@click.option("--folder", type=click.Path(path_type=Path), help="Work folder; default: demo-run, with the seed.")
@click.option("--json", "as_json", is_flag=True, help="Also print the table as a last line of JSON.")
def demo_command(seed: int, folder: Path | None, as_json: bool) -> None:
    """Run the three stages in a few minutes on a laptop, on images that it draws."""
    from tinyvit_kd.runtime.distributed import start_job
    from tinyvit_kd.stages.demo import demo, table, write_report

    folder = folder or Path("demo-run" if seed == 0 else f"demo-run-{seed}")
    with start_job("auto", threads=max(1, (os.cpu_count() or 1) - 1)) as job:
        result = demo(folder, seed, job)
        if job.is_main:
            click.echo(table(result))
            click.echo(write_report(folder))
            if as_json:
                click.echo(json.dumps(result))


def _load(kind: type[Recipe], recipe: Path, overrides: tuple[str, ...]) -> Recipe:
    """Load a recipe. The stage, and torch with it, is imported after that, so that mistakes are reported at once."""
    from tinyvit_kd.config.load import load_recipe

    return load_recipe(kind, recipe, overrides)


def _run_stage(
    config: Any, stage: Callable[[Any, Any], Any], independent: bool = False, shares_steps: bool = True
) -> None:
    """Run a stage and print its result.

    Args:
        independent: this process has work of its own, whatever other tasks of the same launcher do.
        shares_steps: whether the processes of a job make the steps of a training together.
    """
    from tinyvit_kd.runtime.distributed import start_job

    runtime = config.runtime
    schedule = getattr(config, "schedule", None) if shares_steps else None  # of a training
    with lines_for_a_log(), start_job(runtime.device, runtime.threads, independent, runtime, schedule) as job:
        raise_if_stopped()
        result = stage(config, job)
        if job.is_main:
            click.echo(json.dumps({name: short(value) for name, value in result.items()}))


def short(value: float) -> float:
    """Round to six decimals or, below 1, to six significant digits, because a learning rate may be tiny."""
    return round(value, 6) if isinstance(value, int) or abs(value) >= 1 else float(f"{value:.6g}")
