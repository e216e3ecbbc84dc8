"""The benchmark of a store's readers in small: that it runs, and that it counts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks import store_workers
from benchmarks.memory import pss_mib
from tests.benchmarks.conftest import Result


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads what Linux says of a process")
def test_processes_with_one_cache_decompress_each_block_once(result: Result, tmp_path: Path) -> None:
    store_workers.main(["--tiny", "--results", str(tmp_path / "workers.json")])
    found = result()
    cases = found["cases"]
    assert set(cases) == {"separate, 1", "shared, 1", "separate, 3", "shared, 3"}
    for case in cases.values():
        assert case["records"] == 32 * 100 // 64 * 64
        assert case["blocks_needed"] == 32
    assert cases["shared, 3"]["blocks_decompressed"] == 32 <= cases["separate, 3"]["blocks_decompressed"]
    assert json.loads((tmp_path / "workers.json").read_text()) == found


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads what Linux says of a process")
def test_the_memory_of_processes_is_that_of_each_of_them() -> None:
    before = pss_mib([os.getpid()])
    held = np.ones(1 << 26, dtype=np.uint8)
    assert 60 < pss_mib([os.getpid()]) - before < 70
    assert held[0] == 1
    assert pss_mib([os.getpid(), os.getpid()]) == pytest.approx(2 * pss_mib([os.getpid()]), rel=0.05)
