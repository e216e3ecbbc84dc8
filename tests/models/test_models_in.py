"""Every kind of trained network comes in through every door, unchanged; what does not fit is refused by name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.models import sources
from tests.models.doors import DOORS
from tests.models.networks import MEAN
from tests.models.sources import CLASSES, DEIT, KWARGS, NAMES, SIDE, TINY_VIT, Source, offline_hub
from tests.models.test_foreign_checkpoints import Call
from tinyvit_kd.config.models import ModelSource
from tinyvit_kd.errors import CheckpointError, ConfigError, TinyVitKdError
from tinyvit_kd.models.open_network import open_network, open_source

__all__ = ["offline_hub"]
Door = Callable[[Source], nn.Module]
each_door = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)


@each_door
@pytest.mark.parametrize("make", sources.SOURCES.values(), ids=sources.SOURCES)
def test_a_network_answers_as_its_author_has_it(offline_hub: Path, make: Callable[[Path], Source], door: Door) -> None:
    source = make(offline_hub)
    images = torch.randn(2, 3, *([160, 160] if source.file is None else [SIDE, SIDE]))
    with torch.inference_mode():
        assert torch.equal(door(source).eval()(images), source.network(images))


@pytest.mark.parametrize("make", sources.SOURCES.values(), ids=sources.SOURCES)
def test_what_has_to_be_known_of_a_network_is_known(offline_hub: Path, make: Callable[[Path], Source]) -> None:
    source = make(offline_hub)
    _, card = open_network(ModelSource(model=source.file, **source.named))
    own: Any = source.network
    assert (card.num_classes, tuple(card.mean), tuple(card.std)) == (own.num_classes, source.mean, source.std)
    assert card.image_size == (160 if source.file is None else SIDE)
    assert timm.is_model(str(card.spec.name).partition(".")[0])


def asked(source: Source, **fields: Any) -> tuple[Any, str]:
    opened = open_source(ModelSource(model=source.file, **source.named | fields))
    return opened.card, opened.known_from


def test_the_recipe_comes_before_the_card_before_the_description_before_timm(tmp_path: Path) -> None:
    for name in ("run", "theirs", "plain"):
        (tmp_path / name).mkdir()
    run, theirs = sources.exported_folder(tmp_path / "run"), sources.timms_folder(tmp_path / "theirs")
    (tmp_path / "run" / "config.json").write_text('{"architecture": "no such network"}')
    plain = replace(sources.plain_safetensors(tmp_path / "plain"), named={"name": DEIT, "kwargs": KWARGS[DEIT]})
    found = {
        "card": asked(run),
        "description": asked(theirs),
        "timm": asked(plain, num_classes=CLASSES, image_size=SIDE),
        "recipe": asked(theirs, mean=(0.1, 0.2, 0.3), std=(1, 1, 1)),
    }
    assert {name: (card.mean, known_from) for name, (card, known_from) in found.items()} == {
        "card": (MEAN, "the file's card"),
        "description": (MEAN, "config.json"),
        "timm": ((0.485, 0.456, 0.406), "timm"),
        "recipe": ((0.1, 0.2, 0.3), "config.json"),
    }
    assert [card.crop_pct for card, _ in found.values()] == [None, 0.5, 0.9, 0.5]
    assert found["description"][0].class_ids == tuple(NAMES)


def test_a_networks_size_may_be_the_recipes(tmp_path: Path) -> None:
    card, _ = asked(sources.exported_folder(tmp_path), image_size=48)
    network, _ = open_network(ModelSource(model=tmp_path, image_size=48))
    assert card.image_size == 48
    assert network(torch.zeros(1, 3, 48, 48)).shape == (1, CLASSES)


def changed(source: Source, change: Callable[[dict[str, torch.Tensor]], object]) -> Source:
    """A file whose tensors were changed, without its card."""
    assert source.file is not None
    state = load_file(source.file)
    change(state)
    save_file(state, source.file)
    return source


CHANGES: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], str]] = {
    "one too many": (lambda state: state.update(extra=torch.ones(1)), "extra is unexpected"),
    "one missing": (lambda state: state.pop("blocks.0.attn.qkv.weight"), "blocks.0.attn.qkv.weight is missing"),
    "another shape": (lambda state: state.update(cls_token=torch.ones(3)), "cls_token is [3], not [1, 1, 24]"),
    "another block": (
        lambda state: state.update({f"blocks.7.norm{number}.bias": torch.ones(1) for number in range(12)}),
        "blocks.7.norm5.bias is unexpected; and 4 more unexpected",
    ),
}


@each_door
@pytest.mark.parametrize(("change", "told"), CHANGES.values(), ids=CHANGES)
def test_tensors_that_do_not_fit_are_listed_and_never_ignored(
    tmp_path: Path, change: Any, told: str, door: Door
) -> None:
    source = changed(sources.plain_safetensors(tmp_path), change)
    with pytest.raises(CheckpointError, match="another network") as caught:
        door(source)
    assert told in caught.value.found
    assert caught.value.where == str(source.file)


@pytest.mark.parametrize(
    "name", ["resnet10t", "tf_efficientnet_lite0", "convnext_atto", "swin_tiny_patch4_window7_224"]
)
def test_no_translation_of_timms_loses_a_tensor_that_does_not_fit(name: str, tmp_path: Path) -> None:
    state = timm.create_model(name, num_classes=CLASSES).state_dict()
    save_file(state | {"extra.weight": torch.ones(1)}, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"extra\.weight is unexpected"):
        open_network(ModelSource(model=tmp_path / "weights.safetensors", name=name, num_classes=CLASSES))


@each_door
def test_a_file_that_pickles_more_than_tensors_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: Door
) -> None:
    monkeypatch.chdir(tmp_path)
    source = sources.official_deit(tmp_path)
    state = source.network.state_dict()
    torch.save({"model": state, "hook": Call(os.system, "touch exploded")}, tmp_path / "deit.pth")
    with pytest.raises(CheckpointError, match="more than weights and settings") as caught:
        door(source)
    assert "posix.system" in caught.value.found
    assert "docs/MODELS.md" in caught.value.fix
    assert not (tmp_path / "exploded").exists()


@each_door
def test_a_file_that_says_nothing_needs_a_name(tmp_path: Path, door: Door) -> None:
    source = replace(sources.plain_safetensors(tmp_path), named={})
    with pytest.raises(CheckpointError, match="does not say which network it holds") as caught:
        door(source)
    assert "name" in caught.value.fix


@each_door
def test_another_networks_name_is_refused_by_what_differs(tmp_path: Path, door: Door) -> None:
    source = sources.plain_safetensors(tmp_path)
    with pytest.raises(CheckpointError, match="another network") as caught:
        door(replace(source, named=source.named | {"name": TINY_VIT, "kwargs": KWARGS[TINY_VIT]}))
    assert "patch_embed.conv1.conv.weight is missing" in caught.value.found
    assert "blocks.0.attn.proj.bias is unexpected" in caught.value.found


@pytest.mark.parametrize("make", sources.FILES.values(), ids=sources.FILES)
@pytest.mark.parametrize("door", ["evaluate", "teacher"])
def test_another_number_of_classes_than_the_files_is_refused(
    make: Callable[[Path], Source], door: str, tmp_path: Path
) -> None:
    source = make(tmp_path)
    with pytest.raises(CheckpointError, match=rf"is \[{CLASSES}, \d+\], not \[7, \d+\]"):
        DOORS[door](replace(source, named=source.named | {"num_classes": 7}))


@pytest.mark.parametrize("door", ["evaluate", "teacher"])
def test_a_fetched_file_that_does_not_fit_its_name_is_refused_by_what_differs(offline_hub: Path, door: str) -> None:
    source = sources.pretrained_name(offline_hub)
    snapshot = next(offline_hub.glob("models--*/snapshots/*/model.safetensors"))
    state = {name: value for name, value in load_file(snapshot).items() if not name.startswith("head.")}
    save_file(state, snapshot)
    with pytest.raises(ConfigError, match="pretrained weights") as caught:
        DOORS[door](source)
    assert caught.value.found == "the weights do not fit: head.weight is missing; head.bias is missing"


@pytest.mark.parametrize("door", ["evaluate", "teacher"])
def test_a_backbone_answers_nothing(tmp_path: Path, door: str) -> None:
    backbone = timm.create_model("test_vit", num_classes=0)
    save_file(backbone.state_dict(), tmp_path / "weights.safetensors")
    named = {"name": "test_vit", "kwargs": {"num_classes": 0}}
    with pytest.raises(CheckpointError, match="no classifier"):
        DOORS[door](Source(backbone, tmp_path / "weights.safetensors", named))


@each_door
def test_an_argument_that_a_network_has_not_is_told_as_such(offline_hub: Path, door: Door) -> None:
    source = sources.pretrained_name(offline_hub)
    with pytest.raises(ConfigError, match="pretrained weights") as caught:
        door(replace(source, named=source.named | {"kwargs": {"wheels": 4}}))
    assert "wheels" in caught.value.found
    assert "kwargs" in caught.value.fix


@each_door
@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "hf-hub:somebody/something"])
def test_a_name_in_place_of_a_path_is_told_as_such(name: str, door: Door) -> None:
    with pytest.raises(CheckpointError, match="a network of that name") as caught:
        door(Source(nn.Linear(1, 1), Path(name)))
    assert "pretrained" in caught.value.fix


REFUSED_NAMES: dict[str, tuple[str, str, str]] = {
    "not fetched before": ("test_resnet.r160_in1k", "cached", "HF_HOME"),
    "unknown": ("resnet81", "timm knows no network of this name", "lists the names"),
    "without weights": ("coatnet_0_224", "timm has no weights of coatnet_0_224", "a local file"),
    "unknown weights": ("resnet18.mine", "timm has no weights of resnet18 with the tag mine", "choose one"),
}


@each_door
@pytest.mark.parametrize(("name", "found", "fix"), REFUSED_NAMES.values(), ids=REFUSED_NAMES)
@pytest.mark.usefixtures("offline_hub")
def test_a_name_that_gives_no_weights_is_a_paragraph(name: str, found: str, fix: str, door: Door) -> None:
    with pytest.raises(ConfigError, match="pretrained weights") as caught:
        door(Source(nn.Linear(1, 1), None, {"name": name, "pretrained": True}))
    assert found in caught.value.found.replace("local cache", "cached")
    assert fix in caught.value.fix
    assert name in caught.value.where


def test_close_names_are_offered() -> None:
    with pytest.raises(ConfigError) as caught:
        open_network(ModelSource(name="tiny_vit_5m_244", pretrained=True))
    assert "tiny_vit_5m_224" in caught.value.expected


@each_door
def test_the_classes_of_fetched_weights_are_their_own(offline_hub: Path, door: Door) -> None:
    """timm would draw a head at random, and let everything that does not fit go unchecked."""
    source = sources.pretrained_name(offline_hub)
    with pytest.raises(ConfigError, match="classes of pretrained weights"):
        door(replace(source, named=source.named | {"kwargs": {"num_classes": 7}}))


@pytest.mark.parametrize("door", ["evaluate", "teacher"])
def test_a_number_of_classes_that_is_not_the_fetched_heads_is_refused(offline_hub: Path, door: str) -> None:
    source = sources.pretrained_name(offline_hub)
    with pytest.raises(ConfigError, match="another number of classes") as caught:
        DOORS[door](replace(source, named=source.named | {"num_classes": 7}))
    assert caught.value.expected == "1000"


def test_fetching_leaves_the_generator_as_it_was(offline_hub: Path) -> None:
    source = sources.pretrained_name(offline_hub)
    before = torch.get_rng_state()
    DOORS["student"](source)
    assert torch.equal(before, torch.get_rng_state())


def description(folder: Path, **changes: Any) -> Path:
    """Change the description in a folder of timm's; a change that is None takes a field away."""
    sources.timms_folder(folder)
    file = folder / "config.json"
    content = {name: value for name, value in (json.loads(file.read_text()) | changes).items() if value is not None}
    file.write_text(json.dumps(content))
    return folder


BAD_DESCRIPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "a name that fetches": ({"architecture": "hf-hub:stranger/model"}, "asks for more than a network"),
    "an argument that reads": ({"model_args": {"checkpoint_path": "/etc/passwd"}}, "asks for more than a network"),
    "a nested argument": ({"model_args": {"depths": [[1], [2]]}}, "makes no sense"),
    "no mapping of arguments": ({"model_args": [1]}, "cannot be read"),
    "four channels": ({"model_args": {"in_chans": 4}}, "4 channels"),
    "no square": ({"model_args": {"img_size": [32, 64]}}, "32 x 64"),
    "a word for a number": ({"num_classes": "many"}, "cannot be read"),
    "a deviation of none": ({"pretrained_cfg": {"std": [0.1, 0, 0.1]}}, "cannot be normalised"),
    "no number": ({"pretrained_cfg": {"mean": [float("nan")] * 3}}, "cannot be normalised"),
    "more pixels than an image has": ({"pretrained_cfg": {"input_size": [3, 10**9, 10**9]}, "model_args": {}}, "size"),
    "fewer classes than none": ({"num_classes": -1}, "-1 classes"),
    "a mean of two": ({"pretrained_cfg": {"mean": [1, 2]}}, "cannot be read"),
    "more classes than weights": ({"num_classes": 10**9}, "larger than its weights"),
    "a network of another timm": ({"architecture": "resnet_of_tomorrow"}, "cannot be built"),
}


@each_door
@pytest.mark.parametrize(("changes", "told"), BAD_DESCRIPTIONS.values(), ids=BAD_DESCRIPTIONS)
def test_a_description_is_read_as_a_strangers(tmp_path: Path, changes: dict[str, Any], told: str, door: Door) -> None:
    folder = description(tmp_path, **changes)
    with pytest.raises(TinyVitKdError, match=told):
        door(Source(nn.Linear(1, 1), folder))


@pytest.mark.parametrize("text", ["{", "\xff", "[" * 100_000], ids=["half", "no UTF-8", "deep"])
def test_a_damaged_description_is_a_paragraph(tmp_path: Path, text: str) -> None:
    sources.timms_folder(tmp_path)
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match="description beside a model file cannot be read"):
        open_network(ModelSource(model=tmp_path))


def test_a_description_of_another_library_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = sources.plain_safetensors(tmp_path)
    (tmp_path / "config.json").write_text('{"architectures": ["ViTForImageClassification"], "model_type": "vit"}')
    assert asked(source)[1] == "timm"
    assert "names no architecture as timm's do" in capsys.readouterr().err


def test_a_description_of_another_network_than_the_recipes_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = sources.plain_safetensors(tmp_path)
    (tmp_path / "config.json").write_text('{"architecture": "resnet18", "pretrained_cfg": {"mean": [0, 0, 0]}}')
    card, known_from = asked(source)
    assert (card.mean, known_from) == (MEAN, "timm")
    assert f"describes resnet18, not {DEIT}, and is not used" in capsys.readouterr().err


LABEL_NAMES: dict[str, tuple[Any, bool]] = {
    "a list": (NAMES, True),
    "a mapping": ({str(number): name for number, name in enumerate(NAMES)}, True),
    "one twice": (["crane", "crane", "a", "b", "c"], False),
    "one too few": (NAMES[1:], False),
    "a mapping with a gap": ({"0": "a", "4": "b"}, False),
}


@pytest.mark.parametrize(("names", "used"), LABEL_NAMES.values(), ids=LABEL_NAMES)
def test_names_of_classes_are_used_where_each_class_has_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], names: Any, used: bool
) -> None:
    card, _ = asked(Source(nn.Linear(1, 1), description(tmp_path, label_names=names)))
    assert card.class_ids == (tuple(NAMES) if used else None)
    assert ("a name of its own, and are not used" in capsys.readouterr().err) != used


def test_a_view_that_cannot_be_rendered_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = {"crop_mode": "border", "crop_pct": 1.15, "interpolation": "lanczos", "input_size": [3, SIDE, SIDE]}
    card, _ = asked(Source(nn.Linear(1, 1), description(tmp_path, pretrained_cfg=kept)))
    assert (card.crop_mode, card.crop_pct, card.interpolation) == (None, None, None)
    told = capsys.readouterr().err
    assert [line.partition("with ")[2].partition(",")[0] for line in told.splitlines()] == [
        "crop_mode border",
        "crop_pct 1.15",
        "interpolation lanczos",
    ]


def test_an_empty_folder_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a model file is missing"):
        open_network(ModelSource(model=tmp_path))
