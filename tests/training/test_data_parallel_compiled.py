"""Two processes compile together or not at all, and cut their code where gradients are sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.stages.commands import torchrun

SCRIPT = """
import json, sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch._dynamo.backends.debugging import aot_eager

from benchmarks.networks import student_run
from tests.training.test_accumulation import batch
from tinyvit_kd.config.training import DistillLossConfig
from tinyvit_kd.runtime.compiling import Compiler
from tinyvit_kd.runtime.distributed import start_job
from tinyvit_kd.training.data_parallel import data_parallel
from tinyvit_kd.training.loop import train_step
from tinyvit_kd.training.objectives import DistillObjective
from tinyvit_kd.training.state import TrainState
from tinyvit_kd.training.student_forward import student_forward, warm_up

outcomes = []
with start_job("cpu") as job:
    for rank_that_fails in (None, 1):
        graphs = 0

        def backend(module, inputs):
            global graphs
            graphs += 1
            if job.rank == rank_that_fails:
                raise RuntimeError("no such kernel")
            return aot_eager(module, inputs)

        torch.compiler.reset()
        torch.manual_seed(0)
        layers = [nn.Linear(48, 1500), nn.BatchNorm1d(1500), *(nn.Linear(1500, 1500) for _ in range(4))]
        model = nn.Sequential(nn.Flatten(), *layers, nn.Linear(1500, 7)).train()  # 36 MB, more than one bucket
        state = TrainState(model, torch.optim.AdamW(model.parameters(), fused=True, lr=1e-3), None)
        state.optimizer.param_groups[0]["lr_scale"] = 1.0
        run = student_run(state, 24, job, Path(sys.argv[1]))
        run = replace(run, compiler=Compiler(job, True, backend=backend))
        forward, objective = data_parallel(student_forward(run, state), job), DistillObjective(DistillLossConfig())
        own = batch()._replace(views=batch().views.flip(job.rank))
        before = [value.clone() for value in model.state_dict().values()]
        warm_up(run, state, forward, own, objective)
        unchanged = all(map(torch.equal, before, model.state_dict().values()))
        ready = graphs
        for state.step in range(2):
            train_step(run, state, forward, own, objective)
        weights = sum(float(value.double().sum()) for value in model.parameters())
        everyone = job.gather((run.compiler.on, ready, graphs - ready, unchanged, weights))
        outcomes.append(everyone)
    if job.is_main:
        print(json.dumps(outcomes))
"""


@pytest.mark.slow
def test_code_is_cut_at_buckets_and_one_process_that_fails_stops_both(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, *torchrun(2), str(tmp_path / "script.py"), str(tmp_path)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    compiled, failed = json.loads(done.stdout.splitlines()[-1])
    (on, ready, later, unchanged, weights), other = compiled
    assert (on, later, unchanged) == (True, 0, True)
    assert ready >= 3  # two parts of the network at least, and the loss
    assert other == compiled[0]
    assert [each[0] for each in failed] == [False, False]
    assert [each[4] for each in failed] == [weights, weights]
    assert done.stderr.count("torch.compile fails, and the network runs without it: RuntimeError: no such kernel") == 1
