"""The precision that a recipe's word means, by device and by what is done."""

from __future__ import annotations

import pytest
import torch

from tinyvit_kd.runtime.device import autocast, resolve_precision

MEANINGS = [
    ("cpu", "auto", True, "float32"),
    ("cpu", "auto", False, "float32"),
    ("cuda", "auto", True, "bfloat16"),
    ("cuda", "auto", False, "float16"),
    ("cuda", "bfloat16", False, "bfloat16"),
    ("cuda", "float32", True, "float32"),
    ("cpu", "float16", False, "float16"),
]


@pytest.mark.parametrize(("device", "asked", "trains", "expected"), MEANINGS)
def test_training_keeps_bfloat16_on_a_gpu_and_everything_else_has_float16(
    device: str, asked: str, trains: bool, expected: str
) -> None:
    assert resolve_precision(torch.device(device), asked, trains=trains) == expected


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_network_runs_in_the_precision(precision: str) -> None:
    layer = torch.nn.Linear(4, 4)
    with autocast(torch.device("cpu"), precision), torch.inference_mode():
        assert layer(torch.ones(1, 4)).dtype == getattr(torch, precision)
