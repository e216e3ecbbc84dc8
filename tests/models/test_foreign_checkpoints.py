"""Checkpoints of other training codes give their weights, whatever lies around them, and none runs code."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.damage import Bomb
from tests.models import foreign_checkpoints as foreign
from tests.models.networks import tiny
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.load_weights import InitialWeights, load_into
from tinyvit_kd.models.modelfile import StateDict, load_model_file


def loaded(file: Path, exact_head: bool = True) -> StateDict:
    network = tiny(seed=1)
    load_into(network, InitialWeights(load_model_file(file)[0], exact_head=exact_head), str(file))
    return network.state_dict()


def same(first: StateDict, second: StateDict) -> bool:
    return all(torch.equal(first[name], second[name]) for name in second)


@pytest.mark.parametrize(("make", "told"), foreign.WHOLE.values(), ids=foreign.WHOLE)
def test_a_checkpoint_gives_its_weights_and_says_where_they_lay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: foreign.Make, told: str
) -> None:
    own = tiny().state_dict()
    file = foreign.write(tmp_path / "weights.pth", make(own))
    assert same(loaded(file), own)
    lines = capsys.readouterr().err.splitlines()
    expected = told.splitlines()
    assert len(lines) == len(expected)
    assert all(line.startswith(f"{file}: {text}") for line, text in zip(lines, expected, strict=True))


def test_a_safetensors_file_of_a_larger_module_gives_its_network(tmp_path: Path) -> None:
    own = tiny().state_dict()
    save_file(foreign.prefixed("model", own) | {"loss.weight": torch.ones(2)}, tmp_path / "weights.safetensors")
    assert same(loaded(tmp_path / "weights.safetensors"), own)


def body(state: StateDict) -> StateDict:
    return {name: value for name, value in state.items() if not name.startswith("head.fc.")}


BACKBONES: dict[str, foreign.Make] = {
    "bare": lambda state: state,
    "MAE": lambda state: {"model": state},
    "DINO": foreign.dino,
    "Lightning": foreign.lightning,
}


@pytest.mark.parametrize("make", BACKBONES.values(), ids=BACKBONES)
def test_a_backbone_is_no_teacher_and_gives_a_student_a_head_of_zeros(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: foreign.Make
) -> None:
    own = body(tiny().state_dict())
    file = foreign.write(tmp_path / "backbone.pth", make(own))
    with pytest.raises(CheckpointError, match="no classifier") as caught:
        loaded(file)
    assert "student.init_from" in caught.value.fix
    capsys.readouterr()
    state = loaded(file, exact_head=False)
    assert same(state, own)
    assert not state["head.fc.weight"].any()
    assert "there is no classifier in it, the head starts at zero" in capsys.readouterr().err


def test_a_classifier_beside_the_backbone_is_taken_where_it_has_the_networks_own_name(tmp_path: Path) -> None:
    own = tiny().state_dict()
    head = {name: value for name, value in own.items() if name not in body(own)}
    file = foreign.write(tmp_path / "weights.ckpt", {"state_dict": foreign.prefixed("backbone", body(own)) | head})
    assert same(loaded(file), own)


def test_a_head_that_does_not_fit_is_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign.write(tmp_path / "weights.pth", tiny(7).state_dict())
    loaded(tmp_path / "weights.pth", exact_head=False)
    assert "its head of 7 classes does not fit, the new one starts at zero" in capsys.readouterr().err


def test_a_larger_module_with_another_network_is_refused_by_the_networks_names(tmp_path: Path) -> None:
    state = foreign.prefixed("model", {**tiny().state_dict(), "patch_embed.conv1.conv.weight": torch.ones(3)})
    file = foreign.write(tmp_path / "weights.pth", state)
    with pytest.raises(CheckpointError, match="another network") as caught:
        loaded(file)
    assert caught.value.found == "patch_embed.conv1.conv.weight is [3], not [8, 3, 3, 3]"


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    file = foreign.write(tmp_path / "weights.pth", {"module.a": torch.ones(2), "a": torch.zeros(2)})
    with pytest.raises(CheckpointError, match="two of its tensors are a"):
        load_model_file(file)


class Call:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


REFUSED: dict[str, tuple[Any, str]] = {
    "os.system": (Call(os.system, "touch exploded"), "posix.system"),
    "a process": (Call(subprocess.call, ["touch", "exploded"]), "call"),
    "eval": (Call(eval, "open('exploded', 'w')"), "eval"),
    "getattr": (Call(getattr, 1, "real"), "getattr"),
    "a partial function": (functools.partial(int, 3), "functools.partial"),
    "a function of an allowed package": (Call(torch.hub.load, "a/b", "c"), "torch.hub.load"),
    "a whole network": (timm.create_model("resnet10t"), "timm.models.resnet.ResNet"),
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(("content", "name"), REFUSED.values(), ids=REFUSED)
def test_what_is_neither_weights_nor_settings_is_refused_by_name_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, name: str, legacy: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"a": torch.ones(1)}, "x": content}, "x.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="more than weights and settings") as caught:
        load_model_file("x.pth")
    assert name in caught.value.found
    assert "only if you trust" in caught.value.fix
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]


def test_another_protocol_of_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    target = tmp_path / "exploded"
    torch.save({"a": torch.ones(1), "x": Bomb(target)}, tmp_path / "x.pth", pickle_protocol=4)
    with pytest.raises(CheckpointError, match="cannot be read safely"):
        load_model_file(tmp_path / "x.pth")
    assert not target.exists()


def test_a_harmless_name_in_the_place_of_a_function_runs_nothing_either(tmp_path: Path) -> None:
    """Paths are stand-ins, whatever they are called with."""
    torch.save({"a": torch.ones(1), "x": Call(Path, tmp_path)}, tmp_path / "x.pth")
    assert load_model_file(tmp_path / "x.pth")[0].keys() == {"a"}
