"""A user's mistakes: one clear paragraph, exit code 2, nothing lost, no traceback."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.tiny_world import MIXED, NETWORK, SIZE, TRAINING, VIEWS, World, draw_shards, make_teacher
from tests.conftest import CommandLine, Ended
from tests.damage import flip
from tests.data.tars import write_tar
from tinyvit_kd.config.base import Section
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.errors import DiskSpaceError
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.files import require_free_space
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.pretrain import pretrain

Case = Callable[[World], tuple[str, Section, list[str]]]


def other_shards(world: World) -> tuple[str, Section, list[str]]:
    draw_shards(world.folder / "elsewhere", seed=5)
    return "pretrain", world.pretrain(shards={"path": str(world.folder / "elsewhere" / "shards")}), []


def fewer_shards(world: World) -> tuple[str, Section, list[str]]:
    return "pretrain", world.pretrain(shards={"path": str(world.folder / "shards" / "train-000000.tar")}), []


def another_view_spec(world: World) -> tuple[str, Section, list[str]]:
    return "dump-logits", world.dump(views=VIEWS | {"hflip": 0.0}), []


def another_teacher(world: World) -> tuple[str, Section, list[str]]:
    make_teacher(world.folder, seed=9)
    return "dump-logits", world.dump(), []


def another_format(world: World) -> tuple[str, Section, list[str]]:
    path = world.folder / "store" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    return "pretrain", world.pretrain(), []


def a_missing_block(world: World) -> tuple[str, Section, list[str]]:
    (world.folder / "store" / "s000001" / "c.1.0.0").unlink()
    return "pretrain", world.pretrain(), []


def a_damaged_block(world: World) -> tuple[str, Section, list[str]]:
    path = world.folder / "store" / "s000001" / "c.0.0.0"
    flip(path, path.stat().st_size // 2)
    return "pretrain", world.pretrain(), []


def no_store(world: World) -> tuple[str, Section, list[str]]:
    return "pretrain", world.pretrain(store={"path": str(world.folder / "nothing")}), []


def no_shards(world: World) -> tuple[str, Section, list[str]]:
    return "finetune", world.finetune(shards={"path": str(world.folder / "nothing")}), []


def no_such_split(world: World) -> tuple[str, Section, list[str]]:
    return "finetune", world.finetune(shards={"path": str(world.folder / "shards"), "split": "test"}), []


def k_above_c(world: World) -> tuple[str, Section, list[str]]:
    return "dump-logits", world.dump(store={"path": str(world.folder / "new"), "topk": 25, "views": 1}), []


def lanes_that_do_not_fit(world: World) -> tuple[str, Section, list[str]]:
    return "pretrain", world.pretrain(schedule=TRAINING["schedule"] | {"lanes": 5}), []


def batch_too_large(world: World) -> tuple[str, Section, list[str]]:
    return "finetune", world.finetune(schedule=TRAINING["schedule"] | {"global_batch_size": 400}), []


def too_few_samples_for_a_step_of_pairs(world: World) -> tuple[str, Section, list[str]]:
    schedule = TRAINING["schedule"] | {"global_batch_size": 96, "lanes": 96}
    return "finetune", world.finetune(views=MIXED, schedule=schedule), []


def too_few_classes(world: World) -> tuple[str, Section, list[str]]:
    return "finetune", world.finetune(num_classes=3), []


def more_classes_than_the_list(world: World) -> tuple[str, Section, list[str]]:
    return "finetune", world.finetune(num_classes=30), []


def labels_that_are_not_there(world: World) -> tuple[str, Section, list[str]]:
    unlabelled = world.folder / "unlabelled"
    unlabelled.mkdir()
    with tarfile.open(next((world.folder / "shards").glob("*.tar"))) as labelled:
        images = [(each.name, file.read()) for each in labelled if (file := labelled.extractfile(each)) is not None]
    write_tar(unlabelled / "a.tar", [each for each in images if each[0].endswith(".jpg")])
    return "finetune", world.finetune(shards={"path": str(unlabelled / "a.tar")}), []


def no_such_optimiser(world: World) -> tuple[str, Section, list[str]]:
    return "finetune", world.finetune(optim=TRAINING["optim"] | {"name": "adamv"}), []


def no_such_network(world: World) -> tuple[str, Section, list[str]]:
    return "finetune", world.finetune(student={"name": "tiny_vit_6m_224"}), []


def weights_of_another_network(world: World) -> tuple[str, Section, list[str]]:
    wide = NETWORK | {"embed_dims": [8, 16, 16, 48]}
    return "finetune", world.finetune(student={"tiny_vit": wide, "init_from": str(world.folder / "teacher")}), []


def a_text_file_as_weights(world: World) -> tuple[str, Section, list[str]]:
    (world.folder / "weights.pt").write_text("not weights")
    teacher = {"name": "vit_tiny_patch16_224", "checkpoint": str(world.folder / "weights.pt")}
    return "dump-logits", world.dump(teacher=teacher), []


def a_class_list_of_another_length(world: World) -> tuple[str, Section, list[str]]:
    teacher = {"checkpoint": str(world.folder / "teacher"), "class_list": "imagenet"}
    store = {"path": str(world.folder / "new"), "views": 1, "topk": 2}
    return "dump-logits", world.dump(teacher=teacher, store=store), []


def a_bad_policy(world: World) -> tuple[str, Section, list[str]]:
    return "finetune", world.finetune(views=VIEWS | {"auto_augment": "original-mstd0.5"}), []


def an_unknown_key(world: World) -> tuple[str, Section, list[str]]:
    return "finetune", world.finetune(), ["--set", "optim.learning_rate=1"]


def a_wrong_type(world: World) -> tuple[str, Section, list[str]]:
    return "finetune", world.finetune(), ["--set", "schedule.epochs=many"]


def a_malformed_part(world: World) -> tuple[str, Section, list[str]]:
    return "dump-logits", world.dump(), ["--part", "3/2"]


def an_evaluation_at_another_size(world: World) -> tuple[str, Section, list[str]]:
    evaluation = {"shards": {"path": str(world.folder / "shards")}, "views": {"size": 64}}
    return "finetune", world.finetune(eval=evaluation), []


def a_bad_policy_for_a_dump(world: World) -> tuple[str, Section, list[str]]:
    store = {"path": str(world.folder / "new"), "topk": 2, "views": 1}
    return "dump-logits", world.dump(views=VIEWS | {"auto_augment": "rnd-m9"}, store=store), []


def a_transform_that_is_not_there(world: World) -> tuple[str, Section, list[str]]:
    views = {"size": SIZE, "transform": {"call": "timm.data.create_transforms"}}
    return "dump-logits", world.dump(views=views, teacher={"checkpoint": "no teacher is looked for before"}), []


def a_swapped_class_list(world: World) -> tuple[str, Section, list[str]]:
    path = world.folder / "store" / "classes.txt"
    path.write_text("\n".join(reversed(path.read_text().split())))
    return "pretrain", world.pretrain(), []


def a_run_folder_that_is_a_file(world: World) -> tuple[str, Section, list[str]]:
    (world.folder / "file").write_text("")
    return "finetune", world.finetune(output=str(world.folder / "file" / "run")), []


def a_gpu_that_is_not_there(world: World) -> tuple[str, Section, list[str]]:
    return "finetune", world.finetune(runtime={"device": "cuda"}), []


def a_bad_image_where_none_may_be(world: World) -> tuple[str, Section, list[str]]:
    broken = World(world.folder / "broken")
    draw_shards(broken.folder, samples=24, broken=[0])
    make_teacher(broken.folder)
    return "dump-logits", broken.dump(on_bad_image="error"), []


CASES: list[tuple[Case, str]] = [
    (other_shards, "a shard does not hold the samples .* 3 of 3 shards"),
    (fewer_shards, "the store differs from this run in .*shard_names"),
    (another_view_spec, "view_spec"),
    (another_teacher, "teacher"),
    (another_format, "another format version.*99"),
    (a_missing_block, "1 of 6 missing.*view 1 of shard train-000001"),
    (a_damaged_block, r"block is damaged.*s000001/c\.0\.0\.0"),
    (no_store, "no store"),
    (no_shards, "nothing"),
    (no_such_split, "split.*test"),
    (k_above_c, "store.topk.*25.*at most 24"),
    (lanes_that_do_not_fit, "lanes.*5.*set lanes to 4 or 8"),
    (batch_too_large, "too small for one step"),
    (too_few_samples_for_a_step_of_pairs, r"lower schedule\.lanes"),
    (too_few_classes, "label.*at most 2"),
    (more_classes_than_the_list, "num_classes.*30, and 24 classes in classes"),
    (labels_that_are_not_there, r"the shards have no labels.*pretrain needs none where"),
    (no_such_optimiser, "optim.name: adamv.*no optimiser of this name"),
    (no_such_network, "tiny_vit_6m_224"),
    (weights_of_another_network, "another network.*found|another network.*Found"),
    (a_text_file_as_weights, "weights.pt"),
    (a_class_list_of_another_length, "24 classes.*1000 in imagenet"),
    (a_bad_policy, "auto_augment"),
    (an_unknown_key, "optim.learning_rate: unknown key"),
    (a_wrong_type, "schedule.epochs.*many"),
    (a_malformed_part, "--part"),
    (an_evaluation_at_another_size, "eval.views.size.*64 pixels.*16"),
    (a_bad_policy_for_a_dump, "auto_augment"),
    (a_transform_that_is_not_there, "views.transform: timm.data.create_transforms.*has no attribute"),
    (a_swapped_class_list, "class list is missing or not the teacher's"),
    (a_run_folder_that_is_a_file, "file/run|Not a directory"),
    (a_gpu_that_is_not_there, "no CUDA device"),
    (a_bad_image_where_none_may_be, "sample 0000000.. of shard train-000000.tar"),
]


@pytest.mark.parametrize(("case", "expected"), CASES, ids=[case.__name__ for case, _ in CASES])
def test_a_mistake_is_one_paragraph(
    case: Case, expected: str, world: World, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine
) -> None:
    command, config, options = case(world)
    if case is a_gpu_that_is_not_there:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    before = {path: path.stat().st_size for path in (world.folder / "store").rglob("c.*")}
    code, _, message = run_command(command_line, world.folder, command, config, options)
    assert code == 2, message
    assert re.search(expected, message, re.DOTALL), message
    assert "Traceback" not in message
    assert {path: path.stat().st_size for path in (world.folder / "store").rglob("c.*")} == before


def run_command(command_line: CommandLine, folder: Path, command: str, config: Section, options: list[str]) -> Ended:
    """``tinyvit-kd COMMAND RECIPE OPTIONS``."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(dump_yaml(config))
    return command_line(command, recipe, *options)


def test_too_little_disk_space_is_found_before_the_work(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DiskSpaceError, match="not enough free disk space"):
        require_free_space(world.folder / "not" / "yet" / "there", 1 << 62)
    free = shutil.disk_usage(world.folder)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: free)
    with pytest.raises(DiskSpaceError):
        dump_logits(world.dump(store={"path": str(world.folder / "new"), "topk": 5, "views": 2}), solo_job())


def test_another_recipe_does_not_continue_a_run(world: World, command_line: CommandLine) -> None:
    pretrain(world.pretrain(), solo_job())
    other = world.pretrain(optim=TRAINING["optim"] | {"base_lr": 0.04})
    ended = run_command(command_line, world.folder, "pretrain", other, [])
    assert ended.code == 2
    assert "checkpoint with another optim" in ended.err
