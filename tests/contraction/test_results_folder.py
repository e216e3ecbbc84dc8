"""Processes share work through a folder: each result is there once, and whole, whoever is killed when."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.processes import wait_until
from tinyvit_kd.contraction import claims
from tinyvit_kd.contraction.claims import Claims
from tinyvit_kd.contraction.results_folder import ResultsFolder, Values
from tinyvit_kd.runtime.files import unfinished

NAMES = [f"piece-{number}" for number in range(12)]
FORK = multiprocessing.get_context("fork")


def patiently(_: Sequence[str]) -> None:
    time.sleep(0.02)


def work(folder: Path, seconds: float, lasts: float = 60.0, first: float = 0.0) -> list[Values]:
    """Complete all pieces, each of which takes a while, and note who made each, in a file of its own."""

    def make(name: str) -> Values:
        with (folder / f"{name}.made-by").open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(seconds)
        return {"square": int(name.removeprefix("piece-")) ** 2}

    shared = ResultsFolder(folder, Claims(folder / "claims", lasts=lasts, renewed_every=0.05), first)
    return shared.complete(NAMES, make, patiently)


def makers(folder: Path) -> dict[str, list[int]]:
    return {name: list(map(int, (folder / f"{name}.made-by").read_text().split())) for name in NAMES}


SQUARES = [{"square": number**2} for number in range(12)]


def test_two_processes_share_the_work_and_make_each_piece_once(tmp_path: Path) -> None:
    other = FORK.Process(target=work, args=(tmp_path, 0.05), kwargs={"first": 0.5})
    other.start()
    assert work(tmp_path, 0.05) == SQUARES
    other.join(30)
    assert other.exitcode == 0
    made = makers(tmp_path)
    assert all(len(each) == 1 for each in made.values())
    assert {process for each in made.values() for process in each} == {os.getpid(), other.pid}
    assert list((tmp_path / "claims").iterdir()) == []


def test_what_a_killed_process_had_in_hand_is_taken_over_at_once_on_the_same_machine(tmp_path: Path) -> None:
    other = FORK.Process(target=work, args=(tmp_path, 30.0))
    other.start()
    wait_until(lambda: (tmp_path / "piece-0.made-by").exists(), "nothing was begun")
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    other.join(10)
    assert list((tmp_path / "claims").glob("*.claim"))
    assert work(tmp_path, 0.0) == SQUARES
    assert makers(tmp_path)["piece-0"] == [other.pid, os.getpid()]
    assert list((tmp_path / "claims").glob("*.claim")) == []
    assert unfinished(tmp_path / "results") == []


def test_of_another_machine_it_is_taken_over_when_it_was_not_renewed_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = FORK.Process(target=work, args=(tmp_path, 30.0))
    other.start()
    wait_until(lambda: (tmp_path / "piece-0.made-by").exists(), "nothing was begun")
    monkeypatch.setattr(claims, "_machine", lambda: "another machine")
    shared = Claims(tmp_path / "claims", lasts=0.5)
    time.sleep(0.7)
    with shared.claimed("piece-0") as is_ours:
        assert not is_ours  # it is renewed
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    other.join(10)
    with shared.claimed("piece-0") as is_ours:
        assert not is_ours  # not yet
    assert work(tmp_path, 0.0, lasts=0.5) == SQUARES
    assert makers(tmp_path)["piece-0"] == [other.pid, os.getpid()]


def test_a_process_with_the_number_of_a_dead_one_does_not_wait_for_itself(tmp_path: Path) -> None:
    """In a container that is started again, every process has the number that it had before."""
    claim = {"token": "an earlier one", "machine": claims._machine(), "process": os.getpid()}
    (tmp_path / "piece.claim").write_text(json.dumps(claim))
    with Claims(tmp_path).claimed("piece") as is_ours:
        assert is_ours


def test_a_process_of_another_container_on_this_machine_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    """With the host's network, containers share its name, and each numbers its processes by itself."""
    namespace = os.readlink("/proc/self/ns/pid")
    assert namespace in claims._machine()
    elsewhere = claims._machine().replace(namespace, "pid:[1]")
    (tmp_path / "piece.claim").write_text(json.dumps({"token": "t", "machine": elsewhere, "process": os.getpid()}))
    with Claims(tmp_path).claimed("piece") as is_ours:
        assert not is_ours


def test_a_claim_is_given_back_when_its_work_fails(tmp_path: Path) -> None:
    shared = Claims(tmp_path)
    with pytest.raises(RuntimeError, match="failed"), shared.claimed("piece"):
        raise RuntimeError("failed")
    with shared.claimed("piece") as is_ours:
        assert is_ours


def test_a_claim_that_was_taken_over_is_not_removed_by_its_first_process(tmp_path: Path) -> None:
    other = json.dumps({"token": "another", "machine": "another", "process": 1})
    with Claims(tmp_path).claimed("piece") as is_ours:
        assert is_ours
        (tmp_path / "piece.claim").write_text(other)
    assert (tmp_path / "piece.claim").read_text() == other


def test_the_first_result_stands(tmp_path: Path) -> None:
    shared = ResultsFolder(tmp_path)
    assert shared.write("piece", {"score": 1}) == {"score": 1}
    assert shared.write("piece", {"score": 2}) == {"score": 1}
    assert shared.read("piece") == {"score": 1}


def test_a_damaged_result_is_made_anew(tmp_path: Path) -> None:
    shared = ResultsFolder(tmp_path)
    shared.write("piece", {"score": 1})
    (path,) = (tmp_path / "results").iterdir()
    path.write_bytes(path.read_bytes()[:5])
    assert shared.complete(["piece"], lambda _: {"score": 3}, patiently) == [{"score": 3}]
    assert shared.read("piece") == {"score": 3}


def test_results_come_in_the_order_that_was_asked_for_wherever_a_process_begins(tmp_path: Path) -> None:
    order: list[str] = []

    def make(name: str) -> Values:
        order.append(name)
        return {"name": name}

    found = ResultsFolder(tmp_path, first=0.5).complete(["a", "b", "c", "d"], make, patiently)
    assert [each["name"] for each in found] == ["a", "b", "c", "d"]
    assert order == ["c", "d", "a", "b"]
