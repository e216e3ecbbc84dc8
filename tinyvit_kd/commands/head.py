"""The group ``head``."""

from __future__ import annotations

from pathlib import Path

import click

from tinyvit_kd.commands.printing import json_option, print_result
from tinyvit_kd.runtime.heartbeat import saying


@click.group("head", short_help="Make a teacher's head of class names or of clusters (CLIP, SigLIP, DINO).")
@click.pass_context
def head_group(context: click.Context) -> None:
    """Make a head for a teacher that has none: of class names, or of clusters of its embeddings."""
    context.with_resource(saying(f"head {context.invoked_subcommand}"))


@head_group.command("text")
@click.argument("output", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--classes", required=True, help="Class list: a text file with a name or id per line, or timm's name.")
@click.option("--template", "templates", multiple=True, help="Sentence with {} for the name.")
@click.option("--templates", "templates_file", type=click.Path(path_type=Path), help="File of one sentence per line.")
@click.option("--open-clip", metavar="MODEL", help="open_clip's network: MODEL:TAG, hf-hub:…, local-dir:…, or MODEL.")
@click.option("--checkpoint", help="Weights of open_clip's MODEL, at a path or URL.")
@click.option("--transformers", metavar="MODEL", help="Network of transformers: a folder, or a name of the hub.")
@json_option
def text_command(
    output: Path,
    classes: str,
    templates: tuple[str, ...],
    templates_file: Path | None,
    open_clip: str | None,
    checkpoint: str | None,
    transformers: str | None,
    as_json: bool,
) -> None:
    """Write a head of class names to OUTPUT, a .safetensors file, by the text tower of a CLIP or SigLIP.

    Each row is the mean over the templates of the normalised embedding of the name in a sentence; scale and bias are
    the network's. A recipe then names the same network's image tower, and this file as teacher.head.
    """
    if (open_clip is None) == (transformers is None):
        raise click.UsageError("Give --open-clip or --transformers, one of them.")
    if checkpoint is not None and open_clip is None:
        raise click.UsageError("--checkpoint is of --open-clip.")
    if output.suffix != ".safetensors":
        raise click.UsageError("OUTPUT is a .safetensors file.")
    from tinyvit_kd.stages.head.text import text

    print_result(*text(output, classes, templates, templates_file, open_clip, checkpoint, transformers), as_json)


@head_group.command("prototypes")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a field of the recipe.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="File; default: teacher.head.")
@click.option("--prototypes", "count", default=1000, show_default=True, type=click.IntRange(2), help="How many; C.")
@click.option("--samples", default=50_000, show_default=True, type=click.IntRange(2), help="Images that are embedded.")
@click.option(
    "--temperature",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="τ of softmax(cosine / τ), as SwAV has it.",
)
@click.option("--center/--no-center", "centers", default=True, help="Subtract the mean embedding first; default: yes.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of views and first centres.")
@json_option
def prototypes_command(
    recipe: Path,
    overrides: tuple[str, ...],
    output: Path | None,
    count: int,
    samples: int,
    temperature: float,
    centers: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Cluster the embeddings of a teacher's backbone into prototypes, and write them as a head. Needs scikit-learn.

    RECIPE is a dump-logits recipe; the file is its teacher.head, from which the dump then takes it. Each of a sample of
    its images is shown in one of its views. The same recipe, options and machine give the same file.
    """
    from tinyvit_kd.config.load import load_recipe
    from tinyvit_kd.config.recipes import DumpConfig
    from tinyvit_kd.runtime.distributed import start_job
    from tinyvit_kd.stages.head.prototypes import prototypes

    config = load_recipe(DumpConfig, recipe, overrides)
    runtime = config.runtime
    with start_job(runtime.device, runtime.threads, True, runtime) as job:
        result = prototypes(config, job, output, count, samples, temperature, seed, centers)
    print_result(*result, as_json)
