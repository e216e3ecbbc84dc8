"""A run whose samples lack labels, or whose labels do not fit, stops before it begins and says what to do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tiny_world import TRAINING, World, evaluate_recipe, finetune_recipe
from tests.conftest import CommandLine
from tests.data.tars import write_tar
from tests.views.images import encoded, sample_image
from tinyvit_kd.config.load import validate
from tinyvit_kd.config.recipes import FinetuneConfig
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runs.labelled_data import open_labelled_data
from tinyvit_kd.runs.student_run import train_student
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.evaluate import evaluate
from tinyvit_kd.stages.finetune import finetune

IMAGE = encoded(sample_image(20, 20))


def labelled(folder: Path, labels: Sequence[str | None], bad: int = 0) -> Path:
    """A tar of one sample for each label, None for none; the last ``bad`` images are broken."""
    members = []
    for number, label in enumerate(labels):
        members.append((f"{number:04}.jpg", b"bad" if number >= len(labels) - bad else IMAGE))
        members += [] if label is None else [(f"{number:04}.cls", label.encode())]
    return write_tar(folder / "a.tar", members)


def recipe(folder: Path, num_classes: int | None = 4, **shards: Any) -> FinetuneConfig:
    sections = {"shards": {"path": str(folder / "a.tar"), **shards}, "num_classes": num_classes}
    return validate(FinetuneConfig, finetune_recipe(folder, folder / "run", **sections), "test")


FOUR = ["0", "1", "2", "3"]


def test_a_run_that_would_leave_out_most_samples_stops(tmp_path: Path) -> None:
    labelled(tmp_path, [*FOUR, *[None] * 20])
    with pytest.raises(
        ConfigError, match=r"20 of 24 samples \(83\.33%\).*a\.tar:0004: its only file is \.jpg"
    ) as caught:
        finetune(recipe(tmp_path), solo_job())
    assert "raise shards.max_unlabelled_fraction" in caught.value.fix
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("limit", "passes"), [(0.0, False), (0.01, False), (0.0249, False), (0.025, True), (1.0, True)]
)
def test_the_share_that_may_lack_labels_is_the_recipes(
    tmp_path: Path, limit: float, passes: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled(tmp_path, [*FOUR * 39, "", None, None, None])
    config = recipe(tmp_path, max_unlabelled_fraction=limit)
    if passes:
        open_labelled_data(config, solo_job())
        assert (
            "4 of 160 samples (2.50%) have no label; the first is a.tar:0156: .cls is empty" in capsys.readouterr().err
        )
    else:
        with pytest.raises(ConfigError, match="too many samples have no label"):
            open_labelled_data(config, solo_job())


def test_without_any_label_no_limit_helps(tmp_path: Path) -> None:
    labelled(tmp_path, ["cat", "dog"])
    with pytest.raises(ConfigError, match=r"no labels.*'cat'; no class list is known.*shards\.class_list"):
        open_labelled_data(recipe(tmp_path, max_unlabelled_fraction=1), solo_job())


def test_names_are_labels_where_the_recipe_names_their_list(tmp_path: Path) -> None:
    labelled(tmp_path, ["cat", "dog"] * 16)
    (tmp_path / "list.txt").write_text("dog\ncat\n")
    data = open_labelled_data(recipe(tmp_path, None, class_list=str(tmp_path / "list.txt")), solo_job())
    assert data.num_classes == 2
    assert data.shards.index(0).labels.tolist() == [1, 0] * 16


def test_labels_that_count_from_one_are_refused_where_the_last_has_no_class(tmp_path: Path) -> None:
    labelled(tmp_path, ["1", "2", "3", "4"])
    with pytest.raises(ConfigError, match=r"count from 1.*from 1 to 4, none is 0.*set shards\.first_label to 1"):
        open_labelled_data(recipe(tmp_path), solo_job())
    data = open_labelled_data(recipe(tmp_path, first_label=1), solo_job())
    assert data.shards.index(0).labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("labels", "warned"), [(["1", "2", "4"], True), (FOUR, False), (["2", "3"], False)])
def test_labels_that_may_count_from_one_are_pointed_out(
    tmp_path: Path, labels: list[str], warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    labelled(tmp_path, labels)
    open_labelled_data(recipe(tmp_path, 5), solo_job())
    assert ("set shards.first_label to 1" in capsys.readouterr().err) == warned


def test_a_message_about_the_evaluations_shards_names_their_section(tmp_path: Path, world: World) -> None:
    labelled(tmp_path, [None] * 8)
    shards = {"path": str(tmp_path / "a.tar")}
    config = world.finetune(eval={"shards": shards, "views": {"size": 16}})
    with pytest.raises(ConfigError, match=r"eval\.shards\.label_key"):
        finetune(config, solo_job())


@pytest.mark.parametrize("mixing", [{}, {"mixup": 1.0, "mix_prob": 1.0}], ids=["plain", "mixed"])
def test_unlabelled_and_undecodable_samples_are_counted_apart(
    tmp_path: Path, mixing: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    labelled(tmp_path, [*[None] * 8, *FOUR * 6], bad=4)
    sections = {
        "shards": {"path": str(tmp_path / "a.tar"), "max_unlabelled_fraction": 0.25},
        "schedule": TRAINING["schedule"] | {"epochs": 1, "lanes": 1},
        "train": {"log_every": 2},
        "num_classes": 4,
    }
    tree = finetune_recipe(tmp_path, tmp_path / "run", **sections)
    tree["views"] = tree["views"] | mixing
    config = validate(FinetuneConfig, tree, "test")
    results = train_student(config, open_labelled_data(config, solo_job()), solo_job())
    assert results["unlabelled"] >= 8 / 32
    assert 0 < results["holes"] <= 4 / 32 + 4 / 32 * bool(mixing)
    assert mixing or (results["unlabelled"], results["holes"]) == (8 / 32, 4 / 32)
    assert f"  holes {results['holes']:.2%}  unlabelled {results['unlabelled']:.2%}" in capsys.readouterr().err


def test_an_evaluation_says_what_it_left_out_and_which_classes_it_took_for_the_same(
    tmp_path: Path, world: World, command_line: CommandLine
) -> None:
    labelled(tmp_path, [*[None] * 3, *FOUR * 6], bad=5)
    tree = evaluate_recipe(
        world.teacher, tmp_path, shards={"path": str(tmp_path / "a.tar"), "max_unlabelled_fraction": 0.2}
    )
    (tmp_path / "recipe.yaml").write_text(json.dumps(tree))
    ended = command_line("evaluate", tmp_path / "recipe.yaml")
    result = json.loads(ended.out)
    assert (result["samples"], result["left_out"]) == (19, 8)
    assert (result["left_out_unlabelled"], result["left_out_undecodable"]) == (3, 5)
    assert result["class_names_compared"] == 0
    assert "8 left out (3 without a label, 5 undecodable)" in ended.err
    assert "the labels have no class list: label i is taken for class i of the model (drawn)" in ended.err


def test_classes_that_are_compared_by_name_are_said_to_be(world: World) -> None:
    config = world.evaluate(model=str(world.teacher))
    assert evaluate(config, solo_job())["class_names_compared"] == 1
