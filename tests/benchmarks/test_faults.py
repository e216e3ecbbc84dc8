"""The fault campaign of ``benchmarks`` in small; and what it checks can fail."""

from __future__ import annotations

import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.fault_injection.compare import BlockWatch, shard_differences, store_differences, weight_differences
from benchmarks.fault_injection.corruption import MUTATIONS, Damage, Outcome, corrupt, examine, judge
from benchmarks.fault_injection.damage import kinds
from benchmarks.fault_injection.kills import Round, Timing
from benchmarks.fault_injection.processes import Running, hear_interrupts
from benchmarks.fault_injection.subjects import SIZE, Subjects
from benchmarks.fault_injection.world import DUMP, PRETRAIN, SHARDS, TARGETS, FaultWorld, Size
from benchmarks.faults import Campaign, kill_rounds, table
from tinyvit_kd.errors import StoreError
from tinyvit_kd.models.modelfile import MODEL, load_model_file, save_model
from tinyvit_kd.store.store import LogitStore


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Subjects:
    made = Subjects(tmp_path_factory.mktemp("subjects"), seed=3)
    made.make()
    return made


@pytest.fixture(autouse=True)
def commands_hear_interrupts() -> None:
    hear_interrupts()


@pytest.mark.slow
def test_a_stage_that_is_killed_and_run_again_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    # A seed with kills of four kinds: one of them falls into start-up, the others right behind new output.
    world = FaultWorld(tmp_path, Size(samples=480, per_shard=80), seed=28085)
    world.draw()
    for target in (SHARDS, DUMP, PRETRAIN):
        world.reference(target).run_here()
    timings = {target: Timing(startup=5.0, work=3.0) for target in (DUMP, PRETRAIN)}
    rounds = list(kill_rounds(world, timings, rounds=2, kills=2, jobs=2))
    assert [problem for each in rounds for problem in each.problems] == []
    assert sum(len(each.kills) for each in rounds) > 0


def test_no_corruption_goes_unnoticed(subjects: Subjects) -> None:
    found = corrupt(subjects, 60, seed=0, kinds=kinds())
    assert found.undetected == []
    assert found.count(Outcome.DETECTED) > 40


def test_every_corruption_is_put_right_again(subjects: Subjects) -> None:
    before = contents(subjects.world.folder)
    corrupt(subjects, len(kinds()), seed=1, kinds=kinds())
    assert contents(subjects.world.folder) == before


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def damaged_block(subjects: Subjects, damage: Damage) -> Damage:
    path = subjects.block(0, 0)
    return replace(damage, edits={path: MUTATIONS["bits flipped"](random.Random(0), path.read_bytes())})


@pytest.mark.parametrize(
    ("names", "sound", "expected"),
    [
        (("c.0.0.0",), False, Outcome.DETECTED),
        (("another file",), False, Outcome.UNDETECTED),
        (("c.0.0.0",), True, Outcome.UNDETECTED),
    ],
    ids=["named and found", "not named", "not found by the check"],
)
def test_a_corruption_counts_as_detected_only_when_the_file_is_named_and_the_check_finds_it(
    names: tuple[str, ...], sound: bool, expected: Outcome, subjects: Subjects
) -> None:
    damage = Damage({}, names, lambda: subjects.read_blocks([(0, 0)]), lambda: sound)
    assert examine(damaged_block(subjects, damage))[0] == expected


def test_a_reader_that_ignores_a_corruption_is_found_out(subjects: Subjects) -> None:
    path = subjects.block(0, 0)
    damage = damaged_block(subjects, Damage({}, (str(path),), path.read_bytes))
    found = corrupt(subjects, 3, seed=0, kinds={"ignored": lambda *_: damage})
    assert found.count(Outcome.UNDETECTED) == len(found.undetected) == 3
    assert Campaign(corruptions=found).summary()["undetected"] == 3


def test_an_error_of_a_library_counts_as_undetected() -> None:
    def read() -> object:
        raise KeyError("the path")

    assert judge(read, None, ("the path",))[0] == Outcome.UNDETECTED


def test_reading_as_before_is_harmless_and_an_error_that_names_the_file_is_not() -> None:
    def read() -> object:
        raise StoreError("damaged", where="the path")

    assert judge(lambda: 1, 1, ())[0] == Outcome.HARMLESS
    assert judge(read, 1, ("the path",))[0] == Outcome.DETECTED


def altered_store(subjects: Subjects, folder: Path) -> Path:
    shutil.copytree(subjects.store, folder)
    store = LogitStore.open(folder, writable=True)
    block = store.read_block(1, 2)
    block.seeds[5] += 1
    store.write_block(1, 2, block)
    return folder


def test_one_altered_record_makes_a_store_unequal(subjects: Subjects, tmp_path: Path) -> None:
    assert store_differences(subjects.store, subjects.store) == []
    found = store_differences(altered_store(subjects, tmp_path / "store"), subjects.store)
    assert len(found) == 1
    assert "s000001/c.2.0.0 differs" in found[0]
    campaign = Campaign(rounds=[Round(0, DUMP, tmp_path, 8, unequal=found)])
    assert campaign.summary()["store_equal"] is False
    assert campaign.summary()["weights_equal"] is True
    assert "UNEQUAL" in table(campaign)


def test_one_altered_weight_makes_models_unequal(subjects: Subjects, tmp_path: Path) -> None:
    run = subjects.world.reference(PRETRAIN).output
    weights, card = load_model_file(run)
    assert card is not None
    save_model(tmp_path / MODEL, weights, card)
    assert weight_differences(tmp_path, run) == []
    weights["head.fc.bias"][3] += 1e-7
    save_model(tmp_path / MODEL, weights, card)
    assert len(weight_differences(tmp_path, run)) == 1


def test_one_altered_byte_makes_shards_unequal(subjects: Subjects, tmp_path: Path) -> None:
    copy = shutil.copytree(subjects.shards, tmp_path / "shards")
    assert shard_differences(copy, subjects.shards) == []
    with (copy / "train-000001.tar").open("r+b") as file:
        file.seek(3000)
        file.write(b"!")
    assert len(shard_differences(copy, subjects.shards)) == 1


@pytest.mark.parametrize("how", ["removed", "damaged", "written again", "altered"])
def test_a_block_that_is_gone_or_changed_is_lost(how: str, subjects: Subjects, tmp_path: Path) -> None:
    copy = shutil.copytree(subjects.store, tmp_path / "store")
    watch = BlockWatch(copy, tmp_path / "trace")
    assert watch.look() == ([], 0)
    path = copy / "s000001" / "c.2.0.0"
    if how == "removed":
        path.unlink()
    elif how == "damaged":
        path.write_bytes(path.read_bytes()[:-1])
    elif how == "written again":
        time.sleep(0.01)
        path.write_bytes(path.read_bytes())
    else:
        shutil.rmtree(copy)
        altered_store(subjects, copy)
    assert any("gone or changed" in problem for problem in watch.look()[0])


def test_blocks_that_were_begun_and_are_not_there_are_counted_once(subjects: Subjects, tmp_path: Path) -> None:
    copy = shutil.copytree(subjects.store, tmp_path / "store")
    trace = tmp_path / "trace"
    for view in range(2):
        (copy / "s000000" / f"c.{view}.0.0").unlink()
    watch = BlockWatch(copy, trace)
    trace.write_text("0 0\n0 1\n0 2\n0 3\n")
    assert watch.look() == ([], 2)
    assert watch.look() == ([], 0)


def test_a_process_that_stays_behind_is_found_and_ended(tmp_path: Path) -> None:
    running = Running(["sh", "-c", "sleep 60 & exit 0"], f"test-{tmp_path}", tmp_path / "log")
    assert running.wait(10) == 0
    left = running.leftovers(patience=0.2)
    assert ["sleep 60" in member.command for member in left] == [True]  # the shell's own command, until it is one
    assert running.members() == []


def test_a_process_is_seen_while_it_changes_its_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGAIN", 'exec sh -c "$AGAIN"')
    running = Running(["sh", "-c", 'exec sh -c "$AGAIN"'], f"test-{tmp_path}", tmp_path / "log")
    seen = {len(running.members()) for _ in range(200)}
    running.kill_all()
    running.wait(10)
    assert seen == {1}


def test_more_blocks_than_are_in_flight_are_a_problem(tmp_path: Path) -> None:
    assert Round(0, DUMP, tmp_path, 8, redone=[8, 0]).problems == []
    assert len(Round(0, DUMP, tmp_path, 8, redone=[9, 0]).problems) == 1


def test_every_stage_has_its_turn() -> None:
    assert {target.stage for target in TARGETS} == {"shards build", "dump-logits", "pretrain", "finetune"}
    assert SIZE.shards * SIZE.per_shard == SIZE.samples
