"""Where the figures of a run are logged, besides ``metrics.jsonl``, which every run folder has."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from tinyvit_kd.config.base import Section

Name = Annotated[str, Field(min_length=1)]


class WandbConfig(Section):
    """Weights & Biases, through its own client (``pip install 'tinyvit_kd[wandb]'``)."""

    project: Name = Field("tinyvit_kd", description="project of the run")
    entity: Name | None = Field(None, description="user or team; null: the default one of whoever is logged in")
    name: Name | None = Field(None, description="name of the run; null: the run folder's")
    group: Name | None = Field(None, description="group of runs that belong together")
    tags: tuple[Name, ...] = Field((), description="tags of the run")
    mode: Literal["online", "offline", "disabled"] | None = Field(
        None,
        description="offline: only into the run folder, for wandb sync; disabled: not at all; null: WANDB_MODE of the "
        "environment, otherwise online",
    )


class MlflowConfig(Section):
    """MLflow, through its own client (``pip install 'tinyvit_kd[mlflow]'``)."""

    tracking_uri: Name | None = Field(
        None,
        description="server (http…), database or folder; null: MLFLOW_TRACKING_URI of the environment, otherwise the "
        "folder mlflow in the run folder",
    )
    experiment: Name = Field("tinyvit_kd", description="experiment of the run, which is made if there is none")
    run_name: Name | None = Field(None, description="name of the run; null: the run folder's")

    @field_validator("tracking_uri")
    @classmethod
    def _holds_no_password(cls, uri: str | None) -> str | None:
        if uri is not None and re.search(r"//[^/@]*@", uri):
            raise ValueError(
                "a password in a recipe would be seen by all who see the run: set MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD in the environment"
            )
        return uri


class LoggingConfig(Section):
    """Loggers of a run. They are no part of what the run is: they may change when it is continued."""

    tensorboard: bool = Field(True, description="whether to write curves for TensorBoard, to tensorboard")
    wandb: WandbConfig | None = Field(None, description="Weights & Biases; null: not used")
    mlflow: MlflowConfig | None = Field(None, description="MLflow; null: not used")
