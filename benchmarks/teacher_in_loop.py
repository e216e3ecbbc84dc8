"""Stage two with the teacher in the loop: all is stage two's, its views from the store included, but for the targets.

Views are made from the store's seeds and compared with its digests, so that they are those that the offline run
trains on. Its probabilities are not looked at: the teacher is shown each batch, and answers in float32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.config.recipes import PretrainConfig
from tinyvit_kd.models.teacher import Teacher, build_teacher
from tinyvit_kd.runs.stored_data import open_stored_data
from tinyvit_kd.runs.student_run import train_student
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.training.batch import Batch, SparseTargets
from tinyvit_kd.training.objectives import DistillObjective, Objective, Output


def pretrain_online(config: PretrainConfig, teacher: TeacherConfig, job: Job) -> dict[str, float]:
    """Train a student on a store's views, and on what the teacher says of them at every step."""
    data = open_stored_data(config, job)
    objective = AskingObjective(DistillObjective(config.loss), build_teacher(teacher, job.device, "float32"))
    online = {"targets": f"of {objective.teacher.weights_hash}, in the loop"}
    return train_student(config, replace(data, objective=objective, identity=data.identity | online), job)


@dataclass(frozen=True)
class AskingObjective:
    """An objective whose targets are all C probabilities that a teacher gives to the batch's views."""

    objective: Objective
    teacher: Teacher

    def __call__(self, output: Output, batch: Batch) -> dict[str, torch.Tensor]:
        with torch.no_grad():  # not inference_mode: what the student's loss is made of
            probs = self.teacher(batch.views).softmax(dim=1)
        classes = torch.arange(probs.shape[1], device=probs.device).expand_as(probs)
        targets = SparseTargets(classes, probs, torch.zeros_like(probs[:, 0]))
        return self.objective(output, batch._replace(targets=targets))
