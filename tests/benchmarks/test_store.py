"""The store's benchmark in small: its baselines read what they should, and its one command prints what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.store import main
from benchmarks.stored.fidelity import divergences, gradient_errors, official
from benchmarks.stored.rates import Training
from benchmarks.stored.raw import LeanReader, OfficialReader, load_keys
from benchmarks.stored.records import fill_store, official_key, official_type, write_official
from tests.store.blocks import random_block

BLOCK = random_block(50, 5, 1000, holes=0)
CLASSES = 1000


@pytest.mark.parametrize("reader", [LeanReader, OfficialReader])
def test_readers_of_official_files_give_the_record_of_a_key(
    reader: type[LeanReader] | type[OfficialReader], tmp_path: Path
) -> None:
    write_official(tmp_path / "raw", BLOCK, 120)
    reading = reader(tmp_path / "raw", 5, load_keys(tmp_path / "raw"))
    for number in (0, 49, 50, 119):
        seed, indices, probs = reading.read(official_key(number))
        row = number % 50
        assert seed == BLOCK.seeds[row]
        assert sorted(indices) == BLOCK.indices[row].tolist()
        assert probs.tolist() == sorted(BLOCK.probs[row].astype(np.float16), reverse=True)
    reading.close()


@pytest.mark.parametrize(("topk", "size"), [(100, 404), (10, 44)])
def test_an_official_record_takes_this_many_bytes(topk: int, size: int) -> None:
    assert official_type(topk).itemsize == size


def test_a_record_that_is_kept_exactly_has_no_error() -> None:
    assert divergences(BLOCK, BLOCK, CLASSES).max() == 0
    assert set(gradient_errors(BLOCK, BLOCK, CLASSES, 50).values()) == {0}
    assert min(gradient_errors(BLOCK, official(BLOCK), CLASSES, 50).values()) > 0


def test_a_worker_reads_on_from_round_to_round(tmp_path: Path) -> None:
    training = Training(fill_store(tmp_path / "store", BLOCK, CLASSES, 2000), 1, 1024, 1)
    assert [training.read()[0], training.cold()[0]] == [1024, 1024]
    assert training.step == 2


def test_the_benchmark_prints_tables_and_a_line_of_json(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"records": 20_000, "raw-records": 20_000, "rounds": 1, "sample": 500, "gradients": 4}
    options = [f"--{name}={size}" for name, size in sizes.items()]
    main([f"--topk-sim={shared_data / 'topk_sim'}", f"--scratch={tmp_path}", *options])
    printed = capsys.readouterr().out
    result = json.loads(printed.splitlines()[-1])
    assert result["bytes_per_record_k100"] <= 166
    assert result["bytes_per_record_k10"] <= 28
    assert result["kl_k100"] <= 3e-4
    assert result["worker_mib_14m"] <= 64
    assert {"read_over_raw_shuffled", "first_record_s_14m", "machine", "records_per_s"} <= set(result)
    assert all(rate > 0 for rate in result["records_per_s"].values())
    assert printed.count("\n|---") == 3
    assert list(tmp_path.iterdir()) == []
