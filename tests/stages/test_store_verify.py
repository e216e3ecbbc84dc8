"""``store verify``: a store of this teacher passes, and what was changed in it or in the teacher is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.tiny_world import MIXED, World, draw_shards, make_teacher
from tests.conftest import CommandLine, Ended
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore

Verify = Callable[..., Ended]
Change = Callable[[Block], None]


@pytest.fixture
def verify(command_line: CommandLine) -> Verify:
    """The command for a world: its recipe and store, with further options."""

    def run(world: World, *options: str, samples: int = 24, **sections: Any) -> Ended:
        recipe = world.folder / "dump.yaml"
        recipe.write_text(dump_yaml(world.dump(**sections)))
        return command_line("store", "verify", world.store, "--teacher", recipe, "--samples", str(samples), *options)

    return run


def checks(ended: Ended) -> dict[str, bool]:
    """Which checks passed."""
    return {name: each["passed"] for name, each in json.loads(ended.out)["checks"].items()}


def failed(ended: Ended) -> set[str]:
    return {name for name, passed in checks(ended).items() if not passed}


def rewrite(world: World, change: Change) -> None:
    """Change all blocks of a store, and write them as a dump does."""
    store = LogitStore.open(world.store, writable=True)
    for shard, view in list(store.present_blocks([])):
        block = store.read_block(shard, view)
        change(block)
        store.write_block(shard, view, block)


def test_a_store_of_this_teacher_passes(world: World, verify: Verify) -> None:
    ended = verify(world)
    assert ended.code == 0, ended
    assert ended.out.startswith(f"{world.store}: 24 records of 6 blocks; dumped in float32, compact; computed here in")
    assert "24 of 24 the same" in ended.out
    assert ended.out.endswith("\nthe records are this teacher's\n")


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_a_store_of_another_precision_passes_within_a_wider_bound(
    world: World, verify: Verify, tmp_path: Path, precision: str
) -> None:
    other = "float32" if precision == "bfloat16" else "bfloat16"
    sections = {"store": {"path": str(tmp_path / "other"), "topk": 5, "views": 2, "encoding": "exact"}}
    dump_logits(world.dump(runtime={"workers": 0, "precision": precision}, **sections), solo_job())
    world.store = tmp_path / "other"
    ended = verify(world, "--json", "--set", f"runtime.precision={other}", samples=80, **sections)
    assert ended.code == 0, ended
    result = json.loads(ended.out)
    assert result["precision"] == {"store": precision, "here": other}
    delta = result["checks"]["delta_p"]
    assert delta["largest"] > 1e-4, "bfloat16 is seen"
    assert delta["bound"] < 0.5


def test_mixed_views_and_holes_are_verified_too(tmp_path: Path, verify: Verify) -> None:
    draw_shards(tmp_path, 30, broken=[3])
    make_teacher(tmp_path)
    world = World(tmp_path)
    dump_logits(world.dump(views=MIXED), solo_job())
    ended = verify(world, "--json", samples=1000)
    result = json.loads(ended.out)
    assert ended.code == 0, ended
    assert (result["records"], result["compared"], result["checks"]["views"]["holes"]) == (60, 58, 2)


def test_the_seed_chooses_the_records(world: World, verify: Verify) -> None:
    results = [json.loads(verify(world, "--json", "--seed", seed).out) for seed in ("1", "1", "2")]
    assert results[0] == results[1] != results[2]


def test_another_teacher_is_found(world: World, verify: Verify) -> None:
    make_teacher(world.folder, seed=2)
    ended = verify(world, "--json")
    assert ended.code == 1
    assert {"weights", "top1", "delta_p", "mean_kl"} <= failed(ended)
    assert json.loads(ended.out)["wrong"]


def test_a_teacher_of_other_classes_is_refused(world: World, verify: Verify) -> None:
    make_teacher(world.folder, num_classes=7)
    ended = verify(world)
    assert ended.code == 2
    assert "it has another number of classes" in ended.err


def test_another_normalisation_is_found_by_what_is_written_and_by_what_comes_of_it(
    world: World, verify: Verify
) -> None:
    ended = verify(world, "--json", "--set", "teacher.mean=[0.48, 0.46, 0.41]")
    assert ended.code == 1
    assert {"input_and_classes", "delta_p", "mean_kl"} <= failed(ended)
    assert "weights" not in failed(ended)


def flip_a_class(block: Block) -> None:
    """The best class becomes the one that is least probable."""
    rows = np.arange(len(block))
    best, least = block.probs.argmax(axis=1), block.probs.argmin(axis=1)
    block.probs[rows, best], block.probs[rows, least] = block.probs[rows, least], block.probs[rows, best]


def quantise(block: Block) -> None:
    """Four bits for a probability, where the encoding has eight for its root."""
    block.probs[:] = np.rint(block.probs * 15) / 15


def soften(block: Block) -> None:
    """Probabilities of a temperature of 1.1."""
    block.probs[:] = block.probs ** (1 / 1.1)
    block.probs[:] *= ((1 - block.residual) / block.probs.sum(axis=1))[:, None]


def lose_the_rest(block: Block) -> None:
    """All probability is among the top K."""
    block.probs[:] /= block.probs.sum(axis=1, keepdims=True)
    block.residual[:] = 0


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (flip_a_class, {"top1", "delta_p", "mean_kl"}),
        (quantise, {"delta_p", "mean_kl"}),
        (soften, {"delta_p", "mean_kl"}),
        (lose_the_rest, {"delta_rest"}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_was_changed_in_the_records_is_found(
    world: World, verify: Verify, change: Change, found: set[str]
) -> None:
    rewrite(world, change)
    ended = verify(world, "--json")
    assert ended.code == 1
    assert found <= failed(ended)
    assert not {"weights", "input_and_classes", "views"} & failed(ended)


def test_one_wrong_record_is_named(world: World, verify: Verify) -> None:
    store = LogitStore.open(world.store, writable=True)
    block = store.read_block(1, 0)
    one = block.take(np.array([5]))
    flip_a_class(one)
    block.put(np.array([5]), one)
    store.write_block(1, 0, block)
    ended = verify(world, samples=1000)
    assert ended.code == 1
    assert "191 of 192 the same" in ended.out
    assert "  train-000001.tar:5, view 0: another best class, |Δp| above its bound\n" in ended.out
    assert ended.out.endswith("\nthe records are NOT what this teacher says of these images\n")


def test_views_of_other_images_are_found(world: World, verify: Verify) -> None:
    def forget(block: Block) -> None:
        block.digests[::2] ^= 1

    rewrite(world, forget)
    ended = verify(world, "--json", samples=1000)
    assert ended.code == 1
    assert failed(ended) == {"views"}
    assert json.loads(ended.out)["checks"]["views"]["different"] == 96


def test_a_damaged_block_is_a_fault_and_a_missing_one_is_not(world: World, verify: Verify) -> None:
    (world.store / "s000002" / "c.1.0.0").unlink()
    assert verify(world).code == 0
    path = world.store / "s000001" / "c.0.0.0"
    path.write_bytes(path.read_bytes()[:-1])
    ended = verify(world, "--json")
    assert ended.code == 1
    assert failed(ended) == {"views"}


def test_the_recipe_may_be_the_teacher_s_section_alone(world: World, command_line: CommandLine, tmp_path: Path) -> None:
    recipe = tmp_path / "teacher.yaml"
    recipe.write_text(f"checkpoint: {world.teacher}\n")
    arguments = ("store", "verify", world.store, "--teacher", recipe, "--samples", "6", "--set", "runtime.workers=0")
    ended = command_line(*arguments, "--shards", world.shards, "--set", "shards.split=train")
    assert ended.code == 0, ended
    assert command_line(*arguments).code == 2


def test_copies_of_shards_are_kept_as_the_recipe_or_the_options_say(
    world: World, command_line: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(
        dump_yaml(world.dump(shards={"path": str(world.shards), "cache_dir": str(tmp_path / "a"), "cache_local": True}))
    )
    arguments = ("store", "verify", world.store, "--teacher", tmp_path / "recipe.yaml", "--samples", "90")
    assert command_line(*arguments).code == 0
    tars = sorted(world.shards.glob("*.tar"))
    assert kept_in(tmp_path / "a") == len(tars) == 3
    room = 1.5 * max(tar.stat().st_size for tar in tars) / 2**30
    options = ("--split", "train", "--cache-dir", tmp_path / "b", "--cache-gib", room, "--cache-local")
    assert command_line(*arguments, *options, "--index-dir", tmp_path / "c").code == 0
    assert 1 <= kept_in(tmp_path / "b") < 3
    assert len(list((tmp_path / "c").iterdir())) == 3
    (tmp_path / "recipe.yaml").write_text(dump_yaml(world.dump()))
    refused = command_line(*arguments, "--cache-gib", "1")
    assert refused.code == 2
    assert "cache_gib has no effect without cache_dir" in refused.err


def kept_in(folder: Path) -> int:
    return len(list(folder.glob("*.tar")))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stage: pretrain\n", "the recipe names no teacher. Where"),
        ("teacher: {checkpiont: teacher}\n", "did you mean checkpoint"),
        ("teacher: {checkpoint: nowhere}\n", "nowhere"),
        ("- 1\n", "not a mapping"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_refused(
    world: World, command_line: CommandLine, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    ended = command_line(
        "store", "verify", world.store, "--teacher", tmp_path / "recipe.yaml", "--shards", world.shards
    )
    assert ended.code == 2
    assert said in ended.err
