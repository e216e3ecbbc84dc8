"""The command ``predict``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tinyvit_kd.commands.network_options import model_source, network_options
from tinyvit_kd.commands.paths import NamedPath
from tinyvit_kd.commands.printing import print_result

if TYPE_CHECKING:
    from tinyvit_kd.stages.predict import Prediction


@click.command("predict", short_help="Ask a trained network about image files or folders of them.")
@network_options
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True, type=NamedPath(path_type=Path))
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="Classes per image.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image, each in a line of its own.")
@click.option(
    "--device",
    default="auto",
    show_default=True,
    type=click.Choice(("auto", "cpu", "cuda")),
    help="auto: a GPU, if any.",
)
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(1), help="Images per forward pass.")
@click.option("--workers", default=0, show_default=True, type=click.IntRange(0), help="Processes that read images.")
def predict_command(
    model: str,
    images: tuple[Path, ...],
    top: int,
    as_json: bool,
    device: str,
    batch_size: int,
    workers: int,
    **network: Any,
) -> None:
    """Print the likeliest classes of each IMAGE, with probabilities.

    MODEL is a run folder, an exported folder or .onnx file, or whatever else evaluate takes. An IMAGE may be a folder:
    all images in it and below. Each is shown as the network is scored: resized and cropped as its file says. Two heads
    answer with the mean of their softmax. Images that cannot be decoded are named and left out; the exit code is then
    1.
    """
    source = model_source(model, **network)
    from tinyvit_kd.runtime.distributed import start_job
    from tinyvit_kd.runtime.log import note
    from tinyvit_kd.stages.predict import predict

    asked = left_out = 0
    with start_job(device, independent=True) as job:
        for each in predict(source, images, job, top=top, batch_size=batch_size, workers=workers):
            if each.problem and not as_json:
                note(f"{_name(each)}: left out: {each.problem}")
            else:
                print_result(_text(each, first=asked == left_out), _values(each), as_json)
            asked, left_out = asked + 1, left_out + bool(each.problem)
    if left_out:
        note(f"{left_out} of {asked} images left out")
    sys.exit(1 if left_out else 0)


def _name(prediction: Prediction) -> str:
    from tinyvit_kd.runtime.wording import printable

    return printable(str(prediction.image))


def _text(prediction: Prediction, first: bool) -> str:
    from tinyvit_kd.runtime.wording import printable, table

    rows = [
        (f"  {100 * each.probability:.2f} %", printable(each.name), printable(each.class_id or ""))
        for each in prediction.guesses
    ]
    rows = [(share, name, "" if identity == name else identity) for share, name, identity in rows]
    return ("" if first else "\n") + f"{_name(prediction)}\n{table(rows, right=(0,))}"


def _values(prediction: Prediction) -> dict[str, Any]:
    if prediction.problem:
        return {"image": str(prediction.image), "problem": prediction.problem}
    return {
        "image": str(prediction.image),
        "top": [
            {"class": each.number, "id": each.class_id, "name": each.name, "probability": each.probability}
            for each in prediction.guesses
        ],
    }
