"""The benchmark of object stores runs, and finds what it says."""

from __future__ import annotations

import json

import pytest

from benchmarks import object_store


@pytest.mark.slow
def test_batches_through_a_cache_are_timed_against_those_from_the_disk(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("moto.server")
    object_store.main(["--tiny"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(result["first_batch_after_first_shard_s"]) == {"pretrain", "dump"}
    assert all(result[f"{stage}_warm_over_disk"] > 0 for stage in ("pretrain", "dump"))
    assert result["views_per_second"]["pretrain, warm"] > 0
