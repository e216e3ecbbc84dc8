"""A run logs to what its recipe asks for, goes on there when it is continued, and is the same run without it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tiny_world import World
from tests.conftest import CommandLine
from tests.runs.recorder import RunRecorder
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.runs.run_metrics import _without_commands

BOTH: dict[str, Any] = {"wandb": {"mode": "offline"}, "mlflow": {}}


def test_a_run_begun_without_loggers_takes_some_in_and_stays_in_the_same_logged_run(world: World) -> None:
    from mlflow import MlflowClient

    with pytest.raises(RuntimeError, match="stopped"):
        RunRecorder().pretrain(world.pretrain(), stop_at=5)
    assert not (world.folder / "distilled" / "loggers.json").exists()
    with pytest.raises(RuntimeError, match="stopped"):
        RunRecorder().pretrain(world.pretrain(logging=BOTH), stop_at=9)
    ids = json.loads((world.folder / "distilled" / "loggers.json").read_bytes())
    RunRecorder().pretrain(world.pretrain(logging=BOTH | {"tensorboard": False}))
    assert json.loads((world.folder / "distilled" / "loggers.json").read_bytes()) == ids
    client = MlflowClient(tracking_uri=(world.folder / "distilled" / "mlflow").as_uri())
    run = client.get_run(ids["mlflow"])
    assert run.info.status == "FINISHED"
    assert run.data.params["recipe.schedule.epochs"] == "2"
    assert run.data.params["versions.torch"]
    logged = {point.step: point.value for point in client.get_metric_history(ids["mlflow"], "train/loss")}
    lines = map(json.loads, (world.folder / "distilled" / "metrics.jsonl").read_text().splitlines())
    written = {line["step"]: line["loss"] for line in lines}
    assert logged
    assert logged == {step: written[step] for step in logged}
    assert max(logged) == 12
    starts = list((world.folder / "distilled").glob(f"wandb/offline-run-*-{ids['wandb']}/run-{ids['wandb']}.wandb"))
    assert starts


def test_a_missing_package_is_an_error_before_the_run_starts(
    world: World, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = world.folder / "pretrain.yaml"
    recipe.write_text(dump_yaml(world.pretrain(logging={"mlflow": {}})))
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "mlflow" else find(name, *rest)
    )
    code, out, err = command_line("pretrain", recipe)
    assert (code, out) == (2, "")
    assert "the package mlflow is not installed. Where: logging.mlflow." in err
    assert "pip install 'tinyvit_kd[mlflow]'" in err
    assert not (world.folder / "distilled" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("logging.wandb.mode=sometimes", "'online', 'offline' or 'disabled'"),
        ("logging.wandb.projekt=a", "did you mean project"),
        ("logging.mlflow.tracking_uri=http://me:pw@host", "MLFLOW_TRACKING_PASSWORD"),
        ("logging.mlflow.tracking_uri=pigeon://roof", "MLflow refuses these settings"),
    ],
)
def test_a_wrong_setting_is_one_paragraph_and_exit_code_2(
    setting: str, said: str, world: World, command_line: CommandLine
) -> None:
    recipe = world.folder / "pretrain.yaml"
    recipe.write_text(dump_yaml(world.pretrain()))
    code, out, err = command_line("pretrain", recipe, "--set", setting)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_only_what_is_asked_for_is_imported(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.metric_loggers import MetricsWriter
with MetricsWriter(solo_job(), Path(sys.argv[1])) as writer:
    writer.write("train", 1, {"loss": 1.0})
assert not {"wandb", "mlflow"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_commands_that_fetch_shards_are_told_to_no_server() -> None:
    recipe = {"shards": {"path": "pipe:curl -H 'token: 1' https://a"}, "others": [{"path": "pipe:x"}, "shards"]}
    assert _without_commands(recipe) == {"shards": {"path": "pipe:…"}, "others": [{"path": "pipe:…"}, "shards"]}
