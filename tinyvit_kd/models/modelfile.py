"""Model files that say what they are: ``model.safetensors`` with a card in its header."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import safe_open
from safetensors.torch import load_file, save

from tinyvit_kd.config.models import ModelSpec
from tinyvit_kd.config.view_spec import EvalViewSpec
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.runtime.files import atomic_write
from tinyvit_kd.runtime.foreign_errors import first_line_of
from tinyvit_kd.runtime.watchdog import doing

MODEL = "model.safetensors"
RAW_MODEL = "raw.safetensors"  # the weights themselves, beside their average
_CARD, _HASH = "tinyvit_kd", "content_hash"
_SINCE = frozenset({"crop_mode", "crop_pct", "interpolation"})  # left out where not known, as in older files
_NESTS = ("state_dict_ema", "model_ema", "state_dict", "model")  # where training codes keep the weights
StateDict = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class NetworkFacts:
    """What has to be known of a network to use it.

    Attributes:
        num_classes: C of the head.
        image_size: side of the input, pixels.
        mean, std: of the input's normalisation, 0..1.
        class_name: name of the class list, where known.
        class_ids: the classes in order, where known.
    """

    num_classes: int
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    class_name: str | None = None
    class_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class ModelCard(NetworkFacts):
    """What a model file says of its network.

    Attributes:
        architecture: a ModelSpec as plain data, from which the network is built again.
        step: optimiser steps that it was trained for.
        crop_mode, crop_pct, interpolation: of the views that the run was scored in, under timm's names; None where it
            was not scored, and in files that were written before they said so.
    """

    architecture: dict[str, Any]
    step: int = 0
    crop_mode: str | None = None
    crop_pct: float | None = None
    interpolation: str | None = None

    @property
    def spec(self) -> ModelSpec:
        """The architecture as a configuration."""
        return ModelSpec.model_validate(self.architecture)

    @property
    def eval_views(self) -> EvalViewSpec:
        """The fixed view in which the network is scored and used; what the file does not say has its default."""
        said = {"mode": self.crop_mode, "crop_pct": self.crop_pct, "interpolation": self.interpolation}
        given = {name: value for name, value in said.items() if value is not None}
        return EvalViewSpec.model_validate({"size": self.image_size, **given})

    def scored_in(self, views: EvalViewSpec) -> ModelCard:
        """The card of a run that is scored in these views."""
        return replace(self, crop_mode=views.mode, crop_pct=views.crop_fraction, interpolation=views.interpolation)

    def spec_with(self, kwargs: dict[str, Any]) -> ModelSpec:
        """The architecture with further arguments, for images of any size: what the file was made for is left out."""
        own = {name: value for name, value in self.spec.kwargs.items() if name != "img_size"}
        return self.spec.model_copy(update={"kwargs": own | kwargs})


def save_model(path: Path, state: StateDict, card: ModelCard, fsync: bool = False) -> None:
    """Write weights and card as one file, with a hash of both: safetensors has no checksum of its own."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    fields = {name: value for name, value in asdict(card).items() if name not in _SINCE or value is not None}
    text = json.dumps({"architecture": fields.pop("architecture"), **fields})  # a file's hash covers this order
    metadata = {_CARD: text, _HASH: _hash_content(tensors, text)}
    # Not its save_file, which hides a full disk in an error of its own.
    atomic_write(path, save(tensors, metadata), fsync)


def hash_weights(state: StateDict) -> str:
    """32 hexadecimal digits (xxh3_128) over names and bytes, in order."""
    digest = xxhash.xxh3_128()
    for name, tensor in state.items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def raw_model_file(path: Path) -> Path | None:
    """The file with the weights that a run folder's model is the average of; None for others."""
    file = path / RAW_MODEL
    return file if file.is_file() else None


def load_model_file(path: str | Path) -> tuple[StateDict, ModelCard | None]:
    """Weights, and the card where the file has one.

    Args:
        path: a run folder, a ``.safetensors`` file, or a torch file of tensors (``weights_only``).

    Raises:
        CheckpointError: the file is missing, damaged, or holds more than tensors.
    """
    path = Path(path)
    file = path / MODEL if path.is_dir() else path
    doing(f"reading {file}")
    if not file.is_file():
        fix = "finish the run that makes it, or correct the path"
        raise CheckpointError("a model file is missing", where=str(file), fix=fix)
    try:
        if file.suffix == ".safetensors":
            return _load_safetensors(file)
        return _unwrap(torch.load(file, map_location="cpu", weights_only=True)), None
    except Exception as error:  # a damaged or foreign file can make the libraries raise anything
        raise CheckpointError(
            "a model file cannot be read",
            where=str(file),
            found=first_line_of(error),
            expected="a safetensors file, or a torch file that holds tensors alone",
            fix="fetch or write it again; if it is a torch file that holds more than tensors and you trust its origin, "
            "load it with weights_only=False and save its state dict alone",
        ) from None


def _load_safetensors(file: Path) -> tuple[StateDict, ModelCard | None]:
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata() or {}
    state = load_file(file)
    if _CARD not in metadata and _HASH not in metadata:
        return _unwrap(state), None
    if metadata.get(_HASH) != _hash_content(state, metadata.get(_CARD, "")):
        raise ValueError("it has changed since it was written: its hash is wrong")
    return state, _parse_card(metadata[_CARD])


def _hash_content(state: StateDict, card: str) -> str:
    weights = hash_weights(dict(sorted(state.items())))  # a file's own order is not ours
    return xxhash.xxh3_128_hexdigest(f"{weights} {card}".encode())


def _parse_card(text: str) -> ModelCard:
    values = json.loads(text)
    ModelSpec.model_validate(values["architecture"])
    for name in ("mean", "std", "class_ids"):
        values[name] = tuple(values[name]) if values[name] is not None else None
    card = ModelCard(**values)
    if any(values.get(name) is not None for name in _SINCE):
        _ = card.eval_views  # raises where they make no sense
    return card


def _unwrap(content: Any) -> StateDict:
    """The state dict in a foreign file, under whichever key, without the prefixes of parallel wrappers."""
    for nest in _NESTS:
        if isinstance(content, dict) and isinstance(content.get(nest), dict):
            content = content[nest]
            break
    tensors = {
        name.removeprefix("_orig_mod.").removeprefix("module.").removeprefix("_orig_mod."): value
        for name, value in (content.items() if isinstance(content, dict) else ())
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise ValueError("there are no named tensors in it")
    return tensors
