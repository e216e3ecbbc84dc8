"""The places at which a trained network comes in, each as one function from what a recipe says to a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tests.models.sources import Source
from tinyvit_kd.config.models import ModelSource, TeacherConfig
from tinyvit_kd.config.student import StudentConfig
from tinyvit_kd.models.open_network import open_network
from tinyvit_kd.models.student import build_student, student_spec
from tinyvit_kd.models.teacher import build_teacher
from tinyvit_kd.runs.first_weights import read_first_weights
from tinyvit_kd.runtime.distributed import solo_job

_OF_A_STUDENT = ("name", "kwargs", "pretrained")


def through_evaluate(source: Source) -> nn.Module:
    """And ``predict``, which asks the same."""
    return open_network(ModelSource(model=source.file, **source.named))[0]


def through_teacher(source: Source) -> nn.Module:
    """``dump-logits``."""
    return build_teacher(TeacherConfig(checkpoint=source.file, **source.named), torch.device("cpu"), "float32").network


def through_student(source: Source) -> nn.Module:
    """``pretrain`` and ``finetune``, for as many classes at the same size."""
    named: dict[str, Any] = {name: value for name, value in source.named.items() if name in _OF_A_STUDENT}
    if "name" not in named:
        named = {"kwargs": named.get("kwargs", {})}
    config = StudentConfig(init_from=source.file, **named)
    first = read_first_weights(config, None, solo_job())
    spec = student_spec(config, first.card)
    classes, side = _shape(source)
    return build_student(config, spec, classes, side, 0, first.initial)


def _shape(source: Source) -> tuple[int, int]:
    return getattr(source.network, "num_classes", 5), 160 if source.file is None else 32


DOORS: dict[str, Callable[[Source], nn.Module]] = {
    "evaluate": through_evaluate,
    "teacher": through_teacher,
    "student": through_student,
}
