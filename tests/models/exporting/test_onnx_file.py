"""An ONNX file answers as the network under ONNX Runtime, for any number of images, and says what it is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.models.exporting.networks import DEIT, TINY_VIT, deployed, made
from tests.models.exporting.onnx_here import NEEDS_ONNX
from tinyvit_kd.errors import CheckpointError, ConfigError
from tinyvit_kd.models.exporting import onnx_file
from tinyvit_kd.models.exporting.deployed import DeployedNetwork, InputKind
from tinyvit_kd.models.exporting.description import Description
from tinyvit_kd.models.exporting.onnx_file import OPSET, open_onnx, save_onnx

pytestmark = NEEDS_ONNX
CPU = torch.device("cpu")


def written(network: DeployedNetwork, file: Path, **options: Any) -> Description:
    """Write an ONNX file; returns what it says of itself."""
    description = Description(
        card=network.card, input_kind=network.input_kind, class_names=tuple("abcdefg"), model_card="# A card\n"
    )
    assert save_onnx(network, description, file, **options) <= 1e-4
    return description


def largest_difference(network: DeployedNetwork, file: Path, counts: Sequence[int] = (1, 3, 8)) -> float:
    """Of two logits, over batches of so many images that the exporter has not seen."""
    found, _ = open_onnx(file, CPU)
    differences = []
    for count in counts:
        images = network.sample_images(count, seed=10 + count)
        with torch.inference_mode():
            differences.append(float((found(images) - network(images)).abs().max()))
    return max(differences)


def test_a_tiny_vit_answers_the_same_and_says_what_it_is(tmp_path: Path) -> None:
    import onnx

    network, file = deployed(TINY_VIT, 32), tmp_path / "tiny.onnx"
    description = written(network, file)
    assert largest_difference(network, file) <= 1e-4
    assert open_onnx(file, CPU)[1] == description
    content = onnx.load(file)
    onnx.checker.check_model(content, full_check=True)
    assert [each.version for each in content.opset_import if not each.domain] == [OPSET]
    assert {each.key: each.value for each in content.metadata_props} == description.as_texts()
    shapes = {
        each.name: [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim]
        for each in (*content.graph.input, *content.graph.output)
    }
    assert shapes == {"images": ["batch", 3, 32, 32], "logits": ["batch", 7]}
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]


def test_two_heads_answer_together_also_where_the_weights_are_in_a_file_of_their_own(tmp_path: Path) -> None:
    network, file = deployed(DEIT, 32, "normalized"), tmp_path / "deit.onnx"
    written(network, file, one_file=0)
    assert largest_difference(network, file) <= 1e-4
    assert {path.name for path in tmp_path.iterdir()} == {"deit.onnx", "deit.onnx.data"}


def test_a_file_that_answers_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    means, card = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), made(TINY_VIT, 8, num_classes=3)[1]
    converted = onnx_file._converted(DeployedNetwork(nn.Sequential(*means, nn.Sigmoid()), card, "uint8").eval())
    monkeypatch.setattr(onnx_file, "_converted", lambda _: converted)
    network = DeployedNetwork(means, card, "uint8").eval()
    with pytest.raises(CheckpointError, match="the ONNX file does not answer as the network does"):
        save_onnx(network, Description(card=network.card, input_kind="uint8"), tmp_path / "means.onnx")


def foreign(file: Path, texts: dict[str, str], output: str = "logits") -> Path:
    """An ONNX file of somebody else's: the mean of each channel."""
    import onnx

    mean = onnx.helper.make_node("GlobalAveragePool", ["images"], [output])
    given = onnx.helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["n", 3, 8, 8])
    found = onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["n", 3, 1, 1])
    graph = onnx.helper.make_graph([mean], "other", [given], [found])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.helper.set_model_props(model, texts)
    onnx.save(model, file)
    return file


def test_a_file_that_does_not_say_how_it_is_fed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not say how images are fed to it"):
        open_onnx(foreign(tmp_path / "other.onnx", {"author": "somebody"}), CPU)


def test_a_file_that_does_not_take_what_it_says_fails_in_one_paragraph(tmp_path: Path) -> None:
    _, card = made(TINY_VIT, 32)
    texts = Description(card=card, input_kind="uint8").as_texts()
    network, _ = open_onnx(foreign(tmp_path / "other.onnx", texts), CPU)
    with pytest.raises(CheckpointError, match="ONNX Runtime cannot run the network"):
        network(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize("content", [b"", b"no network", bytes(1000)], ids=["empty", "text", "zeros"])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "damaged.onnx"
    file.write_bytes(content)
    with pytest.raises(CheckpointError):
        open_onnx(file, CPU)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="an ONNX file is missing"):
        open_onnx(tmp_path / "none.onnx", CPU)


@pytest.mark.parametrize("package", ["onnxruntime", "onnxscript"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    network = deployed(TINY_VIT, 32)
    with pytest.raises(ConfigError) as caught:
        save_onnx(network, Description(card=network.card, input_kind="uint8"), tmp_path / "tiny.onnx")
    assert caught.value.fix == "pip install 'tinyvit_kd[onnx]'"
    assert package in caught.value.found


# What the published networks need, at their sizes; they have fewer blocks, which repeat the operations of the others.

SHALLOW_TINY_VIT: dict[str, Any] = {"name": "tiny_vit_5m_224", "kwargs": {"depths": [1, 1, 1, 1]}}
TWO_HEADS: dict[str, Any] = {"name": "deit_tiny_distilled_patch16_224", "kwargs": {"depth": 2}}
SHALLOW_CONVNET: dict[str, Any] = {"name": "resnet10t"}
LARGE: dict[str, tuple[dict[str, Any], int, InputKind]] = {
    "TinyViT at 224": (SHALLOW_TINY_VIT, 224, "uint8"),
    "TinyViT at 384": (SHALLOW_TINY_VIT, 384, "normalized"),
    "DeiT with two heads at 224": (TWO_HEADS, 224, "uint8"),
    "DeiT with two heads at 384": (TWO_HEADS, 384, "normalized"),
    "a convnet at 224": (SHALLOW_CONVNET, 224, "uint8"),
    "a convnet at 384": (SHALLOW_CONVNET, 384, "normalized"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "size", "kind"), LARGE.values(), ids=LARGE)
def test_published_networks_answer_the_same(spec: dict[str, Any], size: int, kind: InputKind, tmp_path: Path) -> None:
    network, file = deployed(spec, size, kind), tmp_path / "network.onnx"
    written(network, file)
    assert largest_difference(network, file, (1, 4)) <= 1e-4
    weights = sum(tensor.nbytes for tensor in network.state_dict().values())
    assert file.stat().st_size < 1.25 * weights, "attention biases are not spread out"
