"""A dump tells how good its teacher is: how often it is right, how sure it is, and what K leaves out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.tiny_world import MIXED, SIZE, VIEWS, World
from tests.conftest import CommandLine
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.data.synthetic import DRAWN_CLASSES
from tinyvit_kd.models.head_file import Head, save_head
from tinyvit_kd.models.teacher import build_teacher
from tinyvit_kd.runs.dump_quality import stored_quality
from tinyvit_kd.runs.known_labels import KnownLabels, known_labels, view_labels
from tinyvit_kd.runs.teacher_quality import FIRST_VIEWS, Quality, complaint
from tinyvit_kd.runs.teacher_report import teacher_lines
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.seeding import view_seed
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.store import info as store_stage
from tinyvit_kd.store.label_sample import read_label_sample
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.mixing import partners, sample_mix


def exact(world: World, **sections: Any) -> DumpConfig:
    """A dump whose store holds the teacher's float32 probabilities of all classes."""
    store = {"path": str(world.folder / "exact"), "topk": 24, "views": 2, "encoding": "exact"}
    return world.dump(store=store, **sections)


def labels_of(world: World) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    shards = ShardSet.load(world.shards, "train")
    return [shards.index(shard).labels for shard in range(len(shards.names))]


def blocks_of(store: LogitStore) -> Iterator[tuple[int, int, Any]]:
    for shard, view in store.present_blocks(store.missing_blocks()):
        yield shard, view, store.read_block(shard, view)


def test_figures_are_those_of_the_answers_in_the_store(world: World) -> None:
    result = dump_logits(exact(world), solo_job())
    store = LogitStore.open(world.folder / "exact")
    labels = labels_of(world)
    best = np.concatenate([block.probs.max(axis=1) for _, _, block in blocks_of(store)])
    right = np.concatenate(
        [np.take_along_axis(block.indices, block.probs.argmax(axis=1)[:, None], 1)[:, 0] == labels[shard]
         for shard, _, block in blocks_of(store)]
    )  # fmt: skip
    assert len(best) == 2 * 96
    assert result["best_probability"] == pytest.approx(best.mean(), rel=1e-6)
    assert result["teacher_top1"] == pytest.approx(100 * right.mean())
    assert result["outside_topk"] == pytest.approx(0, abs=1e-6)


def test_a_dump_that_has_nothing_to_do_tells_what_the_store_holds(world: World) -> None:
    made = dump_logits(exact(world), solo_job())
    again = dump_logits(exact(world), solo_job())
    assert (made["views"], again["views"]) == (192, 0)
    for name in ("teacher_top1", "best_probability", "outside_topk"):
        assert again[name] == pytest.approx(made[name], rel=1e-6, abs=1e-9)


def test_the_first_line_the_lines_of_progress_the_last_line_and_store_info_tell_the_same(
    world: World, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_REPORT", "REPORT_EVERY"):
        monkeypatch.setattr(f"tinyvit_kd.runs.dump_progress.{name}", 0.0)
    monkeypatch.setattr("tinyvit_kd.runs.block_writer.MAX_PENDING", 0)  # answers are there before the next batch
    recipe = world.folder / "dump.yaml"
    recipe.write_text(dump_yaml(exact(world)))
    code, out, err = command_line("dump-logits", recipe)
    assert code == 0
    (share,) = {line.split("%")[0].split()[-1] for line in err.splitlines() if line.startswith("made 192 views")}
    assert f"; the teacher's best class is the label in {share}% of 192 views, and has a probability of 0." in err
    lines = [line for line in err.splitlines() if line.startswith("about ")]
    assert lines
    assert all(
        "left; the teacher's best class is the label in" in line and "outside the top 24" in line for line in lines
    )
    assert f"{json.loads(out)['teacher_top1']:.1f}" == share
    code, out, err = command_line("store", "info", world.folder / "exact")
    assert f"agreement  best class is the label in {share}% of 192 views" in out
    assert command_line("store", "check", world.folder / "exact").code == 0


@pytest.mark.parametrize("mix_prob", [0.0, 0.5, 1.0])
def test_a_mixed_view_has_the_label_of_the_larger_share(mix_prob: float) -> None:
    spec = ViewSpec.model_validate(MIXED | {"mix_prob": mix_prob})
    labels = np.arange(100, 130)
    found = view_labels(labels, np.arange(30), 3, 1, 30, spec, seed=7, mixed_rows=30)
    partner = partners(7, 3, 1, 30)
    for index, label in enumerate(found.tolist()):
        mix = sample_mix(view_seed(7, 3, index, 1), view_seed(7, 3, int(partner[index]), 1), spec)
        assert label == 100 + (index if mix is None or mix.lam >= 0.5 else int(partner[index]))
    assert (found != labels).any() == (mix_prob > 0)


def test_of_many_mixed_views_only_the_first_are_looked_at() -> None:
    mixed, unmixed = (ViewSpec.model_validate(each) for each in (MIXED, VIEWS))
    found = view_labels(np.arange(200), np.arange(200), 0, 0, 200, mixed, seed=7, mixed_rows=50)
    assert (found >= 0).sum() == 50
    plain = view_labels(np.arange(150), np.arange(200), 0, 0, 200, unmixed, seed=7, mixed_rows=50)
    assert (plain >= 0).sum() == 150, "those behind the kept labels are not known"


def test_a_dump_of_mixed_views_and_its_store_agree(world: World) -> None:
    result = dump_logits(exact(world, views=MIXED, batch_size=16), solo_job())
    store = LogitStore.open(world.folder / "exact")
    quality = stored_quality(store, read_label_sample(store.storage), list(store.present_blocks([])))
    assert quality.mean_best == pytest.approx(result["best_probability"], rel=1e-6)
    assert quality.labelled == 2 * 96


NAMES = ClassList("four", ("a", "b", "c", "d"))


class Labelled:
    """As much of a shard set as is asked for its labels."""

    def __init__(self, classes: ClassList | None, largest: int = 3) -> None:
        self.class_list, self.labels, self.names = classes, np.array([-1, largest]), ("a.tar",)

    def index(self, shard: int) -> Labelled:
        assert shard == 0
        return self


@pytest.mark.parametrize(
    ("shards", "classes", "count", "unknown"),
    [
        pytest.param(Labelled(NAMES), NAMES, 4, "", id="the same"),
        pytest.param(Labelled(NAMES), ClassList("six", tuple("fedcba")), 6, "", id="mapped by name"),
        pytest.param(Labelled(NAMES), None, 4, "", id="taken for the same"),
        pytest.param(Labelled(None), None, 4, "", id="numbers alone"),
        pytest.param(Labelled(NAMES, -1), NAMES, 4, "no labels", id="no labels"),
        pytest.param(Labelled(None), NAMES, 4, "shards.class_list", id="labels of unknown classes"),
        pytest.param(Labelled(None), None, 3, "label 3 is larger", id="too large a label"),
        pytest.param(Labelled(NAMES), None, 5, "another number of classes", id="another number of classes"),
        pytest.param(Labelled(NAMES), ClassList("other", tuple("wxyz")), 4, "fewer than half", id="other classes"),
    ],
)
def test_labels_count_where_they_are_known_as_the_teachers_classes(
    shards: Any, classes: ClassList | None, count: int, unknown: str
) -> None:
    labels = known_labels(shards, classes, count)
    assert (labels.shards is None) == bool(unknown)
    assert unknown in labels.unknown
    assert bool(labels.note) == (not unknown and classes is None)
    if not unknown:
        assert labels.of_shard(0).tolist() == [-1, classes.ids.index("d") if classes is not None else 3]


def test_unlabelled_shards_dump_as_before_and_say_why_nothing_is_known(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    (world.shards / "classes.txt").unlink()
    result = dump_logits(exact(world), solo_job())
    assert (
        "how often the teacher is right is not known: the class list of the shards' labels" in capsys.readouterr().err
    )
    assert "teacher_top1" not in result
    assert 0 < result["best_probability"] < 1
    assert "no labels of the teacher's classes" in store_stage.info(world.folder / "exact")[0]
    names = world.teacher.parent / "names.txt"
    names.write_text(
        "\n".join(sorted(build_teacher(world.dump().teacher, torch.device("cpu"), "float32").facts.class_ids or ()))
    )
    shards = {"path": str(world.shards), "split": "train", "class_list": str(names)}
    assert "teacher_top1" in dump_logits(exact(world, shards=shards), solo_job())
    assert "best class is the label in" in store_stage.info(world.folder / "exact")[0]


def test_damaged_labels_are_a_fault_that_the_next_dump_mends(world: World, command_line: CommandLine) -> None:
    path = world.store / "labels.json"
    path.write_text(path.read_text().replace("3", "4", 1))
    code, out, _ = command_line("store", "check", world.store)
    assert code == 1
    assert "labels.json" in out
    assert "not known: the labels" in store_stage.info(world.store)[0]
    dump_logits(world.dump(), solo_job())
    assert command_line("store", "check", world.store).code == 0


def test_a_store_of_an_earlier_version_has_no_labels_and_is_sound(world: World, command_line: CommandLine) -> None:
    (world.store / "labels.json").unlink()
    assert command_line("store", "check", world.store).code == 0
    assert "agreement  no labels" in store_stage.info(world.store)[0]


def quality(agreement: float | None, best: float, outside: float, views: int = 1000) -> Quality:
    labelled = 0 if agreement is None else views
    return Quality(views, best * views, outside * views, labelled, round(labelled * (agreement or 0)))


@pytest.mark.parametrize(
    ("seen", "mixes", "parts"),
    [
        pytest.param(quality(0.139, 0.25, 0.45), False, ["knows little", "topk", "another teacher"], id="64 pixels"),
        pytest.param(quality(None, 0.25, 0.2), False, ["knows little", "milder crops"], id="unsure, without labels"),
        pytest.param(quality(0.3, 0.8, 0.0), False, ["knows little", "loss.alpha"], id="sure and wrong"),
        pytest.param(quality(0.05, 0.8, 0.0), False, ["knows little", "class lists"], id="other classes"),
        pytest.param(quality(0.7, 0.5, 0.4), False, ["keeps little", "store.topk"], id="K too small"),
        pytest.param(quality(0.603, 0.506, 0.268), False, [], id="EfficientNet-Lite0 on photos, K = 10"),
        pytest.param(quality(0.4, 0.45, 0.0), False, [], id="a small teacher of a hard set"),
        pytest.param(quality(0.25, 0.25, 0.45), True, [], id="mixed views"),
        pytest.param(quality(0.05, 0.15, 0.8), True, ["knows little"], id="mixed views, and worse"),
        pytest.param(quality(0.1, 0.1, 0.8, FIRST_VIEWS - 1), False, [], id="too early to tell"),
    ],
)
def test_a_teacher_that_knows_little_is_pointed_out_with_what_helps(
    seen: Quality, mixes: bool, parts: list[str]
) -> None:
    said = complaint(seen, 10, mixes)
    assert (said is not None) == bool(parts)
    assert all(part in (said or "") for part in parts)


HEAD = "a teacher whose head has the classes of these images alone"


def test_a_head_of_these_classes_is_advised_where_the_teacher_may_have_others() -> None:
    seen = quality(0.1, 0.25, 0.45)
    assert HEAD in str(complaint(seen, 10, mixes=False))
    assert HEAD not in str(complaint(seen, 10, mixes=False, has_others=False))


@pytest.mark.parametrize(
    ("shards", "classes", "count", "same"),
    [
        pytest.param(Labelled(NAMES), NAMES, 4, True, id="the same"),
        pytest.param(Labelled(NAMES), ClassList("turned", tuple("dcba")), 4, True, id="in another order"),
        pytest.param(Labelled(NAMES), ClassList("six", tuple("fedcba")), 6, False, id="two more"),
        pytest.param(Labelled(NAMES, 2), ClassList("three", tuple("abc")), 3, True, id="one fewer"),
        pytest.param(Labelled(NAMES), None, 4, True, id="taken for the same"),
        pytest.param(Labelled(None), None, 4, None, id="numbers alone"),
        pytest.param(Labelled(NAMES, -1), NAMES, 4, None, id="no labels"),
    ],
)
def test_whether_a_teacher_has_the_labels_classes_alone(
    shards: Any, classes: ClassList | None, count: int, same: bool | None
) -> None:
    assert known_labels(shards, classes, count).are_all_classes is same


@pytest.mark.parametrize(
    ("labels", "head", "advised"),
    [(True, False, False), (True, True, False), (False, False, True), (False, True, False)],
    ids=["its classes", "its classes, from a head", "unknown classes", "unknown classes, a head of the recipe's"],
)
def test_a_dump_advises_a_head_only_where_it_helps(
    labels: bool, head: bool, advised: bool, world: World, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr("tinyvit_kd.runs.teacher_quality.FIRST_VIEWS", 60)
    monkeypatch.setattr("tinyvit_kd.runs.teacher_quality.MIN_BEST", 1.1)
    if not labels:
        (world.shards / "classes.txt").unlink()
    teacher = {"checkpoint": str(world.teacher)}
    if head:
        classes = tuple(sorted(DRAWN_CLASSES))
        save_head(world.folder / "head.safetensors", Head(torch.eye(24, 32), class_name="drawn", class_ids=classes))
        teacher["head"] = str(world.folder / "head.safetensors")
    dump_logits(exact(world, teacher=teacher), solo_job())
    said = capsys.readouterr().err
    assert "the teacher knows little" in said
    assert (HEAD in said) == advised


def test_it_is_pointed_out_once_and_after_the_first_few_hundred_views(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinyvit_kd.runs.teacher_quality.FIRST_VIEWS", 60)
    monkeypatch.setattr("tinyvit_kd.runs.teacher_quality.MIN_AGREEMENT", 1.1)
    dump_logits(exact(world), solo_job())
    lines = capsys.readouterr().err.splitlines()
    (number,) = [number for number, line in enumerate(lines) if "the teacher knows little" in line]
    assert number < next(number for number, line in enumerate(lines) if line.startswith("made "))


@pytest.mark.parametrize(
    ("image_size", "view_size", "parts", "warned"),
    [
        (None, SIZE, ["16 pixels (the network's own, from the file's card", "as the views"], ""),
        (48, 16, ["48 pixels (teacher.image_size)", "views of 16 are enlarged (bicubic"], "9 times the pixels"),
        (16, 48, ["views of 48 are reduced (bicubic"], ""),
    ],
    ids=["the same", "enlarged", "reduced"],
)
def test_a_teacher_is_announced_with_its_input_weights_precision_and_classes(
    world: World, image_size: int | None, view_size: int, parts: list[str], warned: str
) -> None:
    config = world.dump().teacher.model_copy(update={"image_size": image_size})
    teacher = build_teacher(config, torch.device("cpu"), "float32")
    first, *others = teacher_lines(config, teacher, view_size, "drawn", KnownLabels(None, unknown="no labels"))
    for part in [
        *parts,
        str(world.teacher),
        "float32",
        "classes (drawn, from the file's card)",
        "mean 0.5 0.5 0.5 (from the file's card)",
    ]:
        assert part in first
    assert others[0] == "how often the teacher is right is not known: no labels"
    assert [warned in line and "teacher.image_size to 16" in line for line in others[1:]] == [True] * bool(warned)


def test_sums_add_up_in_any_parts() -> None:
    generator = np.random.default_rng(1)
    probs = generator.random((40, 5), np.float32)
    indices = generator.permuted(np.tile(np.arange(5), (40, 1)), axis=1)
    residual, labels = generator.random(40, np.float32), generator.integers(-1, 5, 40)
    whole = Quality.of(indices, probs, residual, labels)
    halves = [
        Quality.of(indices[part], probs[part], residual[part], labels[part]) for part in np.split(np.arange(40), [17])
    ]
    assert (halves[0] + halves[1]).values() == pytest.approx(whole.values())
    assert whole.labelled == (labels >= 0).sum()
    assert Quality.from_values(list(whole.values())) == whole
