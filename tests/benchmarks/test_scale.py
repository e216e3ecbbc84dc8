"""The benchmarks of scale and of system calls in small: that they run, and what they say of sizes."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import scale, system_calls
from benchmarks.made_shards import grey_image, write_shards
from benchmarks.stores import made_up_store, stored_batches
from benchmarks.tiny_world import VIEWS
from tests.benchmarks.conftest import Result
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.loader import loading
from tinyvit_kd.data.shards import ShardSet

COUNTS = """% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000600           1       500           pread64
 40.00    0.000400           2       200        12 newfstatat
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000           1       700        12 total
"""


def test_bookkeeping_is_measured_and_grows_with_shards_at_most(result: Result, tmp_path: Path) -> None:
    scale.main(["--tiny", "--results", str(tmp_path / "scale.json")])
    found = result()
    assert json.loads((tmp_path / "scale.json").read_text()) == found
    small, large = found["sets"].values()
    assert large["shards"] / small["shards"] == 4
    assert large["told to others, MiB"] <= 4 * small["told to others, MiB"] + 0.01
    assert found["blocks"]["listed"]["blocks"] == 90 * small["shards"]
    assert len(set(found["checkpoint_bytes"].values())) == 1
    for ranks in (8, 64):
        few, many = (found["ranks"][f"{name}, {ranks} ranks"] for name in ("10k", "40k"))
        assert few["samples per step"] == many["samples per step"] == scale.BATCH // ranks


def test_the_calls_of_a_process_are_read_from_what_strace_writes() -> None:
    assert system_calls.parse_counts(COUNTS) == {"pread64": 500, "newfstatat": 200}


def test_batches_ask_the_file_system_for_nothing_but_images_once_their_blocks_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = ShardSet.load(write_shards(tmp_path / "shards", [grey_image()], shards=2, samples=64))
    store = made_up_store(tmp_path / "store", shards, ViewSpec.model_validate(VIEWS), topk=5, classes=40, views=1)
    maker = stored_batches(shards, store, batch=32, lanes=4)
    calls: Counter[str] = Counter()

    def count(name: str) -> None:
        call = getattr(os, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            calls[name] += 1
            return call(*arguments, **named)

        monkeypatch.setattr(os, name, counted)

    for name in ("stat", "lstat", "scandir", "listdir", "open", "pread", "access", "mkdir"):
        count(name)
    with loading(maker, range(8), RuntimeConfig(workers=0), torch.device("cpu")) as batches:
        for _ in range(4):  # an epoch: all blocks and shards have been opened
            next(batches)
        calls.clear()
        for _ in range(4):
            next(batches)
    assert calls == {"pread": 128}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace, which counts system calls, is not installed")
def test_loading_makes_fewer_than_three_system_calls_per_sample_and_lists_nothing(result: Result) -> None:
    system_calls.main(["--tiny", "--workers", "1", "--stages", "loading"])
    found = result()["per_thousand_samples"]["loading"]
    assert 1000 <= found["reads"] < found["all"] < 3000
    assert found["listings"] == 0
    assert found["files"] < 100
