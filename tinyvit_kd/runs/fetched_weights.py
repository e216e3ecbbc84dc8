"""Notes in a run folder which weights a student was given by name, so that a resume need not fetch them again.

They are only compared then: what the student has learnt since is in the checkpoint.
"""

from __future__ import annotations

from tinyvit_kd.config.recipes import TrainingConfig
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.runs.first_weights import FirstWeights
from tinyvit_kd.runs.work_folder import run_folder
from tinyvit_kd.runtime.files import read_small_json, write_json
from tinyvit_kd.training.checkpoint import CHECKPOINTS, checkpoints

FETCHED = "fetched_weights.json"


def note_fetched(config: TrainingConfig, weights: FirstWeights) -> None:
    """Note the hash of weights that were fetched."""
    if config.student.pretrained and weights.initial is not None:
        student = config.student.model_dump(mode="json")
        noted = {"student": student, "weights_hash": weights.weights_hash}
        write_json(run_folder(config) / FETCHED, noted, config.runtime.fsync)


def fetched_before(config: TrainingConfig) -> FirstWeights | None:
    """The hash alone of weights that an earlier start of this run fetched; None where they have to be fetched.

    They are not needed where a checkpoint has what became of them.
    """
    if not config.student.pretrained or not checkpoints(run_folder(config) / CHECKPOINTS):
        return None
    noted = read_small_json(run_folder(config) / FETCHED)
    weights_hash = noted.get("weights_hash")
    if noted.get("student") != config.student.model_dump(mode="json") or not isinstance(weights_hash, str):
        return None
    return FirstWeights(weights_hash=weights_hash)


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
