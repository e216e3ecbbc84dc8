"""MLflow: a server, or a folder. A run that is continued goes on in the same logged run."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tinyvit_kd.errors import ConfigError, said_by
from tinyvit_kd.runtime.log import warn
from tinyvit_kd.runtime.loggers.background import Background
from tinyvit_kd.runtime.loggers.base import LoggedRun, MetricLogger
from tinyvit_kd.runtime.loggers.logged_ids import logged_id, remember_id

FOLDER = "mlflow"
_BATCH = 100  # parameters that a server takes at a time
_LONGEST = 500  # characters of a parameter that every server takes
# The client's own tries are few, as there is a thread that tries again.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",  # a run calls nobody but the server it is given
}
_WITHOUT_PATH = ("databricks", "uc")  # what MLflow takes in the place of a URL


class Mlflow(MetricLogger):
    """Metrics ``<kind>/<name>`` of a run."""

    def __init__(self, client: Any, run_id: str) -> None:
        self._client, self._run_id = client, run_id

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each metric."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(f"{kind}/{name}", float(value), now, step) for name, value in values.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self, succeeded: bool = True) -> None:
        """Mark the run as finished or failed."""
        self._client.set_terminated(self._run_id, "FINISHED" if succeeded else "FAILED")


def open_mlflow(run: LoggedRun) -> MetricLogger:
    """Begin the run, or go on in it. A server that does not answer is tried again while the run goes on.

    Raises:
        ConfigError: there is no such kind of server, or it refuses the settings.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow.exceptions import MlflowException

    uri = _tracking_uri(run)
    try:
        return Background("MLflow", _begin(run, uri))
    except MlflowException as error:
        if not _is_unreachable(uri, error):
            raise _refused(uri, error) from None
        warn(f"MLflow at {_without_login(uri)} does not answer ({said_by(error)}); the run goes on, and tries again")
    except (OSError, ImportError) as error:
        raise _refused(uri, error) from None
    return Background("MLflow", lambda: _begin(run, uri))


def _tracking_uri(run: LoggedRun) -> str:
    """Where the run is logged; a folder as an absolute URL."""
    config = run.config.mlflow
    assert config is not None
    uri = config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or str(run.folder / FOLDER)
    is_folder = "://" not in uri and uri.partition(":")[0] not in _WITHOUT_PATH
    return Path(uri).absolute().as_uri() if is_folder else uri


def _begin(run: LoggedRun, uri: str) -> Mlflow:
    if uri.startswith("file:"):
        # A folder is all that mlflow-skinny can write without a server, and a new MLflow asks for this.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    key = f"mlflow {_without_login(uri)}" if uri != (run.folder / FOLDER).absolute().as_uri() else "mlflow"
    run_id = _known(client, logged_id(run.folder, key)) or _create(client, run)
    remember_id(run.folder, key, run_id)
    _log_about(client, run_id, run.about)
    return Mlflow(client, run_id)


def _known(client: Any, run_id: str | None) -> str | None:
    """The id, if there still is such a run, which then goes on."""
    from mlflow.exceptions import MlflowException

    if run_id is None:
        return None
    try:
        client.update_run(run_id, status="RUNNING")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run_id


def _create(client: Any, run: LoggedRun) -> str:
    config = run.config.mlflow
    assert config is not None
    found = client.get_experiment_by_name(config.experiment)
    experiment = client.create_experiment(config.experiment) if found is None else found.experiment_id
    return str(client.create_run(experiment, run_name=config.run_name or run.name).info.run_id)


def _log_about(client: Any, run_id: str, about: Mapping[str, Any]) -> None:
    """Log what the run is, as parameters, which never change: those of its first start stay."""
    from mlflow.entities import Param

    known = client.get_run(run_id).data.params
    new = [Param(name, value) for name, value in _flat(about) if name not in known]
    for start in range(0, len(new), _BATCH):
        client.log_batch(run_id, params=new[start : start + _BATCH])


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Values by dotted name, as text: ``recipe.optim.base_lr``."""
    for name, value in tree.items():
        path = prefix + re.sub(r"[^\w\-. :/]", "_", str(name), flags=re.ASCII)
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}.")
        else:
            yield path, (value if isinstance(value, str) else json.dumps(value, default=str))[:_LONGEST]


def _is_unreachable(uri: str, error: Any) -> bool:
    """Whether a server did not answer, or has trouble of its own, and may answer later."""
    return uri.startswith("http") and (error.get_http_status_code() >= 500 or error.get_http_status_code() == 429)


def _refused(uri: str, error: Exception) -> ConfigError:
    return ConfigError(
        "MLflow refuses these settings",
        where=f"logging.mlflow, {_without_login(uri)}",
        found=said_by(error),
        fix="give a server (http://…), a folder, or nothing for a folder in the run folder; databases need pip install "
        "mlflow, of which tinyvit_kd[mlflow] is only a part",
    )


def _without_login(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//", uri)
