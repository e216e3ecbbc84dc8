"""Notes in a run folder what a student's name led to, so that a run that has a checkpoint needs no hub to go on.

Fetched weights are only compared then: what the student has learnt since is in the checkpoint.
"""

from __future__ import annotations

from typing import Any

from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.recipes import TrainingConfig
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.families import is_elsewhere
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.models.plain_card import require_plain
from tinyvit_kd.runs.first_weights import FirstWeights
from tinyvit_kd.runs.run_home import RunHome
from tinyvit_kd.runs.work_folder import run_folder
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.files import read_small_json, write_json
from tinyvit_kd.training.checkpoint import CHECKPOINTS

FETCHED = "fetched_weights.json"


def note_fetched(config: TrainingConfig, weights: FirstWeights, card: ModelCard) -> None:
    """Note the network that a name led to, and the hash of its first weights."""
    if _asks_the_hub(config):
        noted = {
            "student": config.student.model_dump(mode="json"),
            "weights_hash": weights.weights_hash,
            "architecture": card.architecture,
        }
        write_json(run_folder(config) / FETCHED, noted, config.runtime.fsync)


def fetched_before(config: TrainingConfig, home: RunHome, job: Job) -> FirstWeights | None:
    """What an earlier start of this run noted, without the weights; None where the hub has to be asked.

    It need not be where there is a checkpoint, on this machine or at the run's URL. Every process must call.
    """
    noted: dict[str, Any] = {}
    if job.is_main and _asks_the_hub(config) and home.has_checkpoints():
        noted = read_small_json(run_folder(config) / FETCHED)
    noted = job.broadcast(noted)
    weights_hash = noted.get("weights_hash")
    if noted.get("student") != config.student.model_dump(mode="json") or not isinstance(weights_hash, str):
        return None
    architecture = _network(noted) if _is_elsewhere(config) else None
    if _is_elsewhere(config) and architecture is None:
        return None
    return FirstWeights(weights_hash=weights_hash, architecture=architecture)


def require_weights(config: TrainingConfig, weights: FirstWeights, resumes: bool) -> None:
    """Check that a student begins with the weights that it is said to have.

    Raises:
        CheckpointError: they were not fetched because there was a checkpoint, and it is gone.
    """
    if config.student.pretrained and weights.initial is None and not resumes:
        raise CheckpointError(
            "the checkpoint to resume from has gone while the run started",
            where=str(run_folder(config) / CHECKPOINTS),
            fix="run again: the student then begins anew, with weights that are fetched",
        )


def _asks_the_hub(config: TrainingConfig) -> bool:
    return config.student.init_from is None and (config.student.pretrained or _is_elsewhere(config))


def _is_elsewhere(config: TrainingConfig) -> bool:
    return config.student.name is not None and is_elsewhere(ModelSpec(name=config.student.name))


def _network(noted: dict[str, Any]) -> ModelSpec | None:
    """The network of a note; None where an earlier version wrote it, without one, or it asks for more than that."""
    try:
        spec = ModelSpec.model_validate(noted.get("architecture"))
        require_plain(spec, FETCHED)
    except (ValueError, CheckpointError):
        return None
    return spec
