"""A teacher restricted to a user's classes: the store holds its probabilities among these, and knows which they are."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from benchmarks.tiny_world import World, make_teacher
from tests.conftest import CommandLine
from tests.models.test_restriction import by_numpy
from tinyvit_kd.data.labels.class_list import load_class_list
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.data.synthetic import DRAWN_CLASSES
from tinyvit_kd.models.teacher import build_teacher
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.plan import plan as plan_stage
from tinyvit_kd.store.store import LogitStore

NAMES = sorted(DRAWN_CLASSES)
OWN = {"second": [NAMES[5]], "first": [NAMES[2], NAMES[9]], "third": [NAMES[0]]}
MEMBERS = ((5,), (2, 9), (0,))
OF_PHOTOS = 40  # classes


def mapping(folder: Path, groups: dict[str, list[str]] = OWN) -> str:
    lines = [f"{teacher},{own}" for own, names in groups.items() for teacher in names]
    (folder / "own.csv").write_text("\n".join(lines))
    return str(folder / "own.csv")


def restricted_dump(world: World, restrict_to: str | None, store: str = "restricted", **changes: Any) -> Any:
    return world.dump(
        teacher={"checkpoint": str(world.teacher), "restrict_to": restrict_to},
        store={"path": str(world.folder / store), "topk": 3, "views": 1, "encoding": "exact"},
        **changes,
    )


def test_the_store_holds_the_teachers_probabilities_among_the_users_classes(world: World) -> None:
    dump_logits(restricted_dump(world, mapping(world.folder)), solo_job())
    whole = {"path": str(world.folder / "whole"), "topk": len(NAMES), "views": 1, "encoding": "exact"}
    dump_logits(world.dump(store=whole), solo_job())
    store, all_classes = (LogitStore.open(world.folder / name) for name in ("restricted", "whole"))
    assert (store.manifest.num_classes, store.read_class_list()) == (3, "second\nfirst\nthird\n")
    for shard in range(3):
        block, dense = store.read_block(shard, 0), all_classes.read_block(shard, 0)
        assert np.array_equal(block.digests, dense.digests)
        assert np.array_equal(block.indices, np.tile(np.arange(3), (len(block.probs), 1)))
        expected = by_numpy(np.log(np.maximum(dense.probs.astype(np.float64), 1e-300)), MEMBERS)
        np.testing.assert_allclose(block.probs, expected, rtol=1e-4, atol=1e-6)


def test_the_manifest_names_the_restriction_and_only_where_there_is_one(world: World) -> None:
    dump_logits(restricted_dump(world, mapping(world.folder)), solo_job())
    entry = json.loads((world.folder / "restricted" / "manifest.json").read_bytes())["teacher"]
    plain = json.loads((world.store / "manifest.json").read_bytes())["teacher"]
    assert entry == plain | {"restriction": entry["restriction"]}
    assert len(entry["restriction"]) == 16


def test_a_store_does_not_go_on_with_another_restriction(world: World, command_line: CommandLine) -> None:
    recipe = world.folder / "dump.yaml"
    config = restricted_dump(world, mapping(world.folder))
    recipe.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert command_line("dump-logits", recipe).code == 0
    assert command_line("dump-logits", recipe).code == 0
    swapped = OWN | {"first": [NAMES[3], NAMES[9]]}
    mapping(world.folder, swapped)
    for command in ("dump-logits", "plan"):
        ended = command_line(command, recipe)
        assert ended.code != 0
        assert "teacher.restriction" in ended.err + ended.out
    ended = command_line(
        "store", "verify", world.folder / "restricted", "--teacher", recipe, "--samples", "8", "--json"
    )
    assert ended.code == 1
    assert "restriction" in ended.out


def test_a_restricted_store_verifies(world: World, command_line: CommandLine) -> None:
    recipe = world.folder / "dump.yaml"
    config = restricted_dump(world, mapping(world.folder))
    recipe.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert (
        "3 classes (own, from teacher.restrict_to, made of 4 of the network's 24)"
        in command_line("dump-logits", recipe).err
    )
    assert command_line("store", "verify", world.folder / "restricted", "--teacher", recipe, "--samples", "8").code == 0


def test_a_second_teacher_has_to_agree_on_the_classes(
    world: World, command_line: CommandLine, capsys: pytest.CaptureFixture[str]
) -> None:
    dump_logits(restricted_dump(world, mapping(world.folder)), solo_job())
    make_teacher(world.folder, seed=2)
    first = {"views_from": str(world.folder / "restricted")}
    dump_logits(restricted_dump(world, mapping(world.folder), "other", **first), solo_job())
    assert "pretrain does not take both stores" not in capsys.readouterr().err
    other_order = mapping(world.folder, dict(reversed(OWN.items())))
    dump_logits(restricted_dump(world, other_order, "reversed", **first), solo_job())
    assert "if only in its order" in capsys.readouterr().err
    recipe = world.folder / "pretrain.yaml"
    store = {"path": str(world.folder / "restricted"), "others": [{"path": str(world.folder / "other")}]}
    recipe.write_text(yaml.safe_dump(world.pretrain(store=store).model_dump(mode="json")))
    assert command_line("pretrain", recipe).code == 0
    ended = command_line("pretrain", recipe, "--set", f"store.others=[{{path: {world.folder}/reversed}}]")
    assert ended.code != 0
    assert "class_list_hash" in ended.err


def test_a_plan_counts_the_users_classes_before_there_is_a_store(world: World) -> None:
    recipe = world.folder / "dump.yaml"
    recipe.write_text(yaml.safe_dump(restricted_dump(world, mapping(world.folder)).model_dump(mode="json")))
    text, told, passed = plan_stage([recipe])
    assert passed, text
    assert told


@pytest.mark.parametrize(
    ("restrict_to", "words"),
    [
        ("none.txt", ["there is no such class list", "teacher.restrict_to", "none.txt"]),
        ("lacking", ["lacks 1 of the 2 classes", "near"]),
        ("too few", ["store.topk is larger"]),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_pass(
    restrict_to: str, words: list[str], world: World, command_line: CommandLine
) -> None:
    texts = {"lacking": f"{NAMES[0]}\n{NAMES[1]}x\n", "too few": f"{NAMES[0]}\n{NAMES[1]}\n"}
    if restrict_to in texts:
        (world.folder / "list.txt").write_text(texts[restrict_to])
        restrict_to = str(world.folder / "list.txt")
    recipe = world.folder / "dump.yaml"
    recipe.write_text(yaml.safe_dump(restricted_dump(world, restrict_to).model_dump(mode="json")))
    ended = command_line("dump-logits", recipe)
    assert ended.code != 0
    for word in words:
        assert word in ended.err


def test_a_teacher_of_unknown_classes_cannot_be_restricted(world: World, command_line: CommandLine) -> None:
    make_teacher(world.folder, num_classes=23)
    recipe = world.folder / "dump.yaml"
    recipe.write_text(yaml.safe_dump(restricted_dump(world, mapping(world.folder)).model_dump(mode="json")))
    ended = command_line("dump-logits", recipe)
    assert ended.code != 0
    assert "it is not known which classes it has" in ended.err
    assert "teacher.class_list" in ended.err


def photos_of_few_classes(shared_data: Path, folder: Path) -> None:
    """Class folders of some of the photos, named by WordNet id."""
    for tar in sorted((shared_data / "photos").glob("train-*.tar")):
        with tarfile.open(tar) as opened:
            files = {member.name: opened.extractfile(member) for member in opened if member.isfile()}
            for name in (each for each in files if each.endswith(".json")):
                told = json.load(files[name])  # type: ignore[arg-type]
                if told["local_class"] < OF_PHOTOS:
                    (folder / told["wnid"]).mkdir(parents=True, exist_ok=True)
                    image = files[name.replace(".json", ".jpg")]
                    assert image is not None
                    (folder / told["wnid"] / name.replace("json", "jpg")).write_bytes(image.read())


def test_a_real_teacher_is_right_more_often_among_the_jobs_classes(
    shared_data: Path, tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photos_of_few_classes(shared_data, tmp_path / "photos")
    assert command_line("shards", "build", "photos", "shards", "--split", "train").code == 0
    recipe = {
        "stage": "dump-logits",
        "shards": {"path": "shards", "split": "train"},
        "views": {"size": 64, "scale": [0.3, 1.0]},
        "teacher": {
            "name": "tf_efficientnet_lite0",
            "checkpoint": str(shared_data / "real_teacher" / "tf_efficientnet_lite0.safetensors"),
            "class_list": "imagenet",
            "image_size": 64,
        },
        "store": {"path": "whole", "topk": 10, "views": 2, "encoding": "exact"},
        "runtime": {"workers": 0},
    }
    Path("dump.yaml").write_text(yaml.safe_dump(recipe))
    whole = command_line("dump-logits", "dump.yaml")
    options = ["--set", "teacher.restrict_to=shards/classes.txt", "--set", "store.path=own"]
    own = command_line("dump-logits", "dump.yaml", *options)
    assert (whole.code, own.code) == (0, 0)
    ids = load_class_list("shards/classes.txt").ids
    assert (
        f"{len(ids)} classes (classes, from teacher.restrict_to, made of {len(ids)} of the network's 1,000" in own.err
    )
    before, after = (json.loads(each.out.splitlines()[-1])["teacher_top1"] for each in (whole, own))
    assert after > before + 10
    store = LogitStore.open("own")
    members = tuple((load_class_list("imagenet").ids.index(each),) for each in ids)
    block, labels = store.read_block(0, 0), ShardSet.load("shards", "train").index(0).labels
    assert 100 * np.mean(block.indices[np.arange(len(labels)), block.probs.argmax(axis=1)] == labels) > before
    expected = by_numpy(_logits(recipe["teacher"], store), members)
    best = np.sort(np.argsort(-expected, axis=1)[:, :10], axis=1)
    assert np.mean(best == block.indices) > 0.99  # the tenth and eleventh may be as good
    np.testing.assert_allclose(block.probs.max(axis=1), expected.max(axis=1), rtol=1e-3)


def _logits(teacher: Any, store: LogitStore) -> Any:
    """Of the whole teacher, for the first block's views made again."""
    from tinyvit_kd.batches.sample_views import SampleViews
    from tinyvit_kd.config.models import TeacherConfig
    from tinyvit_kd.config.view_spec import ViewSpec

    spec = ViewSpec.model_validate(store.manifest.view_spec)
    samples = SampleViews(ShardSet.load("shards", "train").reader(), spec, store.manifest.seed)
    block = store.read_block(0, 0)
    views = np.empty((len(block.seeds), 3, spec.size, spec.size), np.uint8)
    for index, seed in enumerate(block.seeds.tolist()):
        samples.render_new(0, index, {0: seed}, 0, views[index : index + 1])
    network = build_teacher(TeacherConfig(**teacher), torch.device("cpu"), "float32")
    with torch.inference_mode():
        return network(torch.from_numpy(views)).double().numpy()
