"""Gradients are averaged over processes to the bits of torch's plain averaging, and may be sent as bfloat16."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from benchmarks.networks import student_run
from benchmarks.tiny_world import NETWORK, TRAINING, World
from tests.stages.commands import torchrun
from tests.stages.test_losses import DEIT
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.compiling import Compiler
from tinyvit_kd.runtime.distributed import Job, solo_job
from tinyvit_kd.training.data_parallel import data_parallel, gradient_sync
from tinyvit_kd.training.state import TrainState

# Trains each recipe twice, the second time with torch's averaging as it is; prints the models' digests by recipe.
TRAIN = """
import hashlib, json, sys, warnings
from pathlib import Path
from torch.nn.parallel import DistributedDataParallel
from tinyvit_kd.config.load import load_recipe
from tinyvit_kd.config.recipes import PretrainConfig
from tinyvit_kd.runtime.distributed import start_job
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.training import loop

def plain(model, job, compression, static_graph):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(model, broadcast_buffers=False)

def digest(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()

ours = loop.data_parallel
with start_job("cpu", 1) as job:
    found = {}
    for path in sorted(Path(sys.argv[1]).glob("*.yaml")):
        for name, loop.data_parallel in {"ours": ours, "plain": plain}.items():
            output = path.with_suffix("") / name
            config = load_recipe(PretrainConfig, path, [f"output={output}"])
            pretrain(config, job)
            found.setdefault(path.stem, []).append(digest(output))
            if path.stem == "resumed":
                job.barrier()
                if job.is_main:
                    for gone in ("model.safetensors", "summary.json"):
                        (output / gone).unlink()
                    sorted((output / "checkpoints").glob("*.pt"))[-1].unlink()
                job.barrier()
                pretrain(config, job)
                found["resumed"][-1] += digest(output)
    if job.is_main:
        print(json.dumps(found))
"""
# A network of which one layer is not used; then what the averaging of four numbers comes to.
STEPS = """
import json, sys, torch
from torch import nn
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.distributed import start_job
from tinyvit_kd.training.data_parallel import data_parallel, gradient_sync

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(4, 1, bias=False), nn.Linear(4, 4)

    def forward(self, inputs):
        return self.used(inputs)

with start_job("cpu", 1) as job:
    found = {}
    for compression in ("none", "bfloat16"):
        network = nn.Linear(4, 1, bias=False)
        forward = data_parallel(network, job, compression)
        with gradient_sync(forward, last=True):
            forward(torch.full((1, 4), 1 + 2**-9 if job.is_main else 3.0)).sum().backward()
        found[compression] = network.weight.grad.tolist()
    forward = data_parallel(network, job, static_graph=True)
    for step in (1, 2, 3):
        network.weight.grad = None
        with gradient_sync(forward, last=True):
            forward(torch.full((1, 4), float(step * (job.rank + 1)))).sum().backward()
        found[f"static, step {step}"] = network.weight.grad.tolist()
    forward = data_parallel(Network(), job)
    try:
        with gradient_sync(forward, last=False):
            forward(torch.ones(1, 4)).sum().backward()
        with gradient_sync(forward, last=True):
            forward(torch.ones(1, 4)).sum().backward()
    except ConfigError as error:
        found["error"] = str(error)
    if job.is_main:
        print(json.dumps(found))
"""


def printed(processes: int, text: str, folder: Path, *arguments: str) -> Any:
    """The last line that a job of this many processes prints, as JSON."""
    (folder / "program.py").write_text(text)
    done = subprocess.run(
        [sys.executable, *torchrun(processes), str(folder / "program.py"), *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Warning: " not in done.stderr, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_no_bit_differs_from_plain_averaging(dumped: Path, tmp_path: Path) -> None:
    """Of three processes: sums of two, and halves, are the same in whatever order they are made."""
    schedule = TRAINING["schedule"] | {"epochs": 1, "global_batch_size": 24, "lanes": 6}
    cases: dict[str, dict[str, Any]] = {
        "plain": {},
        "micro-batches": {"schedule": schedule | {"micro_batch_size": 4}},
        "head": {"train": TRAINING["train"] | {"trainable": "head"}},
        "checkpointing": {"student": {"tiny_vit": NETWORK, "grad_checkpointing": True}},
        "average": {"train": TRAINING["train"] | {"ema_decay": 0.5, "on_non_finite": "skip"}},
        "token": {"student": DEIT, "loss": {"kind": "token"}},
        "resumed": {"train": TRAINING["train"] | {"checkpoint_every": 2}},
    }
    for name, sections in cases.items():
        (tmp_path / f"{name}.yaml").write_text(dump_yaml(World(dumped).pretrain(**{"schedule": schedule} | sections)))
    found = printed(3, TRAIN, tmp_path, str(tmp_path))
    assert set(found) == set(cases)
    for name, (ours, plain) in found.items():
        assert ours == plain, name
    assert len({ours for ours, _ in found.values()}) > len(cases) - 2, "each case is another training"


def test_gradients_are_averaged_and_rounded_only_where_that_is_asked_for(tmp_path: Path) -> None:
    found = printed(2, STEPS, tmp_path)
    assert found["none"] == [[2 + 2**-10] * 4]
    assert found["bfloat16"] == [[2.0] * 4], "bfloat16 has 8 bits of precision"
    assert [found[f"static, step {step}"] for step in (1, 2, 3)] == [[[1.5] * 4], [[3.0] * 4], [[4.5] * 4]]
    assert "the loss does not depend on" in found["error"]
    assert "unused.weight, unused.bias" in found["error"]


@pytest.mark.parametrize(
    ("device", "micro_batches", "compiled", "static"),
    [
        ("cuda", 1, False, True),
        ("cpu", 1, False, False),
        ("cuda", 2, False, False),
        ("cuda", 1, True, False),  # by default
    ],
)
def test_the_order_of_gradients_is_relied_on_only_where_torch_takes_that(
    device: str, micro_batches: int, compiled: bool, static: bool, tmp_path: Path
) -> None:
    network = nn.Linear(2, 2)
    state = TrainState(network, torch.optim.SGD(network.parameters()), None)
    run = student_run(state, 4, solo_job(), tmp_path)
    job = Job(0, 2, torch.device(device))
    run = replace(run, job=job, micro_batches=micro_batches, compiler=Compiler(job, "auto" if compiled else False))
    assert run.static_graph is static


@pytest.mark.parametrize("compression", ["none", "bfloat16"])
def test_one_process_has_nothing_to_average(compression: str) -> None:
    network = nn.Linear(2, 2)
    assert data_parallel(network, solo_job(), compression) is network
    with gradient_sync(network, last=True):
        network(torch.ones(1, 2)).sum().backward()


def test_a_connection_that_cannot_add_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_tensor: torch.Tensor) -> None:
        raise RuntimeError("Invalid scalar type")

    monkeypatch.setattr(dist, "all_reduce", refuse)
    monkeypatch.setattr(dist, "get_backend", lambda: "gloo")
    with pytest.raises(ConfigError, match="cannot send gradients as bfloat16") as caught:
        data_parallel(nn.Linear(2, 2), Job(0, 2, torch.device("cpu")), "bfloat16")
    assert "Invalid scalar type (gloo" in str(caught.value)
