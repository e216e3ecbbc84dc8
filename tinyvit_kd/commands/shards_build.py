"""The command ``shards build``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from tinyvit_kd.commands.paths import FolderOrUrl

_COLUMNS = ("image_column", "label_column", "key_column", "root")


@click.command("build")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.argument("output", type=FolderOrUrl())
@click.option("--split", help="Name of the split; default: train.")
@click.option("--split-from-folders", is_flag=True, help="Each folder, tar or zip in SOURCE is a split: train, val, …")
@click.option("--source-split", help="Name of the split in SOURCE, a data set with splits; default: as --split.")
@click.option("--samples-per-shard", default=5000, show_default=True, type=click.IntRange(1), help="Samples per shard.")
@click.option("--seed", default=0, show_default=True, help="Seed of the random assignment of samples to shards.")
@click.option("--processes", default=os.cpu_count() or 1, type=click.IntRange(1), help="Shards written at a time.")
@click.option("--unlabelled", is_flag=True, help="Pack images without labels, which soft distillation needs none of.")
@click.option(
    "--class-list",
    help="The classes in their order, a file or timm's name of a list: labels are looked up in it; default: SOURCE's.",
)
@click.option(
    "--labels",
    type=click.Path(exists=True, path_type=Path),
    help="Labels of ImageNet's validation images: the unpacked development kit, or a WordNet id per line.",
)
@click.option("--image-column", help="Column of a list with paths or images; default: path, file, filename, image, ….")
@click.option("--label-column", help="Column of a list with names or numbers; default: label, class or target.")
@click.option("--key-column", help="Column of a list with keys of samples; default: key or id; '' numbers samples.")
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder that the paths of a list are relative to; default: that of the list.",
)
@click.option(
    "--first-label",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Number of the first class in a list; 1 if its labels count from 1.",
)
@click.option(
    "--labels-are",
    type=click.Choice(("numbers", "names")),
    help="What labels in a list are; default: numbers if all of them are, else names; where both fit, stop.",
)
@click.option(
    "--resize",
    metavar="SIDE",
    type=click.IntRange(16),
    help="Encode images anew as JPEG whose shorter side is above SIDE pixels, down to it; default: never.",
)
@click.option("--quality", type=click.IntRange(1, 95), help="JPEG quality with --resize; default: 90.")
@click.option(
    "--folders-are-classes",
    is_flag=True,
    help="Each folder, tar or zip in SOURCE is a class with all that lies below it, whatever its name.",
)
@click.option(
    "--empty-classes",
    type=click.Choice(("stop", "keep", "leave-out")),
    default="stop",
    show_default=True,
    help="Folders without images: keep gives them a number.",
)
@click.option(
    "--outside-links",
    type=click.Choice(("stop", "follow", "leave-out")),
    default="stop",
    show_default=True,
    help="Links that lead out of SOURCE: follow packs what they lead to.",
)
@click.option("--list", "list_all", is_flag=True, help="Name all that is left out, not only the first ones.")
def shards_build(
    sources: tuple[Path, ...],
    output: Path | str,
    split: str | None,
    split_from_folders: bool,
    samples_per_shard: int,
    seed: int,
    processes: int,
    resize: int | None,
    quality: int | None,
    list_all: bool,
    **rules: Any,
) -> None:
    """Pack the images of each SOURCE into webdataset tars in OUTPUT, a folder or a URL such as s3://BUCKET/FOLDER.

    SOURCE is a folder with one folder, one tar or one zip per class; a tar or zip of class folders, or a tar of one tar
    per class; a list (.csv, .tsv, .jsonl) or table (.parquet, .arrow) of images; a data set of Hugging Face; ImageNet
    or Tiny-ImageNet as handed out; or, with --unlabelled, any images. Classes of several are merged by name. Where
    folders may be something else than classes, the command stops and says what to give. What becomes no sample is
    counted and named; the last line is JSON. After an interruption, run the same command again to make the missing
    shards. docs/DATA.md has the rules.
    """
    from tinyvit_kd.stages.shards.build import build

    if split is not None and split_from_folders:
        raise click.UsageError("--split and --split-from-folders exclude each other.")
    if quality is not None and resize is None:
        raise click.UsageError("--quality is that of images which --resize encodes anew.")
    if rules["labels"] is not None and rules["unlabelled"]:
        raise click.UsageError("--labels and --unlabelled exclude each other.")
    columns = {name.removesuffix("_column"): rules.pop(name) for name in _COLUMNS}
    rules["split"] = rules.pop("source_split")
    chosen = None if split_from_folders else split or "train"
    smaller = None if resize is None else (resize, quality or 90)
    text, counts = build(sources, output, chosen, samples_per_shard, seed, processes, rules, columns, list_all, smaller)
    click.echo(text)
    click.echo(json.dumps(counts))
