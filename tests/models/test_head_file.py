"""Heads as files: what is written reads back, what others write is taken, and what is none is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.head_file import OF_TEXTS, Head, read_head, require_replaceable, save_head

W = torch.arange(12.0).reshape(3, 4) - 5


def test_a_head_reads_back_as_it_was_and_the_same_head_is_the_same_bytes(tmp_path: Path) -> None:
    head = Head(
        W, torch.tensor([0.0, 1.0, 2.0]), 14.5, "both", "pets", ("cat", "dog", "caf\u00e9"), W[0], {"kind": "texts"}
    )
    for name in ("one", "two"):
        save_head(tmp_path / f"{name}.safetensors", head)
    found = read_head(str(tmp_path / "one.safetensors"))
    assert torch.equal(found.weight, W)
    assert found.bias is not None
    assert (found.bias.tolist(), found.scale, found.normalize) == ([0, 1, 2], 14.5, "both")
    assert (found.class_name, found.class_ids, found.made_from) == ("pets", head.class_ids, {"kind": "texts"})
    assert found.center is not None
    assert torch.equal(found.center, W[0])
    assert found.hash == head.hash
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_a_matrix_of_others_is_a_head_of_no_names(tmp_path: Path) -> None:
    np.save(tmp_path / "plain.npy", W.double().numpy())
    save_file({"head.weight": W.half()}, tmp_path / "one.safetensors")
    for name in ("plain.npy", "one.safetensors"):
        head = read_head(str(tmp_path / name))
        assert torch.equal(head.weight, W)
        assert (head.bias, head.scale, head.normalize, head.class_ids) == (None, 1, "none", None)


def test_the_hash_covers_what_logits_depend_on_and_no_names() -> None:
    heads = [
        Head(W),
        Head(W + 1),
        Head(W, scale=2),
        Head(W, normalize="embeddings"),
        Head(W, normalize="rows"),
        Head(W, normalize="both"),
        Head(W, torch.zeros(3)),
        Head(W, center=torch.zeros(4)),
    ]
    assert len({head.hash for head in heads}) == len(heads)
    assert Head(W, class_name="a", class_ids=("x", "y", "z")).hash == Head(W).hash


Tensors = dict[str, torch.Tensor]


@pytest.mark.parametrize(
    ("tensors", "metadata", "words"),
    [
        ({"weight": W[0]}, {}, "a weight of [4]"),
        ({"weight": W[:1]}, {}, "a weight of [1, 4]"),
        ({"weight": W / 0}, {}, "not finite"),
        ({"weight": W, "scale": torch.tensor(-1.0)}, {}, "a scale that is not above 0"),
        ({"weight": W, "scale": torch.ones(3)}, {}, "a scale of [3]"),
        ({"weight": W, "bias": torch.ones(4)}, {}, "a bias of [4] for 3 classes"),
        ({"weight": W, "center": torch.ones(3)}, {}, "a center of [3] for embeddings of 4"),
        ({"weight": W, "other": W}, {}, "tensors other, weight"),
        ({"bias": W, "scale": W}, {}, "tensors bias, scale"),
        ({"weight": W}, {"normalize": "rwos"}, "normalize: rwos"),
        ({"weight": W}, {"classes": '["a", "b"]'}, "2 distinct names for 3 classes"),
        ({"weight": W}, {"classes": '["a", "b", "b"]'}, "2 distinct names for 3 classes"),
        ({"weight": W}, {"classes": '{"a": 1}'}, "no JSON list of texts"),
        ({"weight": W}, {"made_from": '["texts"]'}, "made_from that is no JSON object"),
        ({"weight": W * torch.tensor([[1.0], [0.0], [1.0]])}, {"normalize": "rows"}, "a row of zeros"),
    ],
)
def test_what_is_no_head_is_refused(tensors: Tensors, metadata: dict[str, str], words: str, tmp_path: Path) -> None:
    save_file({name: each.clone() for name, each in tensors.items()}, tmp_path / "head.safetensors", metadata)
    with pytest.raises(CheckpointError) as caught:
        read_head(str(tmp_path / "head.safetensors"))
    assert words in str(caught.value)
    assert "head.safetensors" in str(caught.value)


def test_of_many_tensors_the_first_few_are_told(tmp_path: Path) -> None:
    save_file({f"layer{number}.weight": W.clone() for number in range(9)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"layer4.weight, …") as caught:
        read_head(str(tmp_path / "model.safetensors"))
    assert "layer5" not in str(caught.value)


def test_a_head_is_written_over_none_but_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    require_replaceable(path, OF_TEXTS)
    save_head(path, Head(W, made_from={"kind": OF_TEXTS}))
    require_replaceable(path, OF_TEXTS)
    with pytest.raises(CheckpointError, match="a head of another kind") as caught:
        require_replaceable(path, "prototypes")
    assert "a head of texts" in str(caught.value)
    save_file({"fc.weight": W.clone()}, path)
    with pytest.raises(CheckpointError, match="says nothing of its kind"):
        require_replaceable(path, OF_TEXTS)
    for content in (b"", b"no tensors"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="a file in the place of the head that is none"):
            require_replaceable(path, OF_TEXTS)


@pytest.mark.parametrize("content", [b"", b"no head", np.array(["a", "b"])])
def test_a_damaged_file_is_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "head.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(CheckpointError, match="a head cannot be read"):
        read_head(str(path))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no file of a head"):
        read_head(str(tmp_path / "none.safetensors"))
