"""Networks of torchvision, of transformers and of a recipe's author: opened as they are, or refused by name."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from tests.models.foreign_networks import (
    CLASSES,
    HERE,
    IDS,
    INPUT,
    SIDE,
    TORCHVISION,
    Small,
    fetched_torchvision,
    small,
    spread,
    torchvision_file,
    vit,
    vit_folder,
)
from tests.models.sources import offline_hub
from tinyvit_kd.config.load import validate
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.models import ModelSource, TeacherConfig
from tinyvit_kd.config.student import StudentConfig
from tinyvit_kd.errors import CheckpointError, ConfigError, TinyVitKdError
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.head import head_modules
from tinyvit_kd.models.known_network import OpenedNetwork
from tinyvit_kd.models.modelfile import ModelCard, read_card, save_model
from tinyvit_kd.models.open_network import open_source
from tinyvit_kd.models.student import open_model, student_spec
from tinyvit_kd.models.torchvision_networks import fraction
from tinyvit_kd.planning.models import planned_teacher

__all__ = ["offline_hub"]
IMAGES = torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def opened(fields: dict[str, Any] | None = None, /, embeddings: bool = False, **more: Any) -> OpenedNetwork:
    return open_source(validate(TeacherConfig, (fields or {}) | more, "here"), "teacher.", embeddings)


def answers(network: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = network.eval()(IMAGES)
    return result


@pytest.mark.parametrize("name", ["Small", "InADict"])
def test_a_function_makes_a_network_whose_answers_are_logits(name: str, tmp_path: Path) -> None:
    torch.save(small().state_dict(), tmp_path / "weights.pth")
    found = opened(call=f"{HERE}.{name}", checkpoint=tmp_path / "weights.pth", **INPUT)
    assert torch.equal(answers(found.network), answers(small()))
    assert list(found.network.state_dict()) == list(small().state_dict())
    assert (found.card.num_classes, found.card.image_size, list(found.card.mean)) == (CLASSES, SIDE, INPUT["mean"])
    assert head_modules(found.network) == ["classifier"]


def test_a_function_may_bring_the_weights() -> None:
    found = opened(call=f"{HERE}.small", kwargs={"width": 6}, **INPUT)
    assert torch.equal(answers(found.network), answers(small(width=6)))


def test_a_function_is_told_the_number_of_classes_if_it_takes_one() -> None:
    assert answers(opened(call=f"{HERE}.Small", num_classes=7, **INPUT).network).shape == (3, 7)


def test_a_function_is_found_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets_of_mine.py").write_text(f"from {HERE} import small\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    assert torch.equal(answers(opened(call="nets_of_mine.small", **INPUT).network), answers(small()))


def test_making_a_network_leaves_the_generator_and_its_mode_as_they_were() -> None:
    before = torch.get_rng_state()
    network = opened(call=f"{HERE}.Small", **INPUT).network
    assert torch.equal(before, torch.get_rng_state())
    assert all(module.training for module in network.modules())


def test_a_timm_network_that_a_function_makes_forgets_what_it_was_asked(tmp_path: Path) -> None:
    kwargs = {"depths": [1, 1, 1, 1], "embed_dims": [8, 16, 16, 32], "num_heads": [1, 1, 1, 1]}
    spec = ModelSpec(name="tiny_vit_5m_224", kwargs=kwargs)
    own = spread(build_network(spec, CLASSES, SIDE))
    torch.save(own.state_dict(), tmp_path / "weights.pth")
    call = {"call": "timm.models.tiny_vit.tiny_vit_5m_224", "kwargs": kwargs | {"num_classes": CLASSES}}
    found = opened(call, checkpoint=tmp_path / "weights.pth", **INPUT)
    assert torch.equal(answers(found.network), answers(own))
    assert head_modules(found.network) == ["head.fc"]


def test_torchvisions_weights_say_how_they_are_fed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = fetched_torchvision(tmp_path, monkeypatch)
    found = opened(torchvision=TORCHVISION, pretrained=True)
    images = torch.rand(1, 3, 224, 224)
    assert torch.equal(found.network.eval()(images), own(images))
    card = found.card
    assert (card.image_size, card.mean, card.std) == (224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (card.num_classes, card.class_name, (card.class_ids or ())[:1]) == (1000, "categories", ("tench",))
    assert (card.crop_mode, card.crop_pct, card.interpolation) == ("center", 0.875, "bilinear")
    assert found.known_from == "torchvision's IMAGENET1K_V1"


def test_a_file_for_torchvisions_network_has_its_own_classes(tmp_path: Path) -> None:
    own = torchvision_file(tmp_path / "weights.pth")
    fields = {"torchvision": TORCHVISION, "checkpoint": tmp_path / "weights.pth", "image_size": SIDE}
    found = opened(fields, num_classes=CLASSES)
    assert torch.equal(answers(found.network), answers(own))
    assert (found.card.class_ids, found.card.mean) == (None, (0.485, 0.456, 0.406))
    with pytest.raises(CheckpointError, match=r"classifier\.3\.weight is \[24, 1024\], not \[1000, 1024\]"):
        opened(fields)


def test_every_crop_of_torchvisions_is_the_one_that_is_rendered() -> None:
    models: Any = torchvision.models
    for name in models.list_models(module=models):
        for weights in models.get_model_weights(name):
            preset = weights.transforms()
            (crop,), (resized,) = preset.crop_size, preset.resize_size
            assert math.floor(crop / fraction(crop, resized)) == resized


def test_a_folder_of_transformers_says_everything(tmp_path: Path) -> None:
    own = vit_folder(tmp_path)
    found = opened(transformers=tmp_path)
    assert torch.equal(answers(found.network), own(IMAGES).logits)
    card = found.card
    assert (card.image_size, list(card.mean), list(card.std)) == (SIDE, INPUT["mean"], INPUT["std"])
    assert (card.num_classes, card.class_name, card.class_ids) == (CLASSES, "id2label", tuple(IDS))
    assert (card.crop_mode, card.crop_pct, card.interpolation) == ("squash", 1.0, "bilinear")
    assert (found.known_from, found.classes_from) == ("preprocessor_config.json", "config.json")
    assert str(tmp_path) not in json.dumps(card.architecture)


def processors() -> dict[str, tuple[Any, dict[str, Any], Any]]:
    """Preprocessing, what a card then says, and the mean that is used."""
    transformers = pytest.importorskip("transformers")
    edge, mean = {"shortest_edge": 32}, [0.1, 0.2, 0.3]
    plain = {"image_mean": mean, "image_std": [0.5] * 3}
    return {
        "cropped": (
            transformers.CLIPImageProcessor(size=edge, crop_size={"height": 16, "width": 16}, resample=3, **plain),
            {"image_size": 16, "crop_mode": "center", "crop_pct": 0.5, "interpolation": "bicubic"},
            mean,
        ),
        "ConvNeXT's": (
            transformers.ConvNextImageProcessor(size={"shortest_edge": 16}, crop_pct=0.8, **plain),
            {"image_size": 16, "crop_mode": "center", "crop_pct": 0.8, "interpolation": "bicubic"},
            mean,
        ),
        "other levels": (
            transformers.ViTImageProcessor(size={"height": 16, "width": 16}, rescale_factor=1 / 510, **plain),
            {"image_size": 16, "crop_mode": "squash", "std": (1.0, 1.0, 1.0)},
            [0.2, 0.4, 0.6],
        ),
        "any shape": (
            transformers.CLIPImageProcessor(size={"shortest_edge": 16}, do_center_crop=False, **plain),
            {"image_size": 16, "crop_mode": "center", "crop_pct": 1.0},
            mean,
        ),
        "a whole image": (
            transformers.ConvNextImageProcessor(size={"shortest_edge": 384}, crop_pct=0.8, **plain),
            {"image_size": 384, "crop_mode": "squash", "crop_pct": 1.0},
            mean,
        ),
        "divided twice": (
            transformers.EfficientNetImageProcessor(size={"height": 16, "width": 16}, resample=2, **plain),
            {"image_size": 16, "std": (0.25, 0.25, 0.25), "interpolation": "bilinear"},
            mean,
        ),
        "no normalisation": (
            transformers.ViTImageProcessor(size={"height": 16, "width": 16}, do_normalize=False),
            {"image_size": 16, "std": (1.0, 1.0, 1.0)},
            [0, 0, 0],
        ),
    }


PROCESSORS = [
    "cropped",
    "ConvNeXT's",
    "other levels",
    "any shape",
    "a whole image",
    "divided twice",
    "no normalisation",
]


@pytest.mark.parametrize("kind", PROCESSORS)
def test_what_preprocessing_does_is_measured(kind: str, tmp_path: Path) -> None:
    processor, said, mean = processors()[kind]
    vit_folder(tmp_path, processor)
    card = opened(transformers=tmp_path).card
    assert {name: getattr(card, name) for name in said} == said
    assert list(card.mean) == pytest.approx(mean, abs=1e-5)


def test_another_size_than_its_own_is_taken_where_a_network_of_transformers_can(tmp_path: Path) -> None:
    own = vit_folder(tmp_path)
    found = opened(transformers=tmp_path, image_size=32)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(found.network.eval()(images), own(images, interpolate_pos_encoding=True).logits)


def test_classes_that_nobody_named_are_not_known(tmp_path: Path) -> None:
    vit_folder(tmp_path, id2label={number: f"LABEL_{number}" for number in range(3)}, label2id={})
    assert opened(transformers=tmp_path).card.class_ids is None


def test_two_classes_of_one_name_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vit_folder(tmp_path, id2label={0: "crane", 1: "crane"}, label2id={})
    assert opened(transformers=tmp_path).card.class_ids is None
    assert "its id2label do not give each of the 2 classes a name of its own" in capsys.readouterr().err


def test_without_preprocessing_the_recipe_has_to_say_it(tmp_path: Path) -> None:
    vit_folder(tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match="nothing says what images the network takes") as caught:
        opened(transformers=tmp_path)
    assert caught.value.found == "no teacher.mean, teacher.std"
    assert opened(transformers=tmp_path, mean=INPUT["mean"], std=INPUT["std"]).card.image_size == SIDE


def test_a_name_of_the_hub_is_taken_from_its_cache(offline_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached, commit = offline_hub / "models--somebody--vit", "0" * 40
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    (cached / "snapshots").mkdir()
    own = vit_folder(cached / "snapshots" / commit)
    monkeypatch.setenv("HF_HUB_CACHE", str(offline_hub))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(offline_hub), raising=False)
    found = opened(transformers="somebody/vit")
    assert torch.equal(answers(found.network), own(IMAGES).logits)


@pytest.mark.parametrize("kind", ["call", "torchvision", "transformers"])
def test_a_network_may_be_opened_without_its_classifier(kind: str, tmp_path: Path) -> None:
    if kind == "call":
        fields, expected = {"call": f"{HERE}.small", **INPUT}, answers(small())
    elif kind == "torchvision":
        own: Any = torchvision_file(tmp_path / "weights.pth")
        fields = {"torchvision": TORCHVISION, "checkpoint": tmp_path / "weights.pth"}
        fields |= {"num_classes": CLASSES, "image_size": SIDE}
        own.classifier[3] = nn.Identity()
        expected = answers(own)
    else:
        vision: Any = vit_folder(tmp_path)
        fields, expected = {"transformers": tmp_path}, vision.vit(IMAGES).last_hidden_state[:, 0]
    found = opened(fields, embeddings=True)
    assert torch.equal(answers(found.network), expected)
    assert (found.embedding_size, found.card.num_classes) == (expected.shape[1], 0)


def test_of_a_network_of_images_and_texts_the_images_are_embedded(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tower = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    vision, text = tower | {"image_size": SIDE, "patch_size": 8}, tower | {"vocab_size": 20}
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=12)
    own = transformers.CLIPModel(config).eval()
    own.save_pretrained(tmp_path)
    found = opened(embeddings=True, transformers=tmp_path, **INPUT)
    tokens = own.vision_model(IMAGES).pooler_output
    torch.testing.assert_close(answers(found.network), own.visual_projection(tokens))
    assert found.embedding_size == 12


def test_a_plan_builds_each_kind_without_its_weights(tmp_path: Path) -> None:
    vit_folder(tmp_path)
    kinds: dict[str, dict[str, Any]] = {
        "transformers": {"transformers": str(tmp_path)},
        "torchvision": {"torchvision": TORCHVISION, "pretrained": True},
        "call": {"call": f"{HERE}.small", **INPUT},
        "a file that is to come": {"call": f"{HERE}.small", "checkpoint": str(tmp_path / "to_come"), **INPUT},
    }
    found = {name: planned_teacher(validate(TeacherConfig, each, "here"), None) for name, each in kinds.items()}
    networks = {"transformers": vit(), "call": small(), "torchvision": torchvision.models.get_model(TORCHVISION)}
    networks["a file that is to come"] = networks["call"]
    for name, planned in found.items():
        assert planned.cost.parameters == sum(each.numel() for each in networks[name].parameters())
        assert planned.cost.multiply_adds > 0


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no module": ({"call": "no_such_module.small"}, "cannot be imported", "No module named"),
    "no such function": ({"call": f"{HERE}.big"}, "cannot be imported", "big"),
    "nothing to call": ({"call": f"{HERE}.CLASSES"}, "cannot be called", "int, 24"),
    "an error": ({"call": f"{HERE}.broken", "kwargs": {"width": 3}}, "failed", "RuntimeError: no network of 3"),
    "a missing argument": ({"call": f"{HERE}.broken"}, "failed", "width"),
    "no network": ({"call": f"{HERE}.no_network"}, "returned none", "str, 'a network'"),
    "no logits": ({"call": f"{HERE}.no_logits"}, "returns no logits", "a tensor [1, 4, 16, 16]"),
    "other classes": ({"call": f"{HERE}.small", "num_classes": 5}, "another number of classes", "24 logits"),
    "another size": ({"call": f"{HERE}.small", "image_size": 2}, "does not take an image", "2 x 2 pixels"),
}


@pytest.mark.parametrize(("fields", "told", "found"), REFUSED.values(), ids=REFUSED)
def test_a_function_that_makes_no_classifier_is_refused(fields: dict[str, Any], told: str, found: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        opened(INPUT | fields)
    assert found in caught.value.found
    assert caught.value.fix or caught.value.expected


def test_what_a_functions_network_takes_has_to_be_said() -> None:
    with pytest.raises(ConfigError, match="nothing says what images") as caught:
        opened(call=f"{HERE}.small", image_size=SIDE)
    assert caught.value.found == "no teacher.mean, teacher.std"


UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "a near name": ({"torchvision": "resnet51"}, "resnet50"),
    "no classifier": ({"torchvision": "raft_small"}, "a network for something else"),
    "other weights": ({"torchvision": "resnet18", "kwargs": {"weights": "V7"}}, "IMAGENET1K_V1 or DEFAULT"),
    "classes of its own": ({"torchvision": "resnet18", "kwargs": {"num_classes": 7}}, "leave it out"),
    "an argument": ({"torchvision": "resnet18", "kwargs": {"wheels": 4}}, "wheels"),
}


@pytest.mark.parametrize(("fields", "told"), UNKNOWN.values(), ids=UNKNOWN)
def test_what_torchvision_does_not_have_is_refused(
    fields: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    with pytest.raises(ConfigError) as caught:
        opened(fields, pretrained=True)
    assert told in str(caught.value)


def unreachable(*_: Any, **__: Any) -> None:
    raise OSError("Name or service not known")


def test_weights_of_torchvisions_that_cannot_be_fetched_are_a_paragraph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    with pytest.raises(ConfigError, match="with its weights") as caught:
        opened(torchvision=TORCHVISION, pretrained=True)
    assert "Name or service not known" in caught.value.found
    assert "TORCH_HOME" in caught.value.fix


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def a_backbone(folder: Path) -> None:
    network: Any = vit()
    network.vit.save_pretrained(folder)


def of_texts(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "bert"}')


def with_code(folder: Path) -> None:
    config = {"model_type": "of_mine", "auto_map": {"AutoConfig": "mine.MyConfig"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit('run')\n")


def half(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (no_config, "no config.json in it"),
        (no_weights, "transformers cannot open it"),
        (a_backbone, "classifier.bias, classifier.weight of ViTForImageClassification are missing"),
        (of_texts, "model_type: bert"),
        (with_code, "transformers cannot open its description"),
        (half, "transformers cannot open its description"),
    ],
    ids=["no config", "no weights", "a backbone", "of texts", "code of its own", "half a file"],
)
def test_a_folder_that_holds_no_image_classifier_is_refused(spoil: Any, told: str, tmp_path: Path) -> None:
    vit_folder(tmp_path)
    spoil(tmp_path)
    with pytest.raises(TinyVitKdError) as caught:
        opened(transformers=tmp_path)
    assert told in str(caught.value)


@pytest.mark.parametrize("name", ["no/such/folder", "/nowhere/vit", "s3://bucket/vit"])
def test_a_path_that_is_no_folder_is_no_name_of_the_hub(name: str) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ConfigError, match="there is no such folder"):
        opened(transformers=name)


def test_without_the_package_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match="not installed") as caught:
        opened(transformers=tmp_path)
    assert caught.value.fix == "pip install 'tinyvit_kd[transformers]'"


def test_another_number_of_classes_than_said_is_refused(tmp_path: Path) -> None:
    vit_folder(tmp_path)
    with pytest.raises(ConfigError, match="another number of classes"):
        opened(transformers=tmp_path, num_classes=5)


WAYS: dict[str, tuple[dict[str, Any], str]] = {
    "two names": ({"name": "resnet18", "call": "a.b", "pretrained": True}, "name or call: each names a network"),
    "fetched code": ({"call": "a.b", "pretrained": True}, "call brings its own weights"),
    "two weights": ({"transformers": "a", "checkpoint": "b"}, "checkpoint or transformers"),
    "neither": ({"torchvision": "resnet18"}, "give checkpoint"),
    "arguments": ({"transformers": "a", "kwargs": {"depth": 1}}, "leave kwargs out"),
}


@pytest.mark.parametrize(("fields", "told"), WAYS.values(), ids=WAYS)
def test_ways_that_exclude_each_other_are_mistakes_of_the_recipe(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(TeacherConfig, fields, "here")
    assert told in str(caught.value)


@pytest.fixture
def made_by_code(tmp_path: Path) -> Path:
    """A model file as a run of a student that code made leaves it."""
    spec = ModelSpec(call=f"{HERE}.Small", kwargs={"width": 6})
    network = spread(Small(width=6))
    card = ModelCard(
        architecture=spec.model_dump(mode="json"), num_classes=CLASSES, image_size=SIDE, mean=(0, 0, 0), std=(1, 1, 1)
    )
    save_model(tmp_path / "model.safetensors", network.state_dict(), card)
    return tmp_path


def test_a_model_file_imports_nothing_that_the_recipe_does_not_name(
    made_by_code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("it was imported")

    monkeypatch.setattr("tinyvit_kd.models.called.resolve", refuse)
    for call in (
        lambda: open_source(ModelSource(model=str(made_by_code))),
        lambda: opened(checkpoint=made_by_code),
        lambda: open_model(made_by_code),
    ):
        with pytest.raises(CheckpointError, match="names a function that makes its network") as caught:
            call()
        assert f"call to {HERE}.Small" in caught.value.fix
    card = read_card(made_by_code)
    with pytest.raises(CheckpointError, match="names a function") as caught:
        student_spec(StudentConfig(init_from=str(made_by_code)), card)
    assert "set student.call" in caught.value.fix


def test_a_model_file_is_opened_where_the_recipe_names_its_function(made_by_code: Path) -> None:
    network, card = open_model(made_by_code, call=f"{HERE}.Small")
    assert torch.equal(answers(network), answers(spread(Small(width=6))))
    assert card.num_classes == CLASSES
    spec = student_spec(StudentConfig(init_from=str(made_by_code), call=f"{HERE}.Small"), card)
    assert spec.kwargs == {"width": 6}


def test_fields_of_specifications_without_code_are_those_of_before() -> None:
    assert list(ModelSpec(name="resnet18").model_dump()) == ["name", "tiny_vit", "drop_path_rate", "kwargs"]
    assert "call" not in StudentConfig(name="resnet18").model_dump()
