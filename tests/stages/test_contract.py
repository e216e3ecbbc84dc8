"""``contract`` end to end, on drawn images: from a store to a winner that ``pretrain`` takes as it is."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tinyvit_kd
from benchmarks.tiny_world import World, draw_shards, pretrain_recipe
from tests.conftest import CommandLine
from tests.stages.commands import COMMAND_LINE, torchrun, wait_for_file
from tinyvit_kd.config.contraction import ThroughputConfig
from tinyvit_kd.config.load import load_recipe
from tinyvit_kd.config.recipes import ContractConfig, PretrainConfig
from tinyvit_kd.config.yaml_text import yaml_text
from tinyvit_kd.contraction import forward_pass
from tinyvit_kd.contraction.results_folder import ResultsFolder
from tinyvit_kd.contraction.rounds import from_json
from tinyvit_kd.contraction.throughput import timing_setting
from tinyvit_kd.models.modelfile import MODEL, read_card
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE

MICRO: dict[str, Any] = {
    "embed_dims": [16, 16, 32, 32],
    "depths": [1, 1, 2, 1],
    "num_heads": [1, 2, 4, 4],
    "window_sizes": [2, 2, 2, 2],
}


BRIEF: dict[str, Any] = {
    "proxy": {"steps": 1, "rungs": 1, "finalists": 1, "seeds": 1},
    "search": {"rounds": 1},
}


def recipe(world: World, **sections: Any) -> Path:
    """Write a recipe of a search of two rounds that takes a moment; keyword arguments replace whole sections."""
    tree = pretrain_recipe(world.shards, world.store, world.folder / "search") | {
        "stage": "contract",
        "student": {"tiny_vit": MICRO, "drop_path_rate": 0.05},
        "space": {"tiny_vit": {"factors": ["widths", "depths"], "width_step": 8, "lowest_widths": [8, 8, 8, 8]}},
        "limits": {"parameters": 50_000},
        "search": {"rounds": 2, "bases": 2, "winners": 2},
        "throughput": {"batch_size": 2, "turns": 3},
        "proxy": {"steps": 4, "rungs": 2, "finalists": 2, "seeds": 2},
    }
    path = world.folder / "contract.yaml"
    path.write_text(yaml_text(tree | sections))
    return path


def command(path: Path, *program: str, options: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, *(program or COMMAND_LINE), "contract", str(path), *options]


@pytest.mark.slow
def test_a_search_leaves_recipes_which_pretrain_takes_as_they_are(world: World, command_line: CommandLine) -> None:
    ended = command_line("contract", recipe(world))
    assert ended.code == 0, ended.err
    folder = world.folder / "search"
    outcome = from_json(json.loads((folder / "rounds.json").read_text()))
    assert [record.number for record in outcome.rounds] == [1, 2]
    figures = json.loads(ended.out)
    assert figures["parameters"] <= 50_000
    assert outcome.winners[0] in ended.err
    assert "optimiser steps" in ended.err

    winner = load_recipe(PretrainConfig, folder / "winner.yaml")
    assert winner.student.drop_path_rate == 0.05
    text = (folder / "winner.yaml").read_text()
    assert text.startswith("# Found by tinyvit-kd contract on ")
    card = (folder / "contract.md").read_text()
    assert f"## Winner 1: `{outcome.winners[0]}`" in card
    assert "Lineage:" in card
    assert outcome.winners[0] in (folder / "contract.html").read_text()
    assert list((folder / "weights").iterdir()) == list((folder / "claims").iterdir()) == []

    (told,) = json.loads(command_line("status", folder, "--json").out)["jobs"]
    assert (told["kind"], told["state"], told["done"], told["total"]) == ("search", "finished", 2, 2)
    assert (tuple(told["winners"]), told["workers"], told["notes"]) == (outcome.winners, [], [])
    assert told["best"]["name"] == outcome.winners[0]
    assert told["best"]["cross_entropy"] == pytest.approx(figures["cross_entropy"])

    trained = command_line("pretrain", folder / "winner.yaml")
    assert trained.code == 0, trained.err
    made = read_card(world.folder / "search-winner" / MODEL)
    assert made is not None
    assert made.spec.tiny_vit == winner.student.tiny_vit

    before = (folder / "rounds.json").read_bytes()
    again = command_line("contract", recipe(world))
    assert (again.code, json.loads(again.out)) == (0, figures)
    assert (folder / "rounds.json").read_bytes() == before
    assert "agreement" not in again.err.partition("cross-entropy")[0]  # no candidate was trained, or scored


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a target that no shape meets": (
        {"limits": {"parameters": 100}},
        "even the smallest shape of the space misses the limits",
    ),
    "a base of no space": ({"student": {"name": "resnet18"}}, "the student cannot be contracted"),
    "a URL": ({"output": "s3://bucket/search"}, "a search works in a folder"),
    "no limit": ({"limits": {}}, "give at least one of parameters"),
    "a store that is not finished": ({"store": {"path": "nowhere"}}, "nowhere"),
}


@pytest.mark.parametrize(("sections", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_searched_is_refused_in_a_paragraph(
    sections: dict[str, Any], words: str, world: World, command_line: CommandLine
) -> None:
    ended = command_line("contract", recipe(world, **sections))
    assert ended.code == 2, ended.err
    assert words in ended.err
    assert not (world.folder / "search").exists()  # so that a corrected recipe may have the same output


def test_a_store_of_one_shard_has_nothing_to_hold_out(tmp_path: Path, command_line: CommandLine) -> None:
    from benchmarks.tiny_world import make_teacher
    from tinyvit_kd.stages.dump_logits import dump_logits

    draw_shards(tmp_path, samples=20)
    make_teacher(tmp_path)
    dump_logits(World(tmp_path).dump(), solo_job())
    ended = command_line("contract", recipe(World(tmp_path)))
    assert ended.code == 2
    assert "a store without held-out blocks" in ended.err


def test_the_folder_of_a_training_or_of_another_search_is_refused(world: World, command_line: CommandLine) -> None:
    (world.folder / "search").mkdir()
    (world.folder / "search" / "recipe.yaml").write_text("stage: pretrain\n")
    assert "this folder is that of a training" in command_line("contract", recipe(world)).err
    (world.folder / "search" / "recipe.yaml").unlink()

    assert command_line("contract", recipe(world, **BRIEF)).code == 0
    ended = command_line("contract", recipe(world, **BRIEF, optim={"base_lr": 0.1}))
    assert ended.code == 2
    assert "this folder belongs to a search by another recipe" in ended.err
    assert "optim.base_lr 0.05 → 0.1" in ended.err


def test_a_process_that_joins_another_one_has_a_log_of_its_own(world: World, command_line: CommandLine) -> None:
    path, folder = recipe(world, **BRIEF), world.folder / "search"
    assert command_line("contract", path).code == 0
    first = (folder / "log.txt").read_text()
    with ResultsFolder(folder).claimed("log.txt") as is_at_work:
        assert is_at_work
        assert command_line("contract", path).code == 0
    (own,) = folder.glob("log.*.txt")
    assert own.name == f"log.{platform.node()}-{os.getpid()}.txt"
    assert "contract, tinyvit_kd" in own.read_text()
    assert (folder / "log.txt").read_text() == first

    assert command_line("contract", path).code == 0  # started again, it goes on with the log that nobody uses
    assert (folder / "log.txt").read_text().count("contract, tinyvit_kd") == 2
    assert len(list(folder.glob("log*.txt"))) == 2


OF_THE_MACHINE = ("device", "training precision", "scoring precision", "timings")


def test_machines_of_another_kind_are_refused_and_folders_that_do_not_tell_of_them_go_on(
    world: World, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recipe(world, **BRIEF, limits={"images_per_second": 0.01})
    assert command_line("contract", path).code == 0
    identity = world.folder / "search" / "identity.json"
    begun = json.loads(identity.read_text())
    assert begun["device"] == "cpu"
    assert json.loads(begun["timings"])["batch_size"] == 2

    identity.write_text(json.dumps(begun | {"device": "cuda", "training precision": "bfloat16"}))
    ended = command_line("contract", path)
    assert ended.code == 2
    assert "this search was begun on a machine of another kind" in ended.err
    assert "device cuda → cpu; training precision bfloat16 → float32" in ended.err
    assert "throughput.hardware" not in ended.err

    identity.write_text(json.dumps({name: begun[name] for name in begun if name not in OF_THE_MACHINE}))
    assert command_line("contract", path).code == 0  # of an earlier version

    identity.write_text(json.dumps(begun))
    monkeypatch.setattr(forward_pass, "machine", lambda: {"cpu": "another one", "cores": 1})
    ended = command_line("contract", path)
    assert ended.code == 2
    assert "timings.machine.cpu" in ended.err
    assert "→ another one" in ended.err
    assert "throughput.hardware" in ended.err


@pytest.mark.parametrize("limits", [{"parameters": 60_000}, {"images_per_second": 900}])
def test_timings_bind_no_search_that_is_not_limited_by_them(limits: dict[str, float], world: World) -> None:
    figures = {"multiply_adds_per_second": 4e11, "bytes_per_second": 2e10}
    config = load_recipe(ContractConfig, recipe(world, limits=limits, throughput={"hardware": figures}))
    assert timing_setting(config, solo_job(), 4, 32) is None
    measured = config.model_copy(update={"throughput": ThroughputConfig()})
    assert (timing_setting(measured, solo_job(), 4, 32) is None) == ("parameters" in limits)


def test_a_recipe_of_a_search_is_no_plan_and_can_be_read_from_python(world: World, command_line: CommandLine) -> None:
    ended = command_line("plan", recipe(world))
    assert ended.code == 2
    assert "a search is not planned" in ended.out + ended.err
    assert isinstance(tinyvit_kd.load_recipe(recipe(world)), ContractConfig)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_search_that_is_stopped_or_killed_comes_to_the_same_rounds(world: World, number: signal.Signals) -> None:
    path = recipe(world)
    subprocess.run(command(path), check=True, capture_output=True)
    folder = world.folder / "search"
    whole = folder.rename(world.folder / "whole")

    process = subprocess.Popen(command(path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for_file(process, folder, "results/round-01.*part-1.json")
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (REQUEUE_EXIT_CODE if number == signal.SIGTERM else -number), said
    done = subprocess.run(command(path), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert without_timings(folder / "rounds.json") == without_timings(whole / "rounds.json")


PARTS = (((*torchrun(2), *COMMAND_LINE), "1/2"), (COMMAND_LINE, "2/2"))


@pytest.mark.slow
def test_ranks_and_jobs_share_a_search(world: World) -> None:
    path = recipe(world)
    one, two = (command(path, *program, options=("--part", part)) for program, part in PARTS)
    other = subprocess.Popen(two, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    ranks = subprocess.run(one, capture_output=True, text=True, check=False)
    assert ranks.returncode == 0, ranks.stderr
    _, said = other.communicate(timeout=120)
    assert other.returncode == 0, said
    folder = world.folder / "search"
    logs = {log.name: log.read_text() for log in folder.glob("log*.txt")}
    assert logs.keys() == {"log.part-1-of-2.txt", "log.part-1-of-2.rank-1.txt", "log.part-2-of-2.txt"}
    made = [log.count("agreement") for log in logs.values()]
    assert sum(bool(count) for count in made) >= 2
    assert json.loads(ranks.stdout.splitlines()[-1])["parameters"] <= 50_000


def without_timings(path: Path) -> Any:
    """The rounds of a search, without what a clock measured."""
    values = json.loads(path.read_text())
    for record in [{"results": [values["base"]]}, *values["rounds"]]:
        for result in record["results"]:
            result["timing"] = None
    return values
