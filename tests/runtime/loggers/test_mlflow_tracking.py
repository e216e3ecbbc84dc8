"""MLflow: what a folder holds is read back by its own client; a server is one of a few lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tinyvit_kd.config.load import validate
from tinyvit_kd.config.logging import LoggingConfig, MlflowConfig
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime import log
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.loggers.base import LoggedRun
from tinyvit_kd.runtime.loggers.mlflow_tracking import open_mlflow
from tinyvit_kd.runtime.metric_loggers import MetricsWriter


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    log._warned.cache_clear()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def with_mlflow(**settings: Any) -> LoggingConfig:
    return LoggingConfig(tensorboard=False, mlflow=MlflowConfig(**settings))


def the_run(folder: Path, experiment: str = "tinyvit_kd") -> tuple[Any, Any]:
    """A client, and the only run of an experiment in a folder."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=folder.as_uri())
    found = client.get_experiment_by_name(experiment)
    (run,) = client.search_runs([found.experiment_id])
    return client, run


def test_a_run_that_is_continued_is_the_same_run_also_if_it_repeats_steps(tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    about = {"recipe": {"optim": {"base_lr": 0.5}, "text": "x" * 2000}, "world_size": 2}
    for start, stop in ((1, 4), (3, 6)):
        with MetricsWriter(solo_job(), folder, with_mlflow(), about) as writer:
            for step in range(start, stop):
                writer.write("train", step, {"loss": 1 / step})
            writer.write("eval", step, {"top1": float("nan")})
        about = about | {"world_size": 4, "new": None}
    client, run = the_run(folder / "mlflow")
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(each.step, each.value) for each in history] == [(step, 1 / step) for step in (1, 2, 3, 3, 4, 5)]
    assert run.info.run_name == "my run"
    assert run.info.status == "FINISHED"
    params = run.data.params
    assert (params["recipe.optim.base_lr"], params["world_size"], params["new"]) == ("0.5", "2", "null")
    assert params["recipe.text"] == "x" * 500


def test_a_run_that_failed_is_marked_as_that_until_it_goes_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stopped"), MetricsWriter(solo_job(), tmp_path, with_mlflow()):
        raise ValueError("stopped")
    assert the_run(tmp_path / "mlflow")[1].info.status == "FAILED"
    writer = MetricsWriter(solo_job(), tmp_path, with_mlflow())
    assert the_run(tmp_path / "mlflow")[1].info.status == "RUNNING"
    writer.close()


def test_several_runs_may_share_a_folder_and_one_that_was_deleted_there_begins_anew(tmp_path: Path) -> None:
    config = with_mlflow(tracking_uri=str(tmp_path / "shared"), experiment="mine", run_name="first")
    for _ in range(2):
        MetricsWriter(solo_job(), tmp_path / "run", config).close()
    client, run = the_run(tmp_path / "shared", "mine")
    assert run.info.run_name == "first"
    ids = json.loads((tmp_path / "run" / "loggers.json").read_bytes())
    assert list(ids.values()) == [run.info.run_id]
    (tmp_path / "run" / "loggers.json").write_text(json.dumps(dict.fromkeys(ids, "0" * 32)))
    MetricsWriter(solo_job(), tmp_path / "run", config).close()
    assert len(client.search_runs([run.info.experiment_id])) == 2


@pytest.mark.parametrize("text", ["", "no json", "[1]", '{"mlflow": 7}'])
def test_ids_that_cannot_be_read_begin_a_new_run(text: str, tmp_path: Path) -> None:
    (tmp_path / "loggers.json").write_text(text)
    MetricsWriter(solo_job(), tmp_path, with_mlflow()).close()
    _, run = the_run(tmp_path / "mlflow")
    assert json.loads((tmp_path / "loggers.json").read_bytes())["mlflow"] == run.info.run_id


@pytest.mark.parametrize("uri", ["carrier-pigeon://roof", "sqlite:////tmp/never made.db"])
def test_a_kind_of_server_that_is_not_known_or_needs_more_is_refused_before_the_run(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="MLflow refuses these settings") as caught:
        open_mlflow(LoggedRun(tmp_path, with_mlflow(tracking_uri=uri)))
    assert uri in str(caught.value)


def test_a_password_belongs_into_the_environment() -> None:
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD"):
        validate(LoggingConfig, {"mlflow": {"tracking_uri": "https://me:secret@server"}}, "here")


class Refusing(BaseHTTPRequestHandler):
    """A server that knows nobody."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def refusing_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_server_that_refuses_ends_the_run_before_it_begins(refusing_server: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="401"):
        open_mlflow(LoggedRun(tmp_path, with_mlflow(tracking_uri=refusing_server)))


def test_a_server_that_does_not_answer_costs_its_lines_and_not_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinyvit_kd.runtime.loggers.background.CLOSE_WITHIN", 0.3)
    with MetricsWriter(solo_job(), tmp_path, with_mlflow(tracking_uri="http://127.0.0.1:9")) as writer:
        writer.write("train", 1, {"loss": 0.5})
    said = capsys.readouterr().err
    assert "MLflow at http://127.0.0.1:9 does not answer" in said
    assert "MLflow has not taken 1 line of this run; metrics.jsonl has them all" in said
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
