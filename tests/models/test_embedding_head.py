"""A head on a backbone's embedding answers as numpy computes it, whatever library the backbone is of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch.nn import functional as F

from tests.models.networks import MEAN, STD, saved, views
from tests.models.sources import offline_hub
from tests.models.towers import SIDE, WIDTH, open_clip_folder, transformers_folder
from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.errors import CheckpointError, ConfigError, TinyVitKdError
from tinyvit_kd.models.head_file import OF_TEXTS, Head, save_head
from tinyvit_kd.models.teacher import Teacher, build_teacher

__all__ = ["offline_hub"]
CPU = torch.device("cpu")
WIDE = 40  # of ``saved``'s embedding
Numbers = torch.Generator


def head_of(width: int, classes: int = 6, **fields: Any) -> Head:
    return Head(torch.randn(classes, width, generator=Numbers().manual_seed(0)), **fields)


def written(folder: Path, head: Head, name: str = "head.safetensors") -> str:
    save_head(folder / name, head)
    return str(folder / name)


def built(**fields: Any) -> Teacher:
    return build_teacher(TeacherConfig(**fields), CPU, "float32")


def normalised(images: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    return (images.float() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


@pytest.mark.parametrize("normalize", ["none", "embeddings", "rows", "both"])
@pytest.mark.parametrize(
    ("bias", "center"), [(None, None), (torch.tensor([1.0, -2, 3, 0, 0, 5]), None), (None, torch.linspace(-1, 1, WIDE))]
)
def test_logits_are_what_numpy_computes(
    normalize: Any, bias: torch.Tensor | None, center: torch.Tensor | None, tmp_path: Path
) -> None:
    network: Any = saved(tmp_path / "model", 4)
    head = head_of(WIDE, scale=7.5, normalize=normalize, bias=bias, center=center)
    teacher = built(checkpoint=tmp_path / "model", head=written(tmp_path, head))
    network.reset_classifier(0)
    with torch.inference_mode():
        e = network(normalised(views(), MEAN, STD)).double().numpy()
        w = head.weight.double().numpy()
        e = e if center is None else e - center.double().numpy()
        if normalize in ("embeddings", "both"):
            e = e / np.linalg.norm(e, axis=1, keepdims=True)
        if normalize in ("rows", "both"):
            w = w / np.linalg.norm(w, axis=1, keepdims=True)
        expected = 7.5 * e @ w.T + (0 if bias is None else bias.double().numpy())
        np.testing.assert_allclose(teacher(views()).numpy(), expected, rtol=1e-3, atol=1e-4)
    assert (teacher.facts.num_classes, teacher.facts.name) == (6, "TinyVit")


def test_the_recipe_may_give_scale_and_normalisation_of_a_plain_matrix(tmp_path: Path) -> None:
    saved(tmp_path / "model", 4)
    head = head_of(WIDE, scale=10.0, normalize="both")
    np.save(tmp_path / "head.npy", head.weight.numpy())
    options = {"head_scale": 10, "head_normalize": "both"}
    one = built(checkpoint=tmp_path / "model", head=written(tmp_path, head))
    two = built(checkpoint=tmp_path / "model", head=tmp_path / "head.npy", **options)
    with torch.inference_mode():
        assert torch.equal(one(views()), two(views()))
    assert one.weights_hash == two.weights_hash
    assert one.facts.head == two.facts.head


def test_the_head_is_in_the_weights_hash_and_its_classes_are_the_teachers(tmp_path: Path) -> None:
    saved(tmp_path / "model", 4)
    names = tuple("abcdef")
    one = built(
        checkpoint=tmp_path / "model",
        head=written(tmp_path, head_of(WIDE, normalize="both", class_name="own", class_ids=names)),
    )
    assert (one.facts.class_name, one.facts.class_ids) == ("own", names)
    changes: list[dict[str, Any]] = [{"scale": 2.0}, {"normalize": "none"}, {"bias": torch.ones(6)}]
    for number, changed in enumerate(changes):
        head = replace(head_of(WIDE, normalize="both"), **changed)
        other = built(checkpoint=tmp_path / "model", head=written(tmp_path, head, f"{number}.safetensors"))
        assert other.weights_hash != one.weights_hash
        assert other.facts.head != one.facts.head


@pytest.mark.parametrize(
    ("name", "arguments", "width"),
    [
        ("vit_tiny_patch16_224", {"patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}, 24),
        ("vit_tiny_patch16_224", {"embed_dim": 24, "depth": 1, "num_heads": 2, "global_pool": "avg"}, 24),
        ("deit_tiny_distilled_patch16_224", {"embed_dim": 24, "depth": 1, "num_heads": 2}, 24),
        ("resnet18", {}, 512),
        ("mobilenetv3_small_050", {}, 1024),
        ("convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 16]}, 16),
        ("efficientnet_lite0", {}, 1280),
        ("levit_128s", {}, 384),
    ],
)
def test_timms_networks_give_their_pooled_features(
    name: str, arguments: dict[str, Any], width: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    size = 224 if "levit" in name else 32
    sized = {"img_size": size} if name.startswith(("vit", "deit")) else {}
    network = timm.create_model(name, **arguments, **sized).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    teacher = built(
        name=name,
        checkpoint=tmp_path / "weights.safetensors",
        kwargs=arguments,
        image_size=size,
        head=written(tmp_path, head_of(width)),
    )
    images = views(size=size)
    with torch.inference_mode():
        inputs = normalised(images, teacher.facts.mean, teacher.facts.std)
        embeddings = network.forward_head(network.forward_features(inputs), pre_logits=True)
        if isinstance(embeddings, tuple):
            embeddings = (embeddings[0] + embeddings[1]) / 2
        expected = F.linear(embeddings, head_of(width).weight)
        torch.testing.assert_close(teacher(images), expected, rtol=1e-3, atol=1e-3)


def test_a_backbones_file_without_a_classifier_is_enough(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0, **arguments)
    save_file(network.state_dict(), tmp_path / "backbone.safetensors")
    source = {"name": "vit_tiny_patch16_224", "checkpoint": tmp_path / "backbone.safetensors", "image_size": 32}
    teacher = built(**source, kwargs=arguments, head=written(tmp_path, head_of(24)))
    with torch.inference_mode():
        embeddings = network.eval()(normalised(views(), teacher.facts.mean, teacher.facts.std))
        torch.testing.assert_close(teacher(views()), F.linear(embeddings, head_of(24).weight), rtol=1e-4, atol=1e-4)
    with pytest.raises(CheckpointError, match="the weights have no classifier"):
        built(**source, kwargs=arguments)


CLIP_LIKE: dict[str, Any] = {"patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2, "num_classes": 12}


def clip_like(folder: Path) -> tuple[Any, dict[str, Any]]:
    """A network whose classifier is a projection to 12, as those of timm's CLIP are, and how a recipe names it."""
    torch.manual_seed(1)
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, **CLIP_LIKE).eval()
    save_file(network.state_dict(), folder / "clip.safetensors")
    source = {"name": "vit_tiny_patch16_224", "checkpoint": folder / "clip.safetensors", "image_size": 32}
    return network, source | {"kwargs": CLIP_LIKE}


def test_the_embedding_is_the_output_where_the_head_has_its_width_alone(tmp_path: Path) -> None:
    network, source = clip_like(tmp_path)
    teacher = built(**source, head=written(tmp_path, head_of(12)))
    pooled = built(**source, head=written(tmp_path, head_of(24)))
    with torch.inference_mode():
        inputs = normalised(views(), teacher.facts.mean, teacher.facts.std)
        torch.testing.assert_close(teacher(views()), F.linear(network(inputs), head_of(12).weight))
        features = network.forward_head(network.forward_features(inputs), pre_logits=True)
        torch.testing.assert_close(pooled(views()), F.linear(features, head_of(24).weight))


@pytest.mark.parametrize(
    ("kind", "embedding", "as_output"),
    [
        ("prototypes", "auto", False),
        (OF_TEXTS, "auto", True),
        (OF_TEXTS, "pooled", False),
        ("prototypes", "output", True),
    ],
)
def test_where_both_have_the_heads_width_texts_are_compared_with_the_output(
    kind: str, embedding: str, as_output: bool, tmp_path: Path
) -> None:
    network = timm.create_model("vit_tiny_patch16_224", img_size=32, **CLIP_LIKE | {"embed_dim": 12}).eval()
    save_file(network.state_dict(), tmp_path / "clip.safetensors")
    head = written(tmp_path, head_of(12, made_from={"kind": kind}))
    source = {"name": "vit_tiny_patch16_224", "checkpoint": tmp_path / "clip.safetensors", "image_size": 32}
    teacher = built(**source, kwargs=CLIP_LIKE | {"embed_dim": 12}, head=head, embedding=embedding)
    names = teacher.network.state_dict()
    assert ("backbone.head.weight" in names) == as_output


def test_a_projection_that_is_used_must_be_in_the_file(tmp_path: Path) -> None:
    network, source = clip_like(tmp_path)
    state = {name: each for name, each in network.state_dict().items() if not name.startswith("head.")}
    save_file(state, tmp_path / "clip.safetensors")
    with pytest.raises(CheckpointError, match="no classifier"):
        built(**source, head=written(tmp_path, head_of(12)))


def test_an_image_tower_of_open_clip_gives_its_projected_embedding(tmp_path: Path) -> None:
    network = open_clip_folder(tmp_path / "clip")
    head = head_of(WIDTH, scale=100.0, normalize="both")
    teacher = built(open_clip=f"local-dir:{tmp_path / 'clip'}", head=written(tmp_path, head))
    facts = teacher.facts
    assert (facts.image_size, facts.mean, facts.std) == (SIDE, (0.5, 0.4, 0.3), (0.25, 0.26, 0.27))
    images = views(size=SIDE)
    with torch.inference_mode():
        embeddings = F.normalize(network.encode_image(normalised(images, facts.mean, facts.std)), dim=1)
        expected = 100 * F.linear(embeddings, F.normalize(head.weight, dim=1))
        torch.testing.assert_close(teacher(images), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_an_image_tower_of_transformers_gives_its_projected_embedding(kind: str, tmp_path: Path) -> None:
    network = transformers_folder(tmp_path / "model", kind)
    head = head_of(WIDTH, scale=100.0, normalize="both")
    source: dict[str, Any] = {"image_size": SIDE, "mean": (0.5, 0.4, 0.3), "std": (0.25, 0.26, 0.27)}
    teacher = built(transformers=tmp_path / "model", head=written(tmp_path, head), **source)
    images = views(size=SIDE)
    with torch.inference_mode():
        given = network.get_image_features(pixel_values=normalised(images, source["mean"], source["std"]))
        embeddings = given if isinstance(given, torch.Tensor) else given.pooler_output
        expected = 100 * F.linear(F.normalize(embeddings, dim=1), F.normalize(head.weight, dim=1))
        torch.testing.assert_close(teacher(images), expected, rtol=1e-4, atol=1e-3)
    assert teacher.facts.name == type(network).__name__


def pooled_resnet() -> torch.nn.Module:
    """A network of a recipe's author, whose output is an embedding."""
    network: torch.nn.Module = torchvision.models.resnet18(weights=None)
    network.fc = torch.nn.Identity()
    return network


def test_networks_of_torchvision_and_of_functions_take_a_head(tmp_path: Path) -> None:
    network = torchvision.models.resnet18(weights=None).eval()
    files = {"whole": network.state_dict(), "of_6_classes": network.state_dict()}
    files["of_6_classes"] |= {"fc.weight": torch.ones(6, 512), "fc.bias": torch.ones(6)}
    network.fc = torch.nn.Identity()
    files["body"] = network.state_dict()
    for name, state in files.items():
        save_file(state, tmp_path / f"{name}.safetensors")
    source: dict[str, Any] = {"image_size": 32, "mean": MEAN, "std": STD, "head": written(tmp_path, head_of(512))}
    made: list[dict[str, Any]] = [
        {"torchvision": "resnet18", "checkpoint": tmp_path / f"{name}.safetensors"} for name in files
    ]
    made.append({"call": f"{__name__}.pooled_resnet", "checkpoint": tmp_path / "body.safetensors"})
    with torch.inference_mode():
        expected = F.linear(network(normalised(views(), MEAN, STD)), head_of(512).weight)
        for fields in made:
            torch.testing.assert_close(built(**fields, **source)(views()), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, ["another width", "a head of 31", "40 from TinyVit", "teacher.head"]),
        ({"embedding": "output"}, ["another width", "4 from TinyVit"]),
        ({"head": "none.safetensors"}, ["there is no file of a head", "none.safetensors"]),
    ],
)
def test_what_does_not_fit_is_told(fields: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    saved(tmp_path / "model", 4)
    source = {"checkpoint": tmp_path / "model", "head": written(tmp_path, head_of(31))}
    with pytest.raises(TinyVitKdError) as caught:
        built(**source | fields)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.usefixtures("offline_hub")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no such model", "open_clip cannot create the network"),
        ("ViT-B-32", "nothing says which weights"),
        ("ViT-B-32:no_such_tag", "open_clip cannot create the network"),
        ("local-dir:nowhere", "open_clip cannot create the network"),
        ("folder", "a folder of open_clip's is named with local-dir:"),
    ],
)
def test_open_clip_s_refusals_are_told(name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    head = written(tmp_path, head_of(512))
    with pytest.raises(ConfigError, match=words) as caught:
        built(open_clip=name, head=head, **({"checkpoint": head} if "no such" in name else {}))
    assert f"teacher.open_clip: {name}" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"checkpoint": "x", "head_scale": 2}, "head_scale needs head"),
        ({"checkpoint": "x", "embedding": "output"}, "embedding needs head"),
        ({"checkpoint": "x", "head": "y", "num_classes": 5}, "leave num_classes out"),
        ({"open_clip": "x"}, "open_clip needs head"),
        ({"open_clip": "x", "name": "resnet18", "head": "y"}, "give open_clip or name"),
        ({"open_clip": "x", "head": "y", "kwargs": {"a": 1}}, "leave kwargs out"),
    ],
)
def test_fields_that_make_no_sense_together_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TeacherConfig(**fields)
