"""Processes share work through a folder: each result is there once, and whole, whoever is killed when."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.processes import wait_until
from tinyvit_kd.contraction import claims, results_folder
from tinyvit_kd.contraction.claims import Claims
from tinyvit_kd.contraction.results_folder import ResultsFolder, Values
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.files import LARGEST_JSON, atomic_write, unfinished

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


def test_a_claim_that_its_process_gives_back_during_a_look_at_it_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS says so of a file that is open."""
    (tmp_path / "piece.claim").write_text(json.dumps({"token": "t", "machine": "another", "process": 1}))

    def stale(_: int) -> os.stat_result:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", stale)
        with Claims(tmp_path).claimed("piece") as is_ours:
            assert not is_ours
    (tmp_path / "piece.claim").unlink()
    with Claims(tmp_path).claimed("piece") as is_ours:
        assert is_ours


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


def test_a_result_is_written_again_after_an_error_that_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, errors = os.link, [OSError(errno.ESTALE, "Stale file handle") for _ in range(2)]

    def link(source: Path, target: Path) -> None:
        if errors:
            raise errors.pop()
        real(source, target)

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(os, "replace", link)
    assert ResultsFolder(tmp_path).write("piece", {"score": 1}) == {"score": 1}
    assert ResultsFolder(tmp_path).read("piece") == {"score": 1}


def test_a_damaged_result_is_made_anew(tmp_path: Path) -> None:
    shared = ResultsFolder(tmp_path)
    shared.write("piece", {"score": 1})
    (path,) = (tmp_path / "results").iterdir()
    path.write_bytes(path.read_bytes()[:5])
    assert shared.complete(["piece"], lambda _: {"score": 3}, patiently) == [{"score": 3}]
    assert shared.read("piece") == {"score": 3}


def test_a_result_larger_than_other_small_files_is_read_again(tmp_path: Path) -> None:
    values = {"results": "x" * (LARGEST_JSON + 1)}
    assert ResultsFolder(tmp_path).write("plan", values) == values
    assert ResultsFolder(tmp_path).read("plan") == values


def test_a_result_too_large_to_be_read_again_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_folder, "LARGEST", 1024)
    with pytest.raises(ConfigError, match=r"too many candidates.*plan\.json.*at most 1\.0 KiB.*search\.rounds"):
        ResultsFolder(tmp_path).complete(["plan"], lambda _: {"results": "x" * 1024}, patiently)
    assert list((tmp_path / "results").iterdir()) == []


def test_weights_that_are_not_needed_go_and_with_them_what_killed_processes_left(tmp_path: Path) -> None:
    held = Claims(tmp_path / "claims", lasts=60.0)
    shared = ResultsFolder(tmp_path, held)
    for name in ("needed", "made anew"):
        atomic_write(shared.weights(name), b"weights")
    left = ["weights/.w.safetensors.1a2b3c4d.partial", "results/.r.json.1a2b3c4d.partial", "claims/.1a2b.clock"]
    left += ["claims/.c.claim.1a2b3c4d.partial", "claims/piece.claim"]
    for name in left:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (time.time() - 120, time.time() - 120))
    in_hand = tmp_path / "weights" / ".w.safetensors.5e6f7a8b.partial"
    in_hand.write_bytes(b"")
    with held.claimed("held"):
        shared.remove_left(lambda name: name == "needed")
        files = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {shared.weights("needed"), in_hand, tmp_path / "claims" / "held.claim"}


def test_who_is_at_work_is_told(tmp_path: Path) -> None:
    shared = ResultsFolder(tmp_path)
    (tmp_path / "claims").mkdir()
    assert shared.at_work(["first", "second"]) == ""
    (tmp_path / "claims" / "first.claim").write_text("{")  # damaged
    claim = {"token": "t", "machine": "node7 a-boot pid:[1]", "process": 1234}
    (tmp_path / "claims" / "second.claim").write_text(json.dumps(claim))
    assert shared.at_work(["first", "second"]) == "node7, process 1234: second"


def test_results_come_in_the_order_that_was_asked_for_wherever_a_process_begins(tmp_path: Path) -> None:
    order: list[str] = []

    def make(name: str) -> Values:
        order.append(name)
        return {"name": name}

    found = ResultsFolder(tmp_path, first=0.5).complete(["a", "b", "c", "d"], make, patiently)
    assert [each["name"] for each in found] == ["a", "b", "c", "d"]
    assert order == ["c", "d", "a", "b"]
