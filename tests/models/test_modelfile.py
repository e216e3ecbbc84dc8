"""Model files say what they are, and damaged or foreign ones are refused."""

from __future__ import annotations

import hashlib
import pickle
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save, save_file

from tests.conftest import REPOSITORY
from tests.damage import Bomb
from tests.models.networks import TINY_SPEC, card, saved, tiny
from tinyvit_kd.config.view_spec import EvalViewSpec
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.modelfile import ModelCard, load_model_file, save_model


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_weights_and_card_come_back_from_the_file_and_from_its_run_folder(tmp_path: Path) -> None:
    facts = card(3, class_name="three", class_ids=("n1", "n2", "ñ3"), step=17)
    network = tiny(3)
    save_model(tmp_path / "model.safetensors", network.state_dict(), facts)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        state, found = load_model_file(path)
        assert found == facts
        assert same(state, network.state_dict())
    assert facts.spec == TINY_SPEC
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


CARD = (
    '{"architecture": {"name": "resnet18", "kwargs": {"img_size": 64}}, "num_classes": 3, "image_size": 64, '
    '"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "class_name": "three", "class_ids": ["n1", "n2", "\\u00f13"], '
    '"step": 17}'
)


def test_a_files_card_and_hash_are_those_of_files_that_were_written_before(tmp_path: Path) -> None:
    """Both stand in the header."""
    facts = ModelCard(
        architecture={"name": "resnet18", "kwargs": {"img_size": 64}},
        num_classes=3,
        image_size=64,
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        class_name="three",
        class_ids=("n1", "n2", "ñ3"),
        step=17,
    )
    state = {"b.weight": torch.arange(6.0).reshape(2, 3), "a": torch.ones(2, dtype=torch.float16)}
    save_model(tmp_path / "model.safetensors", state, facts)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata == {"tinyvit_kd": CARD, "content_hash": "3df9359f70a35ef718c9b89f39a9f9d2"}
    assert load_model_file(tmp_path)[1] == facts


def test_a_file_says_how_its_network_was_scored(tmp_path: Path) -> None:
    facts = card(crop_mode="squash", crop_pct=1.0, interpolation="bilinear")
    save_model(tmp_path / "model.safetensors", tiny().state_dict(), facts)
    found = load_model_file(tmp_path)[1]
    assert found == facts
    assert found.eval_views == EvalViewSpec(size=32, mode="squash", crop_pct=1.0, interpolation="bilinear")


def test_a_file_from_before_it_could_say_means_the_usual_centre(tmp_path: Path) -> None:
    saved(tmp_path)
    found = load_model_file(tmp_path)[1]
    assert found is not None
    assert (found.crop_mode, found.crop_pct, found.interpolation) == (None, None, None)
    assert str(found.eval_views) == "32 pixels, center, crop_pct 0.875, bicubic"


@pytest.mark.parametrize("changes", [{"crop_mode": "round"}, {"crop_pct": 2.0}, {"interpolation": 3}], ids=str)
def test_a_file_whose_views_make_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    save_model(tmp_path / "model.safetensors", tiny().state_dict(), card(**changes))
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_model_file(tmp_path)


# A process's own secret decides in which order safetensors writes metadata.
WRITER = """
import sys
from pathlib import Path
from tests.models.networks import saved
saved(Path(sys.argv[1]), class_name="fünf", class_ids=("a", "b", "c", "d", "ñ"))
"""


def test_equal_models_are_equal_files_whichever_process_wrote_them(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(4)]
    for folder in folders:  # of two keys each order is as likely as the other
        for _ in range(4):
            saved(folder, class_name="fünf", class_ids=("a", "b", "c", "d", "ñ"))
            assert digest(folder) == digest(folders[0])
    subprocess.run([sys.executable, "-c", WRITER, str(tmp_path / "other")], check=True, cwd=REPOSITORY)
    assert digest(tmp_path / "other") == digest(folders[0])


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def test_the_header_of_a_model_file_is_as_safetensors_writes_it_but_for_its_order(tmp_path: Path) -> None:
    network = saved(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        theirs = save({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, file.metadata())
    ours = (tmp_path / "model.safetensors").read_bytes()
    assert len(ours) == len(theirs)
    length = int.from_bytes(ours[:8], "little")
    assert sorted(ours[:length]) == sorted(theirs[:length])
    assert ours[length + 8 :] == theirs[length + 8 :]


def test_a_model_in_channels_last_format_is_saved_as_it_is(tmp_path: Path) -> None:
    network = tiny().to(memory_format=torch.channels_last)
    save_model(tmp_path / "model.safetensors", network.state_dict(), card())
    assert same(load_model_file(tmp_path)[0], network.state_dict())


def test_a_failed_write_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    saved(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    unwritable = replace(card(), class_ids=({1},))  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        save_model(tmp_path / "model.safetensors", {}, unwritable)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_bit_that_flipped_anywhere_is_found(tmp_path: Path) -> None:
    saved(tmp_path)
    file = tmp_path / "model.safetensors"
    content = file.read_bytes()
    for place in random.Random(0).sample(range(len(content)), 200):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            load_model_file(file)


def test_a_safetensors_file_of_others_has_no_card(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "foreign.safetensors", metadata={"format": "pt"})
    state, found = load_model_file(tmp_path / "foreign.safetensors")
    assert found is None
    assert same(state, {"weight": torch.ones(2)})


WEIGHTS = {"a.weight": torch.arange(3.0), "b": torch.ones(1)}
NESTS: dict[str, Any] = {
    "bare": WEIGHTS,
    "model": {"model": WEIGHTS, "epoch": 3},
    "state_dict": {"state_dict": WEIGHTS, "optimizer": {"state": {}}},
    "average preferred": {"state_dict": {"a.weight": torch.zeros(3)}, "state_dict_ema": WEIGHTS},
    "no average": {"state_dict": WEIGHTS, "state_dict_ema": None},
    "data parallel": {"model": {f"module.{name}": value for name, value in WEIGHTS.items()}},
    "compiled": {"model": {f"_orig_mod.module.{name}": value for name, value in WEIGHTS.items()}},
    "compiled inside": {"model": {f"module._orig_mod.{name}": value for name, value in WEIGHTS.items()}},
}


@pytest.mark.parametrize("content", NESTS.values(), ids=NESTS.keys())
def test_a_torch_file_gives_its_weights_wherever_they_lie(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pth")
    state, found = load_model_file(tmp_path / "weights.pth")
    assert found is None
    assert same(state, WEIGHTS)


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path) -> None:
    target = tmp_path / "exploded"
    torch.save({"model": {**WEIGHTS, "bomb": Bomb(target)}}, tmp_path / "bomb.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Bomb(target)))
    for name in ("bomb.pth", "plain.pth"):
        with pytest.raises(CheckpointError, match=r"more than weights|read safely"):
            load_model_file(tmp_path / name)
    assert not target.exists()


FOREIGN: dict[str, Any] = {"a list": [torch.ones(1)], "a tensor": torch.ones(1), "no tensors": {"epoch": 3}}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN.keys())
def test_a_torch_file_without_named_weights_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "foreign.pth")
    with pytest.raises(CheckpointError, match="no named tensors"):
        load_model_file(tmp_path / "foreign.pth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.pth"):
        with pytest.raises(CheckpointError, match="missing") as caught:
            load_model_file(path)
        assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_damaged_file_raises_no_other_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    if suffix == ".pth":
        torch.save({"model": tiny().state_dict()}, path)
    else:
        saved(tmp_path)
    whole = path.read_bytes()
    draws = random.Random(0)
    for _ in range(60):
        damaged = bytearray(whole[: draws.randrange(len(whole))] if draws.random() < 0.3 else whole)
        for _ in range(20):
            if damaged:
                damaged[draws.randrange(min(len(damaged), 4000))] = draws.randrange(256)
        path.write_bytes(damaged)
        try:
            load_model_file(path)
        except CheckpointError as error:
            assert str(path) in str(error)  # noqa: PT017


@pytest.mark.parametrize("text", ["{", "[]", '{"num_classes": 3}', '{"architecture": {"name": 3}}'])
def test_a_file_with_a_card_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    save_file(WEIGHTS, tmp_path / "model.safetensors", metadata={"tinyvit_kd": text})
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_model_file(tmp_path)


def test_a_web_page_in_place_of_weights_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_text("<!DOCTYPE html>\n<title>Log in</title>")
    with pytest.raises(CheckpointError, match=r"is a web page.*<!DOCTYPE html>"):
        load_model_file(tmp_path / "weights.pth")
