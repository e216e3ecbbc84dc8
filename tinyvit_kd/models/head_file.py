"""Heads as files: a matrix of a row per class for the embeddings of a backbone, as safetensors or npy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import xxhash
from safetensors import safe_open
from safetensors.torch import save
from torch.nn import functional as F

from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.model_location import model_path
from tinyvit_kd.models.modelfile import hash_weights, in_order
from tinyvit_kd.runtime.files import atomic_write
from tinyvit_kd.runtime.foreign_errors import first_line_of
from tinyvit_kd.runtime.wording import first_few, printable

Normalized = Literal["none", "embeddings", "rows", "both"]
OF_TEXTS = "texts"  # made_from of heads whose rows are embeddings of texts
_SHOWN = 5  # names of tensors in a message
_TENSORS = ("weight", "bias", "scale", "center")
_CLASSES, _CLASS_LIST, _NORMALIZE, _MADE_FROM = "classes", "class_list", "normalize", "made_from"
_FORM = (
    "a matrix [C, D] as .npy; or a .safetensors file with weight [C, D] and, if wanted, bias [C], scale [] and center "
    "[D], and in its metadata normalize (none, embeddings, rows or both) and classes (a JSON list of C names)"
)


@dataclass(frozen=True, eq=False)
class Head:
    """Logits = scale · W (e - center) + bias, of an embedding e.

    Attributes:
        weight: W, float32 [C, D].
        bias: float32 [C]; None: 0.
        scale: a factor of all logits, without the bias; 1 / τ of a temperature τ.
        normalize: what is brought to length 1 before: the embeddings, without their center, the rows of W, or both.
        class_name, class_ids: the classes in order, where known.
        center: float32 [D]; None: 0.
        made_from: what made it, as plain data; its entry ``kind`` is ``OF_TEXTS`` where rows are embeddings of texts.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None = None
    scale: float = 1.0
    normalize: Normalized = "none"
    class_name: str | None = None
    class_ids: tuple[str, ...] | None = None
    center: torch.Tensor | None = None
    made_from: Mapping[str, Any] | None = None

    @property
    def normalizes_embeddings(self) -> bool:
        """Whether embeddings are brought to length 1."""
        return self.normalize in ("embeddings", "both")

    @property
    def rows(self) -> torch.Tensor:
        """W as it is multiplied with."""
        if self.normalize not in ("rows", "both"):
            return self.weight
        return F.normalize(self.weight, dim=1)

    @property
    def further(self) -> dict[str, torch.Tensor]:
        """Bias and center, as far as there are any."""
        given = {"bias": self.bias, "center": self.center}
        return {name: tensor for name, tensor in given.items() if tensor is not None}

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits over all that its logits depend on, as a file holds it; not over names."""
        state = {"weight": self.rows, "scale": torch.tensor(self.scale)}
        state |= self.further
        return xxhash.xxh3_64_hexdigest(f"{hash_weights(state)} {self.normalizes_embeddings}".encode())


def save_head(path: Path, head: Head) -> None:
    """Write a head as one safetensors file; the same head is the same bytes."""
    tensors = {"weight": head.weight.clone(memory_format=torch.contiguous_format), "scale": torch.tensor(head.scale)}
    tensors |= {name: tensor.clone() for name, tensor in head.further.items()}
    metadata = {_NORMALIZE: head.normalize, _MADE_FROM: json.dumps(head.made_from or {}, ensure_ascii=False)}
    if head.class_ids is not None:
        metadata |= {
            _CLASS_LIST: head.class_name or path.stem,
            _CLASSES: json.dumps(head.class_ids, ensure_ascii=False),
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, in_order(save(tensors, metadata)))


def read_head(location: str, where: str = "teacher.head") -> Head:
    """Read a head.

    Args:
        location: path or URL of a ``.safetensors`` or ``.npy`` file.
        where: the field, for messages.

    Raises:
        CheckpointError: it is missing, damaged, no matrix, or what it says of itself makes no sense.
    """
    path = model_path(location)
    if not path.is_file():
        fix = "make one (tinyvit-kd head), or correct the path"
        raise CheckpointError("there is no file of a head here", where=f"{where}: {location}", fix=fix)
    try:
        head = _of_npy(path) if path.suffix == ".npy" else _of_safetensors(path)
        _require_sound(head)
    except Exception as error:  # a foreign file can make the libraries raise anything
        raise CheckpointError(
            "a head cannot be read",
            where=f"{where}: {location}",
            found=first_line_of(error),
            expected=_FORM,
            fix="write it again in this form",
        ) from None
    return head


def require_replaceable(path: Path, kind: str) -> None:
    """Check that a head of a kind may be written to a path: that nothing is there but another one of its kind.

    Args:
        kind: as ``Head.made_from`` has it.

    Raises:
        CheckpointError: there is a head of another kind, or a file that is no head, such as a network's weights.
    """
    if not path.exists():
        return
    fix = "name another file, or remove this one"
    try:
        found = (read_head(str(path), "output").made_from or {}).get("kind")
    except CheckpointError as error:
        raise CheckpointError(
            "there is a file in the place of the head that is none", where=str(path), found=error.found, fix=fix
        ) from None
    if found != kind:
        raise CheckpointError(
            "there is a head of another kind in this place",
            where=str(path),
            found="a head that says nothing of its kind" if found is None else f"a head of {printable(str(found))}",
            expected=f"a head of {kind}, or no file",
            fix=fix,
        )


def _of_npy(path: Path) -> Head:
    matrix = np.load(path, allow_pickle=False)
    if matrix.dtype.kind not in "fiu":
        raise ValueError(f"an array of {matrix.dtype}")
    return Head(torch.from_numpy(np.ascontiguousarray(matrix, dtype=np.float32)))


def _of_safetensors(path: Path) -> Head:
    with safe_open(path, framework="pt") as opened:
        metadata, names = opened.metadata() or {}, list(opened.keys())
        tensors = {name: opened.get_tensor(name) for name in names}
    if len(names) == 1:
        tensors = {"weight": tensors[names[0]]}
    if "weight" not in tensors or not tensors.keys() <= {*_TENSORS}:
        raise ValueError(f"tensors {first_few(sorted(names), _SHOWN)}")
    normalize = metadata.get(_NORMALIZE, "none")
    if normalize not in get_args(Normalized):
        raise ValueError(f"normalize: {normalize}")
    classes = json.loads(metadata[_CLASSES]) if _CLASSES in metadata else None
    if classes is not None and not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise ValueError("classes that are no JSON list of texts")
    made_from = json.loads(metadata.get(_MADE_FROM, "{}"))
    if not isinstance(made_from, dict):
        raise ValueError(f"made_from that is no JSON object: {type(made_from).__name__}")
    scale = tensors.get("scale", torch.tensor(1.0))
    if scale.numel() != 1:
        raise ValueError(f"a scale of {list(scale.shape)}")
    return Head(
        weight=tensors["weight"].float(),
        bias=tensors["bias"].float() if "bias" in tensors else None,
        center=tensors["center"].float() if "center" in tensors else None,
        scale=float(scale.double()),
        normalize=normalize,
        class_name=metadata.get(_CLASS_LIST, path.stem) if classes is not None else None,
        class_ids=tuple(classes) if classes is not None else None,
        made_from=made_from,
    )


def _require_sound(head: Head) -> None:
    shape = list(head.weight.shape)
    if len(shape) != 2 or shape[0] < 2 or shape[1] < 1:
        raise ValueError(f"a weight of {shape}")
    numbers = [head.weight, torch.tensor(head.scale), *head.further.values()]
    if not all(bool(torch.isfinite(each).all()) for each in numbers) or head.scale <= 0:
        raise ValueError("numbers that are not finite, or a scale that is not above 0")
    if head.bias is not None and list(head.bias.shape) not in ([shape[0]], [1], []):
        raise ValueError(f"a bias of {list(head.bias.shape)} for {shape[0]:,} classes")
    if head.center is not None and list(head.center.shape) != shape[1:]:
        raise ValueError(f"a center of {list(head.center.shape)} for embeddings of {shape[1]:,}")
    if head.normalize in ("rows", "both") and not bool(head.weight.norm(dim=1).all()):
        raise ValueError("a row of zeros, which cannot be normalised")
    if head.class_ids is not None and not len(set(head.class_ids)) == len(head.class_ids) == shape[0]:
        raise ValueError(f"{len(set(head.class_ids)):,} distinct names for {shape[0]:,} classes")
