"""``audition``: teachers on the same few samples, with figures that their own softmax gives."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml

from benchmarks.tiny_world import MIXED, NETWORK, SIZE, World, make_teacher
from tests.conftest import CommandLine
from tests.data.tars import write_tar
from tests.views.images import encoded, sample_image
from tests.views.transforms import timm
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.models.modelfile import load_model_file, save_model
from tinyvit_kd.models.teacher import build_teacher
from tinyvit_kd.planning.measuring import stopwatch
from tinyvit_kd.planning.store_sizes import record_bytes
from tinyvit_kd.runtime.seeding import view_seed
from tinyvit_kd.views.render import render_views

SAMPLES = 96
Probs = npt.NDArray[np.float64]


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stopwatch, "_SECONDS", 0.0)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def teacher_file(world: World, name: str, seed: int = 1, num_classes: int = 24) -> Path:
    """A recipe's teacher section alone, of a teacher of its own."""
    file = world.folder / f"{name}.yaml"
    folder = make_teacher(world.folder / name, num_classes=num_classes, seed=seed)
    file.write_text(yaml.safe_dump({"checkpoint": str(folder)}))
    return file


def dump_file(world: World, **sections: Any) -> Path:
    file = world.folder / "dump.yaml"
    file.write_text(dump_yaml(world.dump(**sections)))
    return file


def softmax_of(world: World, teacher: Path) -> tuple[Probs, npt.NDArray[np.int64]]:
    """A teacher's probabilities in the first view of each sample, and the samples' labels."""
    network = build_teacher(TeacherConfig(checkpoint=str(teacher)), torch.device("cpu"), "float32")
    config, shards = world.dump(), ShardSet.load(world.shards, "train")
    reader, views, labels = shards.reader(), [], []
    for shard, length in enumerate(shards.lengths.tolist()):
        labels.append(shards.index(shard).labels)
        for index in range(length):
            seed = view_seed(config.store.seed, shard, index, 0)
            views.append(render_views(reader.read(shard, index), [seed], config.views)[0])
    with torch.inference_mode():
        logits = network(torch.from_numpy(np.stack(views))).double().numpy()
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True), np.concatenate(labels)


def test_figures_are_those_of_the_teachers_own_softmax(command_line: CommandLine, world: World) -> None:
    files = [teacher_file(world, "one", seed=1), teacher_file(world, "two", seed=2)]
    ended = command_line("audition", dump_file(world), "--teachers", *files, "--json")
    assert ended.code == 0, ended.err
    values = json.loads(ended.out)
    assert (values["samples"], values["holes"], values["shards"], values["topk"]) == (SAMPLES, 0, 3, 5)
    best = []
    for told, name in zip(values["teachers"], ("one", "two"), strict=True):
        probs, labels = softmax_of(world, world.folder / name / "teacher")
        ordered = -np.sort(-probs, axis=1)
        right = probs.argmax(axis=1) == labels
        share = right.mean()
        assert told["label_top1"]["mean"] == pytest.approx(100 * share)
        assert told["label_top1"]["error"] == pytest.approx(100 * np.sqrt(share * (1 - share) / (SAMPLES - 1)))
        assert told["best_probability"] == pytest.approx(ordered[:, 0].mean(), abs=1e-5)
        assert told["entropy"] == pytest.approx(-(probs * np.log(probs)).sum(axis=1).mean(), abs=1e-4)
        assert told["first_over_second"] == pytest.approx(np.median(ordered[:, 0] / ordered[:, 1]), rel=1e-3)
        assert {int(k) for k in told["kept"]} == {1, 5, 10, 20}
        for k, mass in told["kept"].items():
            assert mass == pytest.approx(ordered[:, : int(k)].sum(axis=1).mean(), abs=1e-5)
        assert told["record_bytes"] == record_bytes("compact", 5, 24)
        assert told["store_bytes"] == round(2 * SAMPLES * told["record_bytes"])
        assert told["hours"] * 3600 >= 2 * SAMPLES / told["views_per_second"]  # without workers, views come on top
        best.append(probs.argmax(axis=1))
    (pair,) = values["agreement"]
    assert pair["teachers"] == ["one", "two"]
    assert pair["percent"]["mean"] == pytest.approx(100 * (best[0] == best[1]).mean())


def test_a_table_has_a_column_for_each_teacher_and_a_matrix(command_line: CommandLine, world: World) -> None:
    files = [teacher_file(world, "one", seed=1), teacher_file(world, "two", seed=2)]
    ended = command_line("audition", dump_file(world), "--teachers", *files, "--samples", "40")
    assert ended.code == 0, ended.err
    rows = {line[:31].strip(): line[31:].split() for line in ended.out.splitlines()}
    assert "the first views of 40 samples from 3 of its shards" in ended.out
    assert len(rows["best class is the label, %"]) == 2 * 3  # 60.3 ± 1.5
    assert len(rows["within the top 5 (K)"]) == 2
    assert rows["bytes per record"] == ["17.7", "17.7"]
    assert [line.split() for line in ended.out.splitlines()][-3] == ["one", "two"]  # of the matrix
    again = command_line("audition", dump_file(world), "--teachers", *files, "--samples", "40")
    assert first_figures(ended.out) == first_figures(again.out)
    other = command_line("audition", dump_file(world), "--teachers", *files, "--samples", "40", "--seed", "1")
    assert first_figures(ended.out) != first_figures(other.out)


def first_figures(out: str) -> list[str]:
    """The lines that do not depend on how busy a machine is."""
    return [line for line in out.splitlines() if line.startswith(("best", "prob", "entropy", "within"))]


def test_without_teachers_it_is_the_recipes_own_whose_size_follows_from_the_recipe(
    command_line: CommandLine, world: World
) -> None:
    ended = command_line("audition", dump_file(world), "--set", "store.topk=20", "--set", "store.views=9", "--json")
    (told,) = json.loads(ended.out)["teachers"]
    assert ended.code == 0
    assert told["name"] == "dump"
    assert told["store_bytes"] == round(9 * SAMPLES * record_bytes("compact", 20, 24))


def test_a_teacher_that_the_command_line_sets_is_the_one(command_line: CommandLine, world: World) -> None:
    teacher_file(world, "small", num_classes=11)
    ended = command_line(
        "audition", dump_file(world), "--set", f"teacher.checkpoint={world.folder / 'small/teacher'}", "--json"
    )
    assert json.loads(ended.out)["teachers"][0]["num_classes"] == 11


def test_a_teacher_that_fails_is_named_and_does_not_end_the_others(command_line: CommandLine, world: World) -> None:
    missing, wrong = world.folder / "missing.yaml", world.folder / "wrong.yaml"
    missing.write_text("checkpoint: nowhere\n")
    wrong.write_text(f"checkpoint: {world.teacher}\nclass_list: imagenet\n")
    ended = command_line(
        "audition",
        dump_file(world),
        "--teachers",
        missing,
        teacher_file(world, "one"),
        wrong,
        "--samples",
        "20",
        "--json",
    )
    assert ended.code == 1
    told = {each["name"]: each for each in json.loads(ended.out)["teachers"]}
    assert told["missing"]["problem"].startswith("a model file is missing")
    assert "24 classes" in told["wrong"]["problem"]
    assert "kept" not in told["wrong"]
    assert told["one"]["kept"]["5"] > 0.5


def test_where_all_fail_there_is_a_paragraph(command_line: CommandLine, world: World) -> None:
    (world.folder / "missing.yaml").write_text("checkpoint: nowhere\n")
    (world.folder / "odd.yaml").write_text("coffee: black\n")
    files = [world.folder / "missing.yaml", world.folder / "odd.yaml", world.folder / "absent.yaml"]
    ended = command_line("audition", dump_file(world), "--teachers", *files)
    assert (ended.code, ended.out) == (2, "")
    assert "none of the teachers could be tried" in ended.err
    for name in ("missing: a model file", "odd: 1 mistake in the recipe", "absent: cannot read the recipe"):
        assert name in ended.err


def test_a_teacher_that_answers_with_nan_is_left_out(command_line: CommandLine, world: World) -> None:
    broken = teacher_file(world, "broken")
    state, card = load_model_file(world.folder / "broken/teacher")
    assert card is not None
    state["head.fc.bias"] = torch.full_like(state["head.fc.bias"], torch.nan)
    save_model(world.folder / "broken/teacher/model.safetensors", state, card)
    ended = command_line("audition", dump_file(world), "--teachers", broken, teacher_file(world, "one"))
    assert ended.code == 1
    assert "broken: left out: the teacher's probabilities are NaN" in ended.out


def test_classes_are_compared_by_id_and_only_where_they_are_the_same(command_line: CommandLine, world: World) -> None:
    files = [teacher_file(world, "one"), teacher_file(world, "turned"), teacher_file(world, "fewer", num_classes=11)]
    state, card = load_model_file(world.folder / "turned/teacher")
    assert card is not None
    assert card.class_ids is not None
    for name in ("head.fc.weight", "head.fc.bias"):
        state[name] = state[name].flip(0).contiguous()
    turned = replace(card, class_ids=card.class_ids[::-1])
    save_model(world.folder / "turned/teacher/model.safetensors", state, turned)
    ended = command_line("audition", dump_file(world), "--teachers", *files, "--json")
    values = json.loads(ended.out)
    pairs = {tuple(each["teachers"]): each["percent"] for each in values["agreement"]}
    assert pairs["one", "turned"]["mean"] == 100
    assert pairs["one", "fewer"] is None
    one, other, fewer = values["teachers"]
    assert one["label_top1"] == other["label_top1"]
    assert fewer["label_top1"] is None
    assert "another number of classes" in fewer["labels_unknown"]


def test_without_labels_all_other_figures_are_there(command_line: CommandLine, world: World) -> None:
    images = [(f"{number:03d}.jpg", encoded(sample_image(40 + number, 40))) for number in range(12)]
    shards = write_tar(world.folder / "plain.tar", images)
    recipe = dump_file(world, shards={"path": str(shards)})
    ended = command_line("audition", recipe, "--teachers", teacher_file(world, "one"), "--json")
    values = json.loads(ended.out)
    assert (ended.code, values["samples"]) == (0, 12)
    assert values["teachers"][0]["label_top1"] is None
    assert values["teachers"][0]["labels_unknown"] == "the shards have no labels"
    assert values["teachers"][0]["entropy"] > 0


def test_holes_count_nowhere(command_line: CommandLine, world: World) -> None:
    images = [(f"{number}.png", encoded(sample_image(40, 40), "PNG") if number else b"no image") for number in range(5)]
    recipe = dump_file(world, shards={"path": str(write_tar(world.folder / "plain.tar", images))})
    ended = command_line("audition", recipe)
    assert "of 5 samples from 1 of its shards, of which 1 are holes" in ended.out


@pytest.mark.parametrize("views", [{}, {"views": MIXED}], ids=["plain", "mixed"])
def test_views_are_those_of_the_dump(command_line: CommandLine, world: World, views: dict[str, Any]) -> None:
    recipe = dump_file(world, **views, store={"path": str(world.folder / "new"), "topk": 5, "views": 1})
    dumped = json.loads(command_line("dump-logits", recipe).out)
    (told,) = json.loads(command_line("audition", recipe, "--json").out)["teachers"]
    assert told["best_probability"] == pytest.approx(dumped["best_probability"], abs=1e-5)
    assert told["kept"]["5"] == pytest.approx(1 - dumped["outside_topk"], abs=1e-5)
    assert told["label_top1"]["count"] == SAMPLES


@pytest.mark.parametrize("loss", [{}, {"kind": "soft", "alpha": 0.5}])
def test_a_student_of_each_is_scored_on_samples_that_it_was_not_trained_on(
    command_line: CommandLine, world: World, tmp_path: Path, loss: dict[str, Any]
) -> None:
    student = world.folder / "student.yaml"
    growing = {"tiny_vit": NETWORK, "image_size": {0: 8, 1: SIZE}}  # which a few epochs would not come to
    student.write_text(dump_yaml(world.pretrain(loss=loss, student=growing)))
    files = [teacher_file(world, "one"), teacher_file(world, "two", seed=2)]
    command = ("audition", dump_file(world), "--teachers", *files, "--student", student, "--steps", "7", "--json")
    ended = command_line(*command)
    assert ended.code == 0, ended.err
    values = json.loads(ended.out)
    assert values["held_out"] == 19
    for told in values["teachers"]:
        assert told["student"]["steps"] == 8  # two epochs of 77 samples in batches of 16
        assert told["student"]["right"]["count"] == told["student"]["same"]["count"] == 19
        assert 2 < told["student"]["cross_entropy"]["mean"] < 5
    assert list((tmp_path / "temporary").iterdir()) == []


def test_stores_and_runs_of_students_are_kept_where_that_is_asked_for(
    command_line: CommandLine, world: World, tmp_path: Path
) -> None:
    student = world.folder / "student.yaml"
    student.write_text(dump_yaml(world.pretrain()))
    command = (
        "audition",
        dump_file(world),
        "--student",
        student,
        "--steps",
        "5",
        "--output",
        tmp_path / "kept",
        "--json",
    )
    first, again = (json.loads(command_line(*command).out) for _ in range(2))
    assert first["teachers"][0]["student"] == again["teachers"][0]["student"]
    assert (tmp_path / "kept/dump/run/model.safetensors").is_file()
    info = command_line("store", "info", tmp_path / "kept/dump/store", "--json")
    assert info.code == 0
    text = command_line(*command[:-1]).out
    assert "A student of each, on views of 19 other samples of these:" in text


def test_views_of_another_teachers_store_are_taken_for_students_too(command_line: CommandLine, world: World) -> None:
    student = world.folder / "student.yaml"
    student.write_text(dump_yaml(world.pretrain()))
    second = {"path": str(world.folder / "second"), "topk": 3, "views": 2}
    recipe = dump_file(world, views_from=str(world.store), store=second)
    ended = command_line("audition", recipe, "--student", student, "--steps", "1", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["teachers"][0]["student"]["steps"] == 4  # an epoch


def test_a_transform_that_the_recipe_names_is_trusted_for_students_too(command_line: CommandLine, world: World) -> None:
    student = world.folder / "student.yaml"
    student.write_text(dump_yaml(world.pretrain()))
    recipe = dump_file(
        world, views={"size": SIZE, "transform": timm()}, store={"path": "unused", "topk": 3, "views": 1}
    )
    ended = command_line("audition", recipe, "--student", student, "--steps", "1", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["teachers"][0]["student"]["steps"] == 4  # an epoch


def test_a_student_that_cannot_be_trained_is_named_beside_the_figures(command_line: CommandLine, world: World) -> None:
    student = world.folder / "student.yaml"
    student.write_text(dump_yaml(world.pretrain(student={"name": "tiny_vit_5m_224", "kwargs": {"img_size": SIZE + 1}})))
    ended = command_line("audition", dump_file(world), "--student", student, "--steps", "1", "--samples", "20")
    assert ended.code == 1
    assert "dump: no student: " in ended.out
    assert "within the top 5 (K)" in ended.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--steps", "3"), "--steps is for a student: give --student, too"),
        (("--output", "kept"), "--output is for a student: give --student, too"),
        (("other.yaml",), "other.yaml: teachers stand behind --teachers"),
        (("--samples", "0"), "0 is not in the range"),
        (("--set", "store.topk=0"), "1 mistake in the recipe"),
        (("--set", "store.topk=25"), "store.topk is larger than the teacher's number of classes"),
        (("--student", "absent.yaml"), "cannot read the recipe"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_option_gives_a_paragraph(
    command_line: CommandLine, world: World, options: tuple[str, ...], said: str
) -> None:
    ended = command_line("audition", dump_file(world), *options)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stage: pretrain\noutput: run\n", "there is no teacher in this recipe"),
        ("teacher: resnet50\n", "the teacher is not a section"),
        ("checkpoint: <PATH>\n", "still the placeholder"),
    ],
)
def test_a_file_that_holds_no_teacher_is_refused(command_line: CommandLine, world: World, text: str, said: str) -> None:
    (world.folder / "odd.yaml").write_text(text)
    ended = command_line("audition", dump_file(world), "--teachers", world.folder / "odd.yaml")
    assert ended.code == 2
    assert said in ended.err


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; from click.testing import CliRunner; from tinyvit_kd.cli import cli\n"
    code += "shown = CliRunner().invoke(cli, ['audition', '--help']); assert '--teachers' in shown.output\n"
    code += "assert shown.exit_code == 0; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0
