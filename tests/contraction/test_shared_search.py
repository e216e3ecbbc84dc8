"""A search goes on from its files: stopped, killed or shared, it comes to the same rounds."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.contraction.fake_trainer import (
    CLASSES,
    SIZE,
    FakeTrainer,
    complete,
    micro_config,
    shape_of_micro,
    shared_search,
    worker,
)
from tests.processes import wait_until
from tinyvit_kd.contraction import shared_search as shared_search_module
from tinyvit_kd.contraction.candidate_run import ROUND_BITS
from tinyvit_kd.contraction.records import Candidate
from tinyvit_kd.contraction.rounds import from_json
from tinyvit_kd.contraction.sample_losses import read_losses
from tinyvit_kd.contraction.search import Task
from tinyvit_kd.errors import ConfigError, NonFiniteLossError
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.load_weights import InitialWeights
from tinyvit_kd.runtime.heartbeat import Beat, saying
from tinyvit_kd.runtime.signals import Preempted

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_search_module, "LOOK_EVERY", 0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """What a search that nothing interrupts writes, and how many trainings it takes."""
    folder, trainer = tmp_path_factory.mktemp("whole"), FakeTrainer()
    complete(folder, shared_search(folder, micro_config(), trainer))
    return (folder / "rounds.json").read_bytes(), len(trainer.trained)


def test_a_search_leaves_its_rounds_and_no_weights(tmp_path: Path) -> None:
    outcome = complete(tmp_path, shared_search(tmp_path, micro_config(), FakeTrainer()))
    assert from_json(json.loads((tmp_path / "rounds.json").read_text())) == outcome
    assert len(outcome.rounds) == 2
    assert outcome.winners == outcome.rounds[-1].front[:1]
    assert [score.steps for score in outcome.base.scores] == [4, 8]
    assert outcome.base.timing is not None
    assert list((tmp_path / "weights").iterdir()) == []
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_search_that_is_stopped_again_and_again_comes_to_the_same_rounds(
    tmp_path: Path, whole: tuple[bytes, int]
) -> None:
    rounds, trainings = whole

    def stop_at(count: int) -> None:
        if count == 3:
            raise Preempted("stopped")

    total = stops = 0
    while True:
        trainer = FakeTrainer(stop_at)
        try:
            complete(tmp_path, shared_search(tmp_path, micro_config(), trainer))
        except Preempted:
            stops += 1
            total += len(trainer.trained)
            assert list((tmp_path / "claims").iterdir()) == []
            continue
        break
    assert stops > 3
    assert (tmp_path / "rounds.json").read_bytes() == rounds
    # What is lost are further seeds of finalists, which are trained in one go.
    assert trainings <= total + len(trainer.trained) <= trainings + stops


def test_a_finished_search_trains_nothing_again(tmp_path: Path, whole: tuple[bytes, int]) -> None:
    complete(tmp_path, shared_search(tmp_path, micro_config(), FakeTrainer()))
    again = FakeTrainer()
    complete(tmp_path, shared_search(tmp_path, micro_config(), again))
    assert again.trained == []
    assert (tmp_path / "rounds.json").read_bytes() == whole[0]


def test_every_score_has_the_losses_of_its_samples(tmp_path: Path) -> None:
    complete(tmp_path, shared_search(tmp_path, micro_config(), FakeTrainer()))
    scores = {path.stem: json.loads(path.read_text()).get("score") for path in (tmp_path / "results").glob("*.json")}
    for name, score in scores.items():
        losses = read_losses(tmp_path / "results" / f"{name}.losses.npy")
        assert (losses is None) == (score is None)
        assert losses is None or losses.mean(dtype=float) == pytest.approx(score["cross_entropy"])
    assert list((tmp_path / "results").glob(".*")) == []


def test_ties_are_told_by_the_differences_of_samples_and_without_these_by_the_errors(tmp_path: Path) -> None:
    """All differences are constant here, and far below the errors of the scores; a folder of old has no losses."""
    config = micro_config(proxy={"steps": 8, "rungs": 2, "finalists": 2, "seeds": 1})
    outcome = complete(tmp_path, shared_search(tmp_path, config, FakeTrainer()))
    assert [record.ties for record in outcome.rounds] == [[], []]
    for path in (tmp_path / "results").glob("*.npy"):
        path.unlink()
    again = FakeTrainer()
    without = complete(tmp_path, shared_search(tmp_path, config, again))
    assert again.trained == []
    assert all(len(record.ties) >= 1 for record in without.rounds)
    rounds = [replace(record, ties=[]) for record in without.rounds]
    assert replace(without, rounds=rounds) == outcome  # ties decide nothing


def test_weights_that_are_gone_are_made_anew(tmp_path: Path, whole: tuple[bytes, int]) -> None:
    def lose_weights(count: int) -> None:
        if count in (4, 9):
            for path in (tmp_path / "weights").iterdir():
                path.unlink()

    trainer = FakeTrainer(lose_weights)
    complete(tmp_path, shared_search(tmp_path, micro_config(), trainer))
    assert (tmp_path / "rounds.json").read_bytes() == whole[0]
    assert len(trainer.trained) > whole[1]


def test_weights_of_earlier_rounds_go_whoever_made_them_and_those_of_later_rounds_stay(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    made_anew = ["round-00.w8.part-1", "round-00.w8.part-2", "round-01.w8.part-1", "round-01.w8.part-2"]
    ahead, others = "round-02.w8.part-1", "notes"
    for name in (*made_anew, ahead, others):
        (tmp_path / "weights" / f"{name}.safetensors").touch()
    outcomes = shared_search(tmp_path, micro_config(), FakeTrainer()).outcomes()
    (record,) = next(outcomes).rounds
    inherited = {f"round-01.{name}.part-2" for name in record.next_bases}
    assert {path.stem for path in (tmp_path / "weights").iterdir()} == {ahead, others, *inherited}
    assert len(list(outcomes)) == 1
    assert {path.stem for path in (tmp_path / "weights").iterdir()} == {others}


def test_a_process_that_is_behind_takes_nothing_from_one_that_is_ahead(
    tmp_path: Path, whole: tuple[bytes, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def replay(count: int) -> None:
        """While the one ahead trains let another come from the start, and stop where it would work or wait."""
        if count % 4:
            return
        other = shared_search(tmp_path, micro_config(), FakeTrainer(stop))
        before = {path.name for path in (tmp_path / "weights").glob("*.safetensors")}
        with pytest.raises(Preempted):
            complete(tmp_path, other)
        assert {path.name for path in (tmp_path / "weights").glob("*.safetensors")} == before, count

    def stop(_: float) -> None:
        raise Preempted("stopped")

    monkeypatch.setattr(time, "sleep", stop)
    ahead = FakeTrainer(replay)
    complete(tmp_path, shared_search(tmp_path, micro_config(), ahead))
    assert len(ahead.trained) == whole[1]
    assert (tmp_path / "rounds.json").read_bytes() == whole[0]


def test_a_further_seed_that_diverges_is_told_and_the_search_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @dataclass
    class OneSeedDiverges(FakeTrainer):
        def train(self, network: nn.Module, first: int, last: int, seed: int) -> None:
            if seed % (1 << ROUND_BITS) == 1:
                raise NonFiniteLossError("the loss is NaN")
            super().train(network, first, last, seed)

    config = micro_config(proxy={"steps": 8, "rungs": 2, "finalists": 2, "seeds": 3})
    outcome = complete(tmp_path, shared_search(tmp_path, config, OneSeedDiverges()))
    assert len(outcome.rounds) == 2
    assert [sum(result.diverged for result in record.results) for record in outcome.rounds] == [2, 2]
    told = capsys.readouterr().err
    assert ".part-2.seed-1: its training diverged: the loss is NaN" in told
    assert f"a winner: {outcome.winners[0]}" in told
    winner = outcome.result(outcome.winners[0])
    assert winner is not None
    assert winner.diverged == 1
    assert "; 1 of 2 further seeds diverged\n" in told.partition("a winner: ")[2]


def test_who_waits_is_told_for_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of a machine that is lost holds its piece until its claim has run out."""
    beats: list[Beat] = []

    @contextmanager
    def kept(*args: Any) -> Iterator[Beat]:
        with saying(*args) as beat:
            beats.append(beat)
            yield beat

    monkeypatch.setattr(shared_search_module, "saying", kept)
    shared = shared_search(tmp_path, micro_config(), FakeTrainer())
    piece = Task(0, Candidate(shape_of_micro()), 0).name
    claim = tmp_path / "claims" / f"{piece}.claim"
    claim.parent.mkdir()
    claim.write_text(json.dumps({"token": "t", "machine": "node7 a-boot", "process": 1234}))
    os.utime(claim, (time.time() - 4.5, time.time() - 4.5))  # of the 5 s that it lasts
    next(shared.outcomes())
    assert [beat.what for beat in beats] == [f"other processes at work (node7, process 1234: {piece})"]


def test_processes_share_a_search_and_one_of_them_may_be_killed(tmp_path: Path, whole: tuple[bytes, int]) -> None:
    workers = [FORK.Process(target=worker, args=(tmp_path, micro_config(), 0.1, each)) for each in (0.0, 0.4, 0.7)]
    for each in workers:
        each.start()
    killed, *others = workers
    assert killed.pid is not None
    wait_until(lambda: len(list(tmp_path.glob(f"began-{killed.pid}-*"))) > 1, "it did not take part")
    os.kill(killed.pid, signal.SIGKILL)
    killed.join(10)
    for each in others:
        each.join(60)
    assert [each.exitcode for each in others] == [0, 0]
    assert (tmp_path / "rounds.json").read_bytes() == whole[0]
    made = Counter(path.name.split("-")[1] for path in tmp_path.glob("began-*"))
    assert all(made[str(each.pid)] > 1 for each in others)  # both had a share
    assert list((tmp_path / "claims").glob("*.claim")) == []
    for path in (tmp_path / "results").glob("*.json"):
        assert json.loads(path.read_text())


def test_given_weights_are_scored_and_inherited_without_training_the_base(tmp_path: Path) -> None:
    network = build_network(shape_of_micro().spec(), CLASSES, SIZE, seed=7)
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(0.25)
    initial = InitialWeights(network.state_dict())
    outcome = complete(tmp_path, shared_search(tmp_path, micro_config(), FakeTrainer(), initial))
    assert [(score.steps, score.cross_entropy) for score in outcome.base.scores] == [(0, 2.75)]
    first = outcome.rounds[0].results[0].scores[0]
    assert first.cross_entropy == pytest.approx(2.75 - 4e-3, abs=1e-6)  # all weights are slices of equal numbers


def test_without_inheritance_the_base_is_not_trained_and_all_begin_afresh(tmp_path: Path) -> None:
    proxy = {"steps": 8, "rungs": 2, "finalists": 1, "seeds": 1, "inherit": False}
    trainer = FakeTrainer()
    outcome = complete(tmp_path, shared_search(tmp_path, micro_config(proxy=proxy), trainer))
    assert outcome.base.scores == []
    assert len(trainer.trained) == sum(len(result.scores) for each in outcome.rounds for result in each.results)


def test_further_seeds_begin_at_the_base_and_are_trained_part_by_part(tmp_path: Path) -> None:
    trainer = FakeTrainer()
    complete(tmp_path, shared_search(tmp_path, micro_config(), trainer))
    assert [each[:2] for each in trainer.trained if each[2] == 1] == [(0, 4), (4, 8)] * 4  # two finalists, two rounds
    assert {each[:2] for each in trainer.trained if each[2] == 0} == {(0, 4), (4, 8)}


def test_a_base_that_diverges_ends_the_search_in_words(tmp_path: Path) -> None:
    def diverge(_: int) -> None:
        raise NonFiniteLossError("the loss is NaN")

    with pytest.raises(ConfigError, match=r"the base could not be trained.*the loss is NaN"):
        complete(tmp_path, shared_search(tmp_path, micro_config(), FakeTrainer(diverge)))


def test_a_target_below_the_smallest_shape_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    config = micro_config(limits={"parameters": 10})
    with pytest.raises(
        ConfigError, match=r"even the smallest shape of the space misses the limits.*limits\.parameters"
    ):
        shared_search(tmp_path, config, FakeTrainer()).planner.require_reachable()
