"""Weights & Biases, offline: its own files say what it was told. Nothing here needs a network."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from tinyvit_kd.config.logging import LoggingConfig, WandbConfig
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.loggers.base import LoggedRun
from tinyvit_kd.runtime.loggers.weights_and_biases import open_wandb
from tinyvit_kd.runtime.metric_loggers import MetricsWriter

OFFLINE = LoggingConfig(tensorboard=False, wandb=WandbConfig(project="p", tags=("a", "b"), group="g", mode="offline"))

WRITTEN_WITHIN = 60.0  # seconds, on a busy machine


@pytest.fixture(autouse=True)
def nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_RUN_ID", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "no netrc"))
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb of the user"))
    import wandb

    wandb.teardown()  # what it has read of the environment


def records(file: Path) -> list[Any]:
    """All that a file holds, once it is whole: the client's own process writes it, and may be behind the run's end."""
    end = time.monotonic() + WRITTEN_WITHIN
    found = parsed(file)
    while not any(record.HasField("exit") for record in found) and time.monotonic() < end:
        time.sleep(0.05)
        found = parsed(file)
    return found


def parsed(file: Path) -> list[Any]:
    """What one of its files holds: 7 bytes of header, then protobuf messages in LevelDB's format of logs.

    Blocks of 32 KiB hold chunks with a checksum (4 bytes), a length (2) and a type: whole, first, middle or last (1).
    """
    from wandb.proto import wandb_internal_pb2

    content, found, parts = file.read_bytes(), [], b""
    assert content.startswith(b":W&B")
    at = 7
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:  # no chunk begins in the last bytes of a block
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", content, at + 4)
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            found.append(wandb_internal_pb2.Record.FromString(parts))
            parts = b""
    return found


def files_of(folder: Path) -> list[Path]:
    """The files of a run, the oldest first; folders are named by seconds, so that their times tell."""
    return sorted(folder.glob("wandb/offline-run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime_ns)


def points(file: Path) -> list[dict[str, Any]]:
    """The points of all curves, in the order in which they were logged."""
    rows = [record.history for record in records(file) if record.WhichOneof("record_type") == "history"]
    items = [{".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row.item} for row in rows]
    return [{name: value for name, value in row.items() if not name.startswith("_")} for row in items]


def test_a_run_that_is_continued_is_the_same_run_also_if_it_repeats_steps(tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    about = {"recipe": {"optim": {"base_lr": 0.5}}, "world_size": 2}
    for start, stop in ((1, 4), (3, 6)):
        with MetricsWriter(solo_job(), folder, OFFLINE, about) as writer:
            for step in range(start, stop):
                writer.write("train", step, {"loss": 1 / step})
        about = about | {"world_size": 4}
    first, second = files_of(folder)
    assert points(first) == [{"step": step, "train/loss": 1 / step} for step in (1, 2, 3)]
    assert points(second) == [{"step": step, "train/loss": 1 / step} for step in (3, 4, 5)]
    runs = [record.run for file in (first, second) for record in records(file) if record.HasField("run")]
    assert {run.run_id for run in runs} == {json.loads((folder / "loggers.json").read_bytes())["wandb"]}
    assert {(run.project, run.display_name, run.run_group, tuple(run.tags)) for run in runs} == {
        ("p", "my run", "g", ("a", "b"))
    }
    assert config_of(second)["world_size"] == 4
    assert config_of(first)["recipe"] == {"optim": {"base_lr": 0.5}}
    axes = [record.metric for record in records(first) if record.HasField("metric")]
    assert ("*", "step") in {(metric.glob_name, metric.step_metric) for metric in axes}


def config_of(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for record in records(file):
        changed = (
            [record.run.config] if record.HasField("run") else [record.config] if record.HasField("config") else []
        )
        found |= {item.key: json.loads(item.value_json) for each in changed for item in each.update if item.key}
    return found


def test_a_run_that_failed_is_marked_as_that(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stopped"), MetricsWriter(solo_job(), tmp_path / "run", OFFLINE):
        raise ValueError("stopped")
    (file,) = files_of(tmp_path / "run")
    assert [record.exit.exit_code for record in records(file) if record.HasField("exit")] == [1]


def test_where_nobody_is_logged_in_the_run_does_not_begin(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wandb login"):
        open_wandb(LoggedRun(tmp_path, LoggingConfig(wandb=WandbConfig())))


def test_without_a_network_a_run_logs_to_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "1")
    with MetricsWriter(solo_job(), tmp_path / "run", LoggingConfig(tensorboard=False, wandb=WandbConfig())) as writer:
        writer.write("train", 1, {"loss": 0.5})
    assert "cannot be reached" in capsys.readouterr().err
    (file,) = files_of(tmp_path / "run")
    assert points(file) == [{"step": 1, "train/loss": 0.5}]


def test_the_environment_may_set_the_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with MetricsWriter(solo_job(), tmp_path / "run", LoggingConfig(tensorboard=False, wandb=WandbConfig())) as writer:
        writer.write("train", 1, {"loss": 0.5})
    assert not files_of(tmp_path / "run")
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(ConfigError, match="sometimes"):
        open_wandb(LoggedRun(tmp_path, LoggingConfig(wandb=WandbConfig())))
