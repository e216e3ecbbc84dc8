"""Checkpoints are whole or not there, the newest good one is found, and none executes code."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.damage import Bomb
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.training.checkpoint import checkpoints, load_checkpoint, load_latest, save_checkpoint


def state(step: int) -> dict[str, Any]:
    """A state as the loop saves it, with the moments of a real optimiser."""
    torch.manual_seed(step)
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "ema": None}
    return {**parts, "step": step, "identity": {"store": "abc"}, "kept": {}}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("fsync", [False, True])
def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path, fsync: bool) -> None:
    written = state(1234)
    path = save_checkpoint(tmp_path / "checkpoints", written, 1234, 2, fsync)
    assert path.name == "step-000001234.pt"
    loaded = load_checkpoint(path)
    assert loaded.keys() == written.keys()
    assert torch.equal(loaded["model"]["weight"], written["model"]["weight"])
    assert torch.equal(loaded["optimizer"]["state"][0]["exp_avg"], written["optimizer"]["state"][0]["exp_avg"])
    assert (loaded["step"], loaded["identity"], loaded["ema"]) == (1234, {"store": "abc"}, None)


def test_equal_states_are_equal_files_though_one_was_read_from_a_file(tmp_path: Path) -> None:
    written = state(7)
    first = save_checkpoint(tmp_path / "first", written, 7, 1).read_bytes()
    assert save_checkpoint(tmp_path / "again", state(7), 7, 1).read_bytes() == first
    loaded = load_checkpoint(tmp_path / "first" / "step-000000007.pt")
    assert save_checkpoint(tmp_path / "read", loaded, 7, 1).read_bytes() == first
    assert save_checkpoint(tmp_path / "other", {**loaded, "step": 8}, 7, 1).read_bytes() != first


def test_what_a_state_dict_says_of_its_modules_is_kept(tmp_path: Path) -> None:
    written = state(7)
    loaded = load_checkpoint(save_checkpoint(tmp_path, written, 7, 1))
    assert loaded["model"]._metadata == written["model"]._metadata
    assert type(loaded["model"]) is type(written["model"])


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept(tmp_path: Path, keep: int) -> None:
    for step in (5, 10, 200, 1000):
        save_checkpoint(tmp_path, state(step), step, keep)
    expected = [f"step-{step:09d}.pt" for step in (5, 10, 200, 1000)][-keep:]
    assert names(tmp_path) == expected
    latest = load_latest(tmp_path)
    assert latest is not None
    assert latest["step"] == 1000


def test_a_folder_without_checkpoints_starts_anew(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "absent") is None
    (tmp_path / "notes.pt").touch()
    (tmp_path / ".step-000000005.pt.1234.partial").touch()
    assert load_latest(tmp_path) is None


def test_the_newest_whole_one_is_taken_where_a_later_one_is_torn(tmp_path: Path) -> None:
    for step in (10, 20):
        torn = save_checkpoint(tmp_path, state(step), step, 2)
    torn.write_bytes(torn.read_bytes()[:-100])
    latest = load_latest(tmp_path)
    assert latest is not None
    assert latest["step"] == 10


def test_a_torn_later_one_does_not_displace_what_the_run_writes_next(tmp_path: Path) -> None:
    (tmp_path / "step-000000020.pt").write_bytes(b"torn")
    save_checkpoint(tmp_path, state(15), 15, 1)
    latest = load_latest(tmp_path)
    assert latest is not None
    assert latest["step"] == 15
    save_checkpoint(tmp_path, state(20), 20, 1)
    assert names(tmp_path) == ["step-000000020.pt"]


def test_where_none_can_be_read_the_run_does_not_start_over_silently(tmp_path: Path) -> None:
    for step in (10, 20):
        (tmp_path / f"step-{step:09d}.pt").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        load_latest(tmp_path)
    assert "step-000000020.pt" in str(caught.value)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"step-000000001\.pt"):
        load_checkpoint(tmp_path / "step-000000001.pt")


def test_every_flipped_bit_and_every_lost_byte_is_found(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, state(7), 7, 1)
    whole = path.read_bytes()
    draws = random.Random(0)
    weights = load_checkpoint(path)["model"]["weight"].numpy().tobytes()
    inside_weights = whole.index(weights)
    flips = [inside_weights, inside_weights + 17, *(draws.randrange(len(whole)) for _ in range(150))]
    for position in flips:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << draws.randrange(8)
        path.write_bytes(damaged)
        assert refused_or_unchanged(path, weights)
    path.write_bytes(bytes(whole[:inside_weights]) + b"\x00" + whole[inside_weights + 1 :])
    with pytest.raises(CheckpointError, match="checksum"):
        load_checkpoint(path)
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            load_checkpoint(path)


def refused_or_unchanged(path: Path, weights: bytes) -> bool:
    """Bits of padding and of dates may differ: then what is read must be what was written."""
    try:
        loaded = load_checkpoint(path)
    except CheckpointError:
        return True
    return bool(loaded["model"]["weight"].numpy().tobytes() == weights and loaded["step"] == 7)


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path) -> None:
    target = tmp_path / "exploded"
    path = save_checkpoint(tmp_path, {**state(1), "bomb": Bomb(target)}, 1, 1)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)
    assert not target.exists()


@pytest.mark.parametrize("content", [[1, 2], {"model": {}}, torch.ones(2)], ids=["list", "model alone", "tensor"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "step-000000001.pt")
    with pytest.raises(CheckpointError, match="not a checkpoint of a run"):
        load_checkpoint(tmp_path / "step-000000001.pt")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, state(4), 4, 1)
    before = path.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(tmp_path, {**state(4), "loader": lambda: None}, 4, 1)
    assert path.read_bytes() == before
    assert names(tmp_path) == [path.name]


WRITER = """
import sys, torch
from pathlib import Path
from tinyvit_kd.training.checkpoint import save_checkpoint
folder, step = Path(sys.argv[1]), 0
while True:
    step += 1
    big = torch.full((500_000,), float(step))
    save_checkpoint(folder, {"model": {"w": big}, "optimizer": {}, "identity": {}, "kept": {}, "step": step}, step, 2)
    print(step, flush=True)
"""


def test_a_killed_writer_leaves_whole_checkpoints_and_the_next_one_tidies_up(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    with writer.stdout:
        for _ in range(3):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
    latest = load_latest(tmp_path)
    assert latest is not None
    assert bool((latest["model"]["w"] == latest["step"]).all())
    (tmp_path / ".step-000000999.pt.0123.partial").touch()
    save_checkpoint(tmp_path, state(latest["step"] + 1), latest["step"] + 1, 1)
    assert names(tmp_path) == [f"step-{latest['step'] + 1:09d}.pt"]


def test_checkpoints_are_listed_newest_first(tmp_path: Path) -> None:
    for step in (7, 100, 20):
        save_checkpoint(tmp_path, state(step), step, 9)
    assert [path.name[-6:-3] for path in checkpoints(tmp_path)] == ["100", "020", "007"]
