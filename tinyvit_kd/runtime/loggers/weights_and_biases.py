"""Weights & Biases. Its files go to the run folder, and a run that is continued goes on in the same logged run."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import Any

from tinyvit_kd.config.logging import WandbConfig
from tinyvit_kd.errors import ConfigError, said_by
from tinyvit_kd.runtime.log import warn
from tinyvit_kd.runtime.loggers.background import Background
from tinyvit_kd.runtime.loggers.base import LoggedRun, MetricLogger
from tinyvit_kd.runtime.loggers.logged_ids import logged_id, remember_id

# The client counts its own steps, which may not go back. Ours do, after a kill: they are an axis of their own.
STEP = "step"
MODES = ("online", "offline", "disabled")
UPLOAD_WITHIN = 20.0  # seconds that the end of a run waits for the network


class Wandb(MetricLogger):
    """Scalars ``<kind>/<name>`` of a run, over the axis ``step``."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each scalar's curve."""
        self._run.log({STEP: step, **{f"{kind}/{name}": value for name, value in values.items()}})

    def close(self, succeeded: bool = True) -> None:
        """Upload what is left, and mark the run as finished or failed."""
        self._run.finish(exit_code=0 if succeeded else 1)


def open_wandb(run: LoggedRun) -> MetricLogger:
    """Begin the run, or go on in it; without a network, offline.

    Raises:
        ConfigError: nobody is logged in, or a setting is refused.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # a run calls nobody but its server
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    config = run.config.wandb
    assert config is not None
    mode: Any = config.mode or os.environ.get("WANDB_MODE") or "online"
    if mode not in MODES:
        raise ConfigError("unknown mode of Weights & Biases", where="WANDB_MODE", found=mode, expected=", ".join(MODES))
    try:
        opened = _begin(run, config, mode)
    except wandb.errors.UsageError as error:
        raise ConfigError(
            "Weights & Biases refuses these settings",
            where="logging.wandb",
            found=said_by(error),
            fix="run wandb login, set WANDB_API_KEY, or set logging.wandb.mode to offline",
        ) from None
    except Exception as error:
        if mode != "online":
            raise ConfigError("Weights & Biases cannot be begun", where="logging.wandb", found=said_by(error)) from None
        warn(
            f"Weights & Biases cannot be reached ({said_by(error)}); the run goes on, and logs to its folder. To send "
            f"that later: wandb sync {run.folder}/wandb/offline-run-*"
        )
        wandb.teardown()  # its process holds the run's id
        opened = _begin(run, config, "offline")
    return Background("Weights & Biases", Wandb(opened))


def _begin(run: LoggedRun, config: WandbConfig, mode: Any) -> Any:
    import wandb

    known = logged_id(run.folder, "wandb")
    identifier = known or secrets.token_hex(4)
    if known is None:
        remember_id(run.folder, "wandb", identifier)
    settings = {
        "silent": True,  # its lines would break ours; errors are raised
        "console": "off",  # log.txt has the lines
        "root_dir": str(run.folder),
        "disable_git": True,
        "disable_code": True,
        "finish_timeout": UPLOAD_WITHIN,  # what is not uploaded by then stays in the folder, for wandb sync
    }
    known_settings = {name: value for name, value in settings.items() if name in wandb.Settings.model_fields}
    begun = wandb.init(
        project=config.project,
        entity=config.entity,
        name=config.name or run.name,
        group=config.group,
        tags=list(config.tags),
        mode=mode,
        id=identifier,
        resume="allow",
        reinit="create_new",  # other runs of this process, such as the demo's, are none of ours
        settings=wandb.Settings(**known_settings),
    )
    begun.config.update(dict(run.about), allow_val_change=True)
    begun.define_metric(STEP, hidden=True)
    begun.define_metric("*", step_metric=STEP)
    return begun
