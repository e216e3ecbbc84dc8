"""The command ``export``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tinyvit_kd.commands.network_options import model_source, network_options
from tinyvit_kd.commands.paths import NamedPath
from tinyvit_kd.commands.printing import json_option, print_result

if TYPE_CHECKING:
    from tinyvit_kd.stages.export import InputKind


@click.command("export", short_help="Write a trained network as a timm folder, ONNX or torch.export.")
@network_options
@click.option(
    "--format",
    "file_format",
    required=True,
    type=click.Choice(("timm", "onnx", "torch-export")),
    help="timm: a folder that timm and the hub read; onnx: one .onnx file; torch-export: one .pt2 file.",
)
@click.option("--output", type=NamedPath(), help="Folder or file to write, or a URL; default: beside MODEL.")
@click.option(
    "--weights",
    type=click.Choice(("raw", "averaged")),
    help="Of a run folder; default: what the run is scored by, its average where it has one.",
)
@click.option(
    "--input",
    "input_kind",
    type=click.Choice(("uint8", "normalized")),
    default="uint8",
    show_default=True,
    help="Of .onnx and .pt2: RGB levels 0 to 255, normalised inside; or float32, normalised before.",
)
@click.option("--license", metavar="ID", help="For the model card, as the hub names it, e.g. apache-2.0.")
@click.option("--dataset", "datasets", multiple=True, metavar="ID", help="For the model card; may be given repeatedly.")
@click.option("--overwrite", is_flag=True, help="Replace what an earlier export has written.")
@json_option
def export_command(
    model: str,
    file_format: str,
    output: str | None,
    weights: str | None,
    input_kind: InputKind,
    license: str | None,
    datasets: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
    **network: Any,
) -> None:
    """Write the network at MODEL for other programs, and compare what was written with it.

    MODEL is a run folder, or whatever else evaluate takes. A file that answers otherwise than the network is not kept.
    Of a network with two heads, .onnx and .pt2 files give logits whose softmax is the mean of both heads' softmax.
    docs/MODELS.md tells how each format is fed.
    """
    source = model_source(model, **network)
    from tinyvit_kd.stages.export import ExportRequest, export

    request = ExportRequest(
        source=source,
        file_format=file_format,
        output=output,
        weights=weights,
        input_kind=input_kind,
        license=license,
        datasets=datasets,
        overwrite=overwrite,
    )
    exported = export(request)
    print_result(exported.text(), exported.as_dict(), as_json)
