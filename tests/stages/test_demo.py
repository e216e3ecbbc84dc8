"""The demo, with few images: it runs, its table says what its JSON says, and a second run costs nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.demo import demo, draw_shards, table, write_report

PROMISED = {
    "teacher_top1",
    "distilled_top1",
    "scratch_top1",
    "store_bytes_per_record",
    "digests_checked",
    "digests_equal",
    "seconds",
}


def test_the_demo_runs_from_nothing_and_again(tmp_path: Path) -> None:
    first = demo(tmp_path / "demo", 3, solo_job(), train_images=240, val_images=48)
    assert first.keys() >= PROMISED
    assert int(first["digests_checked"]) == first["digests_equal"]
    assert int(first["digests_checked"]) > 0
    printed = table(first)
    for name in ("teacher_top1", "scratch_top1", "distilled_top1", "finetuned_top1"):
        assert f"{first[name]:.2f} %" in printed
    again = demo(tmp_path / "demo", 3, solo_job(), train_images=240, val_images=48)
    assert {name: again[name] for name in PROMISED - {"seconds"}} == {
        name: first[name] for name in PROMISED - {"seconds"}
    }

    said = write_report(tmp_path / "demo")
    assert said.endswith(str(tmp_path / "demo" / "report.html"))
    assert "distilled" in (tmp_path / "demo" / "report.html").read_text()


def test_without_plotly_the_demo_says_how_to_get_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    assert "pip install 'tinyvit_kd[report]'" in write_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_another_seed_draws_other_images(tmp_path: Path) -> None:
    for seed in (0, 1):
        draw_shards(tmp_path / str(seed), seed, train_images=24, val_images=24)
    left, right = (sorted((tmp_path / str(seed) / "images").rglob("*.jpg")) for seed in (0, 1))
    assert [path.name for path in left] == [path.name for path in right]
    assert not {path.read_bytes() for path in left} & {path.read_bytes() for path in right}
