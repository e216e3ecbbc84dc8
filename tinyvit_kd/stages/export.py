"""``export``: a trained network as files for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from tinyvit_kd.analysis.jobs.lineage import Stage, lineage
from tinyvit_kd.analysis.jobs.run_folder import RunFolder, is_run_folder, read_run
from tinyvit_kd.config.models import ModelSource
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.exporting.deployed import DeployedNetwork
from tinyvit_kd.models.exporting.deployed import InputKind as InputKind
from tinyvit_kd.models.exporting.description import Description
from tinyvit_kd.models.exporting.onnx_file import OPSET, require_onnx, save_onnx
from tinyvit_kd.models.exporting.program import save_program
from tinyvit_kd.models.exporting.timm_files import FILES, save_timm_folder
from tinyvit_kd.models.head import distilled_heads
from tinyvit_kd.models.model_location import model_path
from tinyvit_kd.models.modelfile import RAW_MODEL, ModelCard, hash_weights
from tinyvit_kd.reports.model_card import ExportedModel, model_card
from tinyvit_kd.runs.class_names import names_of
from tinyvit_kd.runs.exported_files import chosen_weights, default_output, written_to
from tinyvit_kd.runs.opened_network import known_classes, network_name, open_with_classes
from tinyvit_kd.runtime.files import staged_files
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.machine import versions
from tinyvit_kd.runtime.wording import binary_size, printable
from tinyvit_kd.storage.copies import local_path, parts_of
from tinyvit_kd.storage.open import open_storage


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What is asked for.

    Attributes:
        source: the network.
        file_format: timm, onnx or torch-export.
        output: path or URL of the folder or file; None: beside the weights.
        weights: "raw" or "averaged", of a run folder; None: what the run is scored by.
        input_kind: of ONNX files and programs.
        license, datasets: for the model card.
        overwrite: whether what is there may be replaced.
    """

    source: ModelSource
    file_format: str
    output: str | None = None
    weights: str | None = None
    input_kind: InputKind = "uint8"
    license: str | None = None
    datasets: Sequence[str] = ()
    overwrite: bool = False


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: or URL of the folder or file.
        file_format: timm, onnx or torch-export.
        files: their sizes in bytes by name.
        weights: "raw" or "averaged"; None where nothing says so.
        largest_difference: of two logits, between the network and what was written.
        facts: what else is to be said, by name.
    """

    path: str
    file_format: str
    files: dict[str, int]
    weights: str | None
    largest_difference: float
    facts: dict[str, Any]

    def text(self) -> str:
        """For people."""
        files = ", ".join(f"{printable(name)} ({binary_size(size)})" for name, size in self.files.items())
        told = "; ".join(f"{name} {value}" for name, value in self.facts.items())
        weights = f"{self.weights} weights" if self.weights else "weights as they were found"
        return (
            f"wrote {printable(self.path)}: {files}; {weights}{f'; {told}' if told else ''}; "
            f"largest difference of two logits {self.largest_difference:.2g}"
        )

    def as_dict(self) -> dict[str, Any]:
        """For machines."""
        return {
            "path": self.path,
            "format": self.file_format,
            "files": self.files,
            "weights": self.weights,
            "largest_difference": self.largest_difference,
            **self.facts,
        }


def export(request: ExportRequest) -> Exported:
    """Write a network in one format, once it has been compared with what was written.

    Raises:
        ConfigError: the network cannot be opened or exported, a package is missing, or something is in the way.
        CheckpointError: the weights are missing or damaged, or what was written answers otherwise.
    """
    if request.file_format == "onnx":
        require_onnx()
    source, run = request.source, None
    weights = None
    if source.model is not None:
        run = read_run(source.model) if is_run_folder(source.model) else None
        local = model_path(source.model, RAW_MODEL)
        file, weights = chosen_weights(local, request.weights, run.recipe if run else None)
        source = source.model_copy(update={"model": str(file)})
    output = request.output or default_output(request.source.model, request.file_format)
    _require_free(output, request)
    opened = open_with_classes(source)
    network, card = opened.network.eval(), opened.card
    classes = known_classes(source, card)
    names = None if classes is None else tuple(names_of(classes, card.num_classes))
    text = _card_text(request, network, card, names, weights, run, network_name(opened))
    with saying(f"exporting {source.origin}"), written_to(output) as path:
        difference, files = _write(request, path, network, card, names, text)
    facts: dict[str, Any] = {} if request.file_format == "timm" else {"input": request.input_kind}
    facts |= {"opset": OPSET} if request.file_format == "onnx" else {}
    return Exported(output, request.file_format, files, weights, difference, facts)


def _write(
    request: ExportRequest,
    output: Path,
    network: nn.Module,
    card: ModelCard,
    names: tuple[str, ...] | None,
    text: str,
) -> tuple[float, dict[str, int]]:
    """Write the files aside, compare them, and put them into their place."""
    is_folder = request.file_format == "timm"
    with staged_files(output if is_folder else output.parent, output.name) as staged:
        if is_folder:
            difference = save_timm_folder(staged, network, card, names, text)
        else:
            deployed = DeployedNetwork(network, card, request.input_kind).eval()
            description = Description(card=card, input_kind=request.input_kind, class_names=names, model_card=text)
            save = save_onnx if request.file_format == "onnx" else save_program
            difference = save(deployed, description, staged / output.name)
        files = {file.name: file.stat().st_size for file in sorted(staged.iterdir())}
    return difference, files


def _require_free(output: str, request: ExportRequest) -> None:
    """Check that nothing of anybody's is in the way."""
    is_folder = request.file_format == "timm"
    if is_run_folder(output):
        raise ConfigError(
            "the output is a run folder, whose files an export would replace",
            where=output,
            fix="choose another folder",
        )
    path = local_path(output)
    if path is not None and path.exists() and path.is_dir() != is_folder:
        kinds = ("a file", "a folder") if is_folder else ("a folder", "a file")
        raise ConfigError(
            f"the output is {kinds[0]}",
            where=output,
            expected=f"the path of {kinds[1]} for {request.file_format}",
        )
    folder, name = (output, "") if is_folder else parts_of(output) if path is None else (str(path.parent), path.name)
    storage = open_storage(folder)
    there = [each for each in (FILES if is_folder else (name,)) if storage.info(each) is not None]
    if there and not request.overwrite:
        raise ConfigError(
            "the output exists already",
            where=output,
            found=", ".join(there),
            fix="give --overwrite to replace it, or choose another --output",
        )


def _card_text(
    request: ExportRequest,
    network: nn.Module,
    card: ModelCard,
    names: Sequence[str] | None,
    weights: str | None,
    run: RunFolder | None,
    name: str,
) -> str:
    stages: list[Stage] = lineage(run) if run is not None else []
    return model_card(
        ExportedModel(
            title=run.name if run is not None else name,
            network=name,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            two_heads=bool(distilled_heads(network)),
            card=card,
            class_names=names,
            weights=weights,
            weights_hash=hash_weights(network.state_dict()),
            stages=stages,
            versions=versions(),
            license=request.license,
            datasets=request.datasets,
        )
    )
