"""Model files that say what they are: ``model.safetensors`` with a card in its header."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import xxhash
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import load_file, save

from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.view_spec import EvalViewSpec
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.plain_card import require_fitting, require_plain
from tinyvit_kd.models.torch_files import read_torch_file
from tinyvit_kd.models.weight_files import StateDict as StateDict
from tinyvit_kd.models.weight_files import find_weights
from tinyvit_kd.runtime.files import atomic_write
from tinyvit_kd.runtime.foreign_errors import first_line_of
from tinyvit_kd.runtime.log import note
from tinyvit_kd.runtime.watchdog import doing

MODEL = "model.safetensors"
RAW_MODEL = "raw.safetensors"  # the weights themselves, beside their average
FOLDERS = (MODEL, "pytorch_model.bin", "pytorch_model.pth", "model.pth")  # what timm saves and reads, the first first
_CARD, _HASH = "tinyvit_kd", "content_hash"
_SINCE = frozenset({"crop_mode", "crop_pct", "interpolation"})  # left out where not known, as in older files


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
    text = card_text(card)
    metadata = {_CARD: text, _HASH: _hash_content(tensors, text)}
    # Not its save_file, which hides a full disk in an error of its own.
    atomic_write(path, in_order(save(tensors, metadata)), fsync)


def in_order(content: bytes) -> bytes:
    """A safetensors file with its metadata sorted: the library's order is another one in every process.

    Equal models then are equal files, and ``sha256sum`` tells whether two runs ended alike.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return b"".join([len(text).to_bytes(8, "little"), text, memoryview(content)[8 + length :]])


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


def weights_file(path: Path) -> Path:
    """The file of weights that a path means: itself, or the one in a run folder or a folder of timm's."""
    if not path.is_dir():
        return path
    return next((file for name in FOLDERS if (file := path / name).is_file()), path / MODEL)


def file_beside(file: Path, name: str) -> Path:
    """Another file in a model file's folder."""
    return file.parent / name


def load_model_file(path: str | Path) -> tuple[StateDict, ModelCard | None]:
    """Weights, and the card where the file has one.

    Args:
        path: a run folder, a folder of timm's, a ``.safetensors`` file, or a torch file of any training code
            (``models.torch_files``). A line says which entry was taken, and what was stripped from the names.

    Raises:
        CheckpointError: the file is missing, damaged, holds what is neither weights nor settings, or has a card that
            names more than a network.
    """
    file = weights_file(Path(path))
    doing(f"reading {file}")
    if not file.is_file():
        raise _missing(file)
    try:
        if file.suffix == ".safetensors":
            return _load_safetensors(file)
        return _weights_in(read_torch_file(file), file), None
    except CheckpointError:
        raise
    except Exception as error:  # a damaged or foreign file can make the libraries raise anything
        raise _unreadable(file, error) from None


def read_card(path: Path) -> ModelCard | None:
    """The card of a model file, without its weights; None where there is no card.

    Args:
        path: as for ``load_model_file``.

    Raises:
        CheckpointError: the file is missing, damaged, or has a card that names more than a network.
    """
    file = weights_file(path)
    if not file.is_file():
        raise _missing(file)
    if file.suffix != ".safetensors":
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
        card = parse_card(metadata[_CARD]) if _CARD in metadata else None
    except Exception as error:
        raise _unreadable(file, error) from None
    if card is not None:
        require_plain(card.spec, str(file))
    return card


def _missing(file: Path) -> CheckpointError:
    fix = "finish the run that makes it, or correct the path"
    return CheckpointError("a model file is missing", where=str(file), fix=fix)


def _unreadable(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        "a model file cannot be read",
        where=str(file),
        found=first_line_of(error),
        expected="a safetensors file, or a torch file of named tensors",
        fix="fetch or write it again",
    )


def _load_safetensors(file: Path) -> tuple[StateDict, ModelCard | None]:
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata() or {}
    state = load_file(file)
    if _CARD not in metadata and _HASH not in metadata:
        return _weights_in(state, file), None
    if metadata.get(_HASH) != _hash_content(state, metadata.get(_CARD, "")):
        raise ValueError("it has changed since it was written: its hash is wrong")
    card = parse_card(metadata[_CARD])
    require_plain(card.spec, str(file))
    require_fitting(card.spec, card.num_classes, [list(tensor.shape) for tensor in state.values()], str(file))
    return state, card


def _weights_in(content: Any, file: Path) -> StateDict:
    found = find_weights(content)
    if not found.state:
        raise ValueError("there are no named tensors in it")
    if found.story:
        note(f"{file}: {found.story}")
    return found.state


def _hash_content(state: StateDict, card: str) -> str:
    weights = hash_weights(dict(sorted(state.items())))  # a file's own order is not ours
    return xxhash.xxh3_128_hexdigest(f"{weights} {card}".encode())


def card_text(card: ModelCard) -> str:
    """A card as JSON, as a file keeps it."""
    fields = {name: value for name, value in asdict(card).items() if name not in _SINCE or value is not None}
    return json.dumps({"architecture": fields.pop("architecture"), **fields})  # a file's hash covers this order


def parse_card(text: str) -> ModelCard:
    """A card from a file.

    Raises:
        ValueError, LookupError, TypeError: it is damaged, or makes no sense.
    """
    values = json.loads(text)
    for name in ("mean", "std", "class_ids"):
        values[name] = tuple(values[name]) if values[name] is not None else None
    card = ModelCard(**values)
    try:
        _ = card.spec, card.eval_views
    except ValidationError as error:
        told = (f"{'.'.join(map(str, each['loc']))} is {each['input']!r}: {each['msg']}" for each in error.errors())
        raise ValueError(f"what it says of its network makes no sense: {'; '.join(told)}") from None
    return card
