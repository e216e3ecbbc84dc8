"""Everything that would be refused later is found before, across recipes, and all of it at once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.tiny_world import NETWORK, TRAINING, VIEWS, World, draw_shards
from tests.planning.plans import notes, plan_of, wrong
from tinyvit_kd.planning.plan import Plan
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.finetune import finetune

WIDER = {"tiny_vit": NETWORK | {"embed_dims": [16, 16, 16, 32]}}
SCHEDULE = TRAINING["schedule"]


def test_recipes_that_fit_together_are_not_complained_of(world: World) -> None:
    tuned = world.finetune(student={"init_from": str(world.folder / "distilled")})
    plan = plan_of(tuned, world.evaluate(), world.pretrain(), world.dump())
    assert wrong(plan) == []
    assert [stage.stage for stage in plan.stages] == ["dump-logits", "pretrain", "finetune", "evaluate"]


@pytest.mark.parametrize(
    ("sections", "found"),
    [
        ({"schedule": SCHEDULE | {"lanes": 3}}, "lanes, batch size and number of processes do not fit"),
        ({"schedule": SCHEDULE | {"micro_batch_size": 5}}, "not a whole number of micro-batches"),
        ({"schedule": SCHEDULE | {"global_batch_size": 128}}, "too small for one step per epoch"),
        ({"views": VIEWS | {"auto_augment": "rand-x9"}}, ""),
        ({"optim": TRAINING["optim"] | {"name": "sgd", "eps": 1e-8}}, "does not take eps"),
        ({"num_classes": 5}, "not the length of the labels' class list"),
        (
            {"student": {"name": "deit_tiny_patch16_224", "kwargs": {"img_size": 32}}},
            "built for images of another size",
        ),
        ({"student": {"name": "no_such_network"}}, "cannot be built"),
        ({"student": {"init_from": "nowhere"}}, "nothing to start from"),
        ({"shards": {"path": "nowhere"}}, "there are no shards"),
        ({"shards": {"path": "{shards}", "split": "test"}}, "has no such split"),
        ({"eval": {"shards": {"path": "{shards}"}, "views": {"size": 32}}}, "not of the network's size"),
        ({"eval": {"shards": {"path": "nowhere"}, "views": {"size": 16}}}, "there are no shards"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value[:20],
)
def test_what_is_wrong_with_a_finetuning_is_found(world: World, sections: dict[str, Any], found: str) -> None:
    text = json.dumps(sections).replace("{shards}", str(world.shards))
    problems = wrong(plan_of(world.finetune(**json.loads(text))))
    assert len(problems) == 1
    assert found in problems[0]


def test_all_that_is_wrong_is_found_at_once(world: World) -> None:
    plan = plan_of(
        world.dump(store={"path": str(world.folder / "new"), "topk": 50, "views": 2}),
        world.pretrain(
            store={"path": str(world.folder / "new"), "views": 3},
            schedule=SCHEDULE | {"lanes": 3, "views_per_sample": 4},
        ),
        world.finetune(student=WIDER | {"init_from": str(world.folder / "distilled")}, num_classes=3),
    )
    found = "\n".join(wrong(plan))
    for problem in (
        "store.topk is larger than the teacher's number of classes",
        "lanes, batch size",
        "more views per sample than the store has",
        "fewer views than the recipe asks for",
        "the number of classes is not the length",
        "the weights belong to another network",
    ):
        assert problem in found


def test_more_processes_than_lanes_allow_are_found(world: World) -> None:
    assert "lanes, batch size" in wrong(plan_of(world.pretrain(), processes=3))[0]
    assert wrong(plan_of(world.pretrain(), processes=4)) == []


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"views": VIEWS | {"size": 32}}, "view_spec.size"),
        ({"store": {"topk": 4, "views": 2}}, "topk"),
        ({"store": {"topk": 5, "views": 2, "encoding": "exact"}}, "encoding"),
        ({"store": {"topk": 5, "views": 2, "seed": 1}}, "seed"),
        ({"teacher": {"checkpoint": "{teacher}", "mean": [0.1, 0.1, 0.1]}}, "teacher.mean"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_store_of_another_recipe_is_not_gone_on_with(world: World, sections: dict[str, Any], field: str) -> None:
    if "store" in sections:
        sections["store"] |= {"path": str(world.store)}
    sections = json.loads(json.dumps(sections).replace("{teacher}", str(world.teacher)))
    (problem, *others) = wrong(plan_of(world.dump(**sections)))
    assert not others
    assert "the store differs from this recipe in" in problem
    assert field in problem


def test_a_store_of_other_shards_is_found(world: World, tmp_path: Path) -> None:
    other = draw_shards(tmp_path, 60)
    shards = {"path": str(other), "split": "train"}
    assert "shard_lengths" in wrong(plan_of(world.pretrain(shards=shards)))[0]
    new = {"path": str(tmp_path / "new"), "topk": 5, "views": 2}
    found = wrong(plan_of(world.dump(store=new), world.pretrain(store={"path": new["path"]}, shards=shards)))
    assert found == ["1-pretrain.yaml: the store is made of other shards than the student trains on"]


def test_blocks_that_a_training_needs_are_missed_unless_a_dump_makes_them(world: World) -> None:
    next(iter(world.store.glob("s*/c.1.0.0"))).unlink()
    assert "blocks of the store that this run needs are missing" in wrong(plan_of(world.pretrain()))[0]
    assert wrong(plan_of(world.dump(), world.pretrain())) == []
    one_view = world.pretrain(store={"path": str(world.store), "views": 1})
    assert wrong(plan_of(one_view)) == []


def test_a_store_that_nobody_makes_is_found_with_the_one_that_is_made(world: World) -> None:
    dump = world.dump(store={"path": str(world.folder / "new"), "topk": 5, "views": 2})
    plan = plan_of(dump, world.pretrain(store={"path": str(world.folder / "nwe")}))
    (finding,) = plan.findings.wrong
    assert finding.parts["what"] == "there is no store here"
    assert str(world.folder / "new") in finding.parts["expected"]


def test_labels_are_looked_up_in_the_teachers_classes(world: World) -> None:
    (world.folder / "others.txt").write_text("".join(f"other{number}\n" for number in range(24)))
    labelled = {"path": str(world.shards), "class_list": str(world.folder / "others.txt")}
    plan = plan_of(world.pretrain(shards=labelled, loss={"alpha": 0.5}))
    assert any("fewer than half of the labels' classes" in each for each in wrong(plan))


def test_two_recipes_must_not_write_to_one_place(world: World) -> None:
    two = world.finetune(), world.finetune(student=WIDER)
    assert wrong(plan_of(*two)) == ["1-finetune.yaml: two recipes write to the same place"]


@pytest.mark.parametrize("place", ["dump", "finetune"])
def test_a_file_where_a_folder_is_to_be_made_is_found(place: str, world: World) -> None:
    (world.folder / "file").touch()
    inside = str(world.folder / "file" / "inside")
    config = (
        world.finetune(output=inside)
        if place == "finetune"
        else world.dump(store={"path": inside, "topk": 5, "views": 2})
    )
    assert [text.partition(": ")[2] for text in wrong(plan_of(config))] == [
        "a recipe writes to a folder that cannot be made"
    ]
    assert wrong(plan_of(config, elsewhere=True)) == []


def full_disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = SimpleNamespace(total=1 << 40, free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


def test_what_recipes_write_to_one_disk_is_added_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = world.finetune(), world.finetune(output=str(world.folder / "second"))

    def found(*configs: Any, free: int, **given: Any) -> Plan:
        full_disk(monkeypatch, free)
        return plan_of(*configs, **given)

    (_, _, need) = found(recipes[0], free=1 << 40).context.needs[0]
    assert wrong(found(recipes[0], free=need)) == []
    assert "not enough free disk space" in wrong(found(recipes[0], free=need - 1))[0]
    (both,) = found(*recipes, free=2 * need - 1).findings.wrong
    assert "finetuned" in both.parts["where"]
    assert "second" in both.parts["where"]
    assert wrong(found(*recipes, free=0, elsewhere=True)) == []


def test_a_cache_that_is_too_small_is_pointed_out(world: World) -> None:
    small = plan_of(world.pretrain(store={"path": str(world.store), "block_cache_mib": 1}))
    assert "will be read more than once" not in notes(small)  # blocks of forty samples
    assert small.stages[0].memory is not None
    assert 0 < small.stages[0].memory.blocks <= 1 << 20


def test_epochs_that_need_fewer_views_are_pointed_out(world: World) -> None:
    short = world.pretrain(schedule=SCHEDULE | {"epochs": 1})
    assert "it uses 1 of 2 views" in notes(plan_of(short))


def test_a_teacher_that_a_recipe_makes_need_not_be_there(world: World) -> None:
    made = world.finetune(output=str(world.folder / "new-teacher"))
    dump = world.dump(
        teacher={"checkpoint": str(world.folder / "new-teacher")},
        store={"path": str(world.folder / "new"), "topk": 5, "views": 2},
    )
    assert wrong(plan_of(dump, made)) == []
    assert wrong(plan_of(dump)) == ["0-dump-logits.yaml: the teacher's checkpoint is missing"]


def test_without_an_index_the_number_of_samples_has_to_be_given(world: World) -> None:
    for index in world.shards.glob("*.idx.npz"):
        index.unlink()
    shards = {"path": f"{world.shards}/train-*.tar"}
    (finding,) = plan_of(world.finetune(shards=shards, num_classes=24)).findings.wrong
    assert finding.parts["what"] == "nothing says how many samples the shards hold"
    assert "shards index" in finding.parts["fix"]


def test_shards_that_are_missing_can_be_given_as_a_number_and_damaged_ones_cannot(world: World) -> None:
    (missing,) = plan_of(world.finetune(shards={"path": "nowhere"}, num_classes=24)).findings.wrong
    assert "--samples finetune:N" in missing.parts["fix"]
    next(iter(world.shards.glob("*.tar"))).unlink()
    (damaged,) = plan_of(world.finetune()).findings.wrong
    assert "--samples" not in damaged.parts.get("fix", "")


def test_so_many_samples_that_no_plan_could_hold_their_shards_are_refused(world: World) -> None:
    nowhere = world.finetune(shards={"path": str(world.folder / "to-come")}, num_classes=5)
    for samples in ("1e12", "1e30"):
        (found,) = wrong(plan_of(nowhere, samples=(samples,)))
        assert "a plan of so many shards would not fit into memory" in found


def test_weights_of_a_file_are_compared_in_silence(world: World, recwarn: pytest.WarningsRecorder) -> None:
    finetune(world.finetune(output=str(world.folder / "first")), solo_job())
    recwarn.clear()
    assert wrong(plan_of(world.finetune(student={"init_from": str(world.folder / "first")}))) == []
    assert [str(each.message) for each in recwarn] == []


def test_samples_that_are_given_stand_for_shards_that_are_not_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinyvit_kd.storage.requests.PATIENCE", 0.1)
    nowhere = {"path": str(world.folder / "to-come")}
    remote = {"path": "https://localhost:1/shards-{0..1}.tar", "cache_dir": str(world.folder / "cache")}
    for shards in (nowhere, remote):
        plan = plan_of(world.finetune(shards=shards, num_classes=5), samples=("1000",), sizes=("7",))
        assert wrong(plan) == []
        assert (plan.stages[0].samples, plan.stages[0].image_bytes) == (1000, 7 * 2 * 62 * 16)
    there = plan_of(world.finetune(), samples=("1000",))
    assert there.stages[0].samples == 96
    assert "--samples does not apply to it" in notes(there)
    damaged = world.folder / "damaged"
    damaged.mkdir()
    (damaged / "_info.json").write_text("{")
    assert len(wrong(plan_of(world.finetune(shards={"path": str(damaged)}, num_classes=5), samples=("1000",)))) == 1


def test_a_run_that_follows_a_dump_may_be_planned_before_its_store_is_whole_or_there(world: World) -> None:
    followed = {"path": str(world.folder / "new"), "follow": True}
    config = world.pretrain(store=followed)
    plan = plan_of(config)
    assert wrong(plan) == []
    assert "it will wait for a dump to begin it" in notes(plan)
    shutil.copytree(world.store, world.folder / "new")
    next((world.folder / "new").rglob("c.1.0.0")).unlink()
    plan = plan_of(config)
    assert wrong(plan) == []
    assert "lacks 1 of the 6 blocks that it uses" in notes(plan)


@pytest.mark.parametrize(
    ("sections", "named"),
    [({}, True), ({"block_order": "views"}, True), ({"block_order": "views", "views_per_decode": 1}, False)],
    ids=["shard by shard", "all views from one decode", "view by view"],
)
def test_a_dump_that_completes_no_view_before_its_end_is_named_to_whoever_follows_it(
    world: World, sections: dict[str, Any], named: bool
) -> None:
    store = {"path": str(world.folder / "new")}
    dump = world.dump(store=store | {"topk": 5, "views": 2}, **sections)
    plan = plan_of(dump, world.pretrain(store=store | {"follow": True}))
    assert wrong(plan) == []
    assert ("completes no view before its end" in notes(plan)) == named
