"""``predict`` says of image files what the network answers, whichever file the network is in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import tinyvit_kd
from tests.conftest import CommandLine
from tests.models.exporting.networks import DEIT, made
from tests.models.exporting.onnx_here import NEEDS_ONNX
from tests.views.images import encoded, sample_image
from tinyvit_kd.models.exporting.deployed import DeployedNetwork
from tinyvit_kd.models.exporting.description import Description
from tinyvit_kd.models.exporting.onnx_file import save_onnx
from tinyvit_kd.models.exporting.timm_files import save_timm_folder
from tinyvit_kd.models.modelfile import save_model

IDS, NAMES = tuple(f"n0000000{number}" for number in range(7)), ("ant", "bee", "cat", "dog", "elk", "fox", "gnu")
CARD = "# A card\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One network with two heads as a run folder, a folder of timm's and a file that does not name its classes."""
    folder = tmp_path_factory.mktemp("models")
    network, card = made(DEIT, 32, class_name="animals", class_ids=IDS)
    save_model(folder / "run" / "model.safetensors", network.state_dict(), card)
    (folder / "timm").mkdir()
    save_timm_folder(folder / "timm", network, card, NAMES, CARD)
    _, nameless = made(DEIT, 32)
    save_model(folder / "nameless.safetensors", network.state_dict(), nameless)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images, one of them in a folder below, and one that is none."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "more").mkdir()
    for number in range(5):
        name = f"more/{number}.png" if number == 4 else f"{number}.png"
        (folder / name).write_bytes(encoded(sample_image(60 + 9 * number, 50, seed=number)))
    (folder / "broken.jpg").write_bytes(b"no image")
    return folder


def answers(out: str) -> dict[str, Any]:
    """Lines of JSON by the names of their images."""
    return {Path(each["image"]).name: each for each in map(json.loads, out.splitlines())}


def test_a_run_folder_answers_as_the_network_does(models: Path, images: Path, command_line: CommandLine) -> None:
    done = command_line("predict", models / "run", images, "--json", "--top", 7, "--batch-size", 2)
    found = answers(done.out)
    assert list(found) == ["0.png", "1.png", "2.png", "3.png", "broken.jpg", "4.png"]
    assert "not an image" in found.pop("broken.jpg")["problem"]
    student = tinyvit_kd.open_student(models / "run")
    paths = [images / ("more" if name == "4.png" else "") / name for name in found]
    for expected, answer in zip(student.predict(paths), found.values(), strict=True):
        top = answer["top"]
        assert [each["probability"] for each in top] == sorted((each["probability"] for each in top), reverse=True)
        by_class = torch.tensor([next(each["probability"] for each in top if each["class"] == n) for n in range(7)])
        torch.testing.assert_close(by_class, expected, rtol=1e-5, atol=1e-7)
        assert {each["id"] for each in top} == set(IDS)


def test_what_is_left_out_is_named_and_makes_the_exit_code_1(
    models: Path, images: Path, command_line: CommandLine
) -> None:
    done = command_line("predict", models / "run", images, "--top", 1)
    assert done.code == 1
    assert f"{images / 'broken.jpg'}: left out: the file is not an image" in done.err
    assert "1 of 6 images left out" in done.err
    assert done.out.count("%") == 5
    assert command_line("predict", models / "run", images / "0.png").code == 0


def test_an_image_that_is_left_out_first_leaves_no_gap_before_the_first_answer(
    models: Path, images: Path, command_line: CommandLine
) -> None:
    order = (images / "broken.jpg", images / "0.png", images / "broken.jpg", images / "1.png")
    out = command_line("predict", models / "run", *order, "--top", 1).out
    lines = out.splitlines()
    assert (lines[0], lines[2], lines[3]) == (str(images / "0.png"), "", str(images / "1.png"))


@pytest.mark.parametrize("place", [1, 2], ids=["model", "image"])
def test_an_empty_path_is_not_the_working_directory(
    place: int, models: Path, images: Path, command_line: CommandLine
) -> None:
    arguments = ["predict", str(models / "run"), str(images / "0.png")]
    arguments[place] = ""
    done = command_line(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "is empty" in done.err


def test_a_deviation_of_zero_is_refused_before_a_network_is_opened(
    models: Path, images: Path, command_line: CommandLine
) -> None:
    done = command_line("predict", models / "run", images / "0.png", "--std", 0, 0.2, 0.2)
    assert (done.code, done.out) == (2, "")
    assert "std.0: found 0" in done.err


def test_exported_folders_name_their_classes_themselves(models: Path, images: Path, command_line: CommandLine) -> None:
    image = images / "0.png"
    own, theirs = (command_line("predict", models / name, image, "--json").out for name in ("run", "timm"))
    (left,), (right,) = json.loads(own)["top"][:1], json.loads(theirs)["top"][:1]
    assert left["probability"] == right["probability"]
    assert (left["name"], right["name"]) == (left["id"], NAMES[right["class"]])


@NEEDS_ONNX
@pytest.mark.parametrize("kind", ["uint8", pytest.param("normalized", marks=pytest.mark.slow)])
def test_an_onnx_file_answers_as_the_run_does(
    kind: Any, models: Path, images: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    network, card = made(DEIT, 32, class_name="animals", class_ids=IDS)
    file = tmp_path / "model.onnx"
    description = Description(card=card, input_kind=kind, class_names=NAMES, model_card=CARD)
    save_onnx(DeployedNetwork(network, card, kind).eval(), description, file)
    expected = answers(command_line("predict", models / "timm", images, "--json").out)
    found = answers(command_line("predict", file, images, "--json").out)
    assert list(found) == list(expected)
    for name, answer in expected.items():
        for left, right in zip(answer.get("top", []), found[name].get("top", []), strict=True):
            assert left.pop("probability") == pytest.approx(right.pop("probability"), abs=1e-5)
            assert left == right
    refused = command_line("predict", file, images, "--image-size", 64)
    assert (refused.code, refused.out) == (2, "")
    assert "--image-size" in refused.err


def test_loading_processes_make_no_difference(models: Path, images: Path, command_line: CommandLine) -> None:
    options = ("predict", models / "run", images, "--json", "--batch-size", 2)
    assert command_line(*options).out == command_line(*options, "--workers", 1).out


def test_a_class_list_names_the_classes(models: Path, images: Path, tmp_path: Path, command_line: CommandLine) -> None:
    listed = tmp_path / "animals.tsv"
    listed.write_text("".join(f"{each}\t{name}\n" for each, name in zip(IDS, NAMES, strict=True)))
    nameless, image = models / "nameless.safetensors", images / "0.png"
    assert "class " in command_line("predict", nameless, image).out
    done = command_line("predict", nameless, image, "--class-list", listed, "--top", 7)
    assert all(name in done.out for name in (*NAMES, *IDS))
    listed.write_text("a\nb\n")
    assert command_line("predict", nameless, image, "--class-list", listed).code == 2


def test_a_file_without_a_card_is_used_under_its_name(images: Path, tmp_path: Path, command_line: CommandLine) -> None:
    from safetensors.torch import save_file

    network, _ = made({"name": "resnet18"}, 32)
    save_file(network.state_dict(), tmp_path / "plain.safetensors")
    bare = command_line("predict", tmp_path / "plain.safetensors", images / "0.png")
    assert bare.code == 2
    named = command_line(
        *("predict", tmp_path / "plain.safetensors", images / "0.png", "--json", "--name", "resnet18"),
        *("--num-classes", 7, "--image-size", 32, "--mean", 0.4, 0.5, 0.6, "--std", 0.2, 0.25, 0.3, "--top", 7),
    )
    assert named.code == 0
    assert sum(each["probability"] for each in json.loads(named.out)["top"]) == pytest.approx(1, abs=1e-5)


def test_names_cannot_control_the_terminal(
    models: Path, images: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    odd = tmp_path / "\x1b[31mred.png"
    shutil.copy(images / "0.png", odd)
    shown = command_line("predict", models / "run", odd).out
    assert "\x1b" not in shown
    assert "red.png" in shown


WRONG = {
    "no such image": (("run", "none.png"), "there is no such image"),
    "no such model": (("none", "0.png"), "a model file is missing"),
    "a program": (("run/model.pt2", "0.png"), "is not run here"),
}


@pytest.mark.parametrize(("arguments", "told"), WRONG.values(), ids=WRONG)
def test_wrong_input_is_told_in_one_paragraph(
    arguments: tuple[str, str], told: str, models: Path, images: Path, command_line: CommandLine
) -> None:
    done = command_line("predict", models / arguments[0], images / arguments[1])
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert "Traceback" not in done.err
