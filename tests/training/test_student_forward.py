"""A run's step is compiled before its first step, without a trace, and never again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import DropPath
from torch import nn
from torch._dynamo.testing import CompileCounter

from benchmarks.networks import student_run
from tests.training.test_accumulation import batch
from tinyvit_kd.config.training import DistillLossConfig
from tinyvit_kd.runtime.compiling import Backend, Compiler
from tinyvit_kd.runtime.distributed import Job, solo_job
from tinyvit_kd.runtime.metric_loggers import MetricsWriter
from tinyvit_kd.runtime.signals import StopRequest
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.loop import fit, train_step
from tinyvit_kd.training.objectives import DistillObjective
from tinyvit_kd.training.run import Run
from tinyvit_kd.training.state import TrainState
from tinyvit_kd.training.student_forward import student_forward, warm_up

OBJECTIVE = DistillObjective(DistillLossConfig(alpha=0.5))


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    """What other tests compiled would be used again."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Student(nn.Module):
    """Has running statistics, and draws random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GELU(), DropPath(0.5))
        self.head = nn.Linear(8, 7)
        self.unused = nn.Linear(2, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [B, 7]."""
        logits: torch.Tensor = self.head(self.body(images).mean(dim=(2, 3)))
        return logits


def made(
    folder: Path, backend: Backend | None, micro_batches: int = 1, job: Job | None = None
) -> tuple[Run, TrainState]:
    """A run that compiles by a backend, or not at all, and its state."""
    torch.manual_seed(0)
    model, job = Student().train(), job or solo_job()
    state = TrainState(model, torch.optim.AdamW(model.parameters(), lr=0.01, fused=True), None)
    state.optimizer.param_groups[0]["lr_scale"] = 1.0
    run = student_run(state, 12, job, folder, steps=3)
    compiler = Compiler(job) if backend is None else Compiler(job, True, backend=backend)
    return replace(run, compiler=compiler, micro_batches=micro_batches, seed=5), state


def failing(when: int) -> Callable[..., Any]:
    """A backend whose code for graph number ``when``, from 1 on, raises when it runs."""
    graphs = 0

    def compile_graph(module: torch.fx.GraphModule, _: object) -> Callable[..., Any]:
        nonlocal graphs
        graphs += 1

        def without_memory(*_: object) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

        return without_memory if graphs == when else module.forward

    return compile_graph


def as_bytes(state: TrainState) -> list[bytes]:
    return [value.numpy().tobytes() for value in state.model.state_dict().values()]


each_outcome = pytest.mark.parametrize("fails", [None, 1, 2], ids=["works", "fails", "fails at the loss"])


@each_outcome
@pytest.mark.parametrize("micro_batches", [1, 3])
def test_the_warm_up_leaves_no_trace(fails: int | None, micro_batches: int, tmp_path: Path) -> None:
    run, state = made(tmp_path, "aot_eager" if fails is None else failing(fails), micro_batches)
    torch.manual_seed(1)
    before, drawn = as_bytes(state), torch.get_rng_state()
    seconds = warm_up(run, state, student_forward(run, state), batch(), OBJECTIVE)
    assert seconds > 0
    assert run.compiler.on is (fails is None)
    assert as_bytes(state) == before
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(parameter.grad is None for parameter in state.model.parameters())
    assert not state.optimizer.state
    assert state.step == state.checked_here == 0


def test_where_nothing_is_compiled_nothing_runs(tmp_path: Path) -> None:
    run, state = made(tmp_path, None)
    state.model.forward = None  # type: ignore[assignment]
    assert warm_up(run, state, student_forward(run, state), batch(), OBJECTIVE) == 0


@pytest.mark.parametrize("micro_batches", [1, 3])
@each_outcome
def test_a_run_trains_to_the_same_bits_whether_its_step_is_compiled_or_that_fails(
    fails: int | None, micro_batches: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended = []
    for each in (None, "eager" if fails is None else failing(fails)):
        run, state = made(tmp_path / str(each is None), each, micro_batches)
        fit(run, state, iter([batch()] * 3), OBJECTIVE, StopRequest())
        ended.append((state.step, as_bytes(state)))
    assert ended[0] == ended[1]
    failed = "OutOfMemoryError: CUDA out of memory" in capsys.readouterr().err
    assert failed is (fails is not None)


def test_one_graph_each_for_network_and_loss_and_none_for_later_steps_and_runs(tmp_path: Path) -> None:
    counter = CompileCounter()
    for number in range(2):  # the second is the run continued, in the same process
        run, state = made(tmp_path / str(number), counter, micro_batches=3)
        forward = student_forward(run, state)
        with torch._dynamo.config.patch(error_on_recompile=True):
            warm_up(run, state, forward, batch(), OBJECTIVE)
            assert counter.frame_count == 2
            for state.step in range(3):
                train_step(run, state, forward, batch()._replace(checked=state.step), OBJECTIVE)
    assert counter.frame_count == 2


def test_no_rate_includes_the_warm_up(tmp_path: Path) -> None:
    import time

    def slowly(module: torch.fx.GraphModule, _: object) -> Callable[..., Any]:
        time.sleep(3)
        return module.forward

    run, state = made(tmp_path, slowly)
    with MetricsWriter(run.job, tmp_path) as metrics:
        run = replace(run, config=run.config.model_copy(update={"log_every": 1}), metrics=metrics)
        results = fit(run, state, iter([batch()] * 3), OBJECTIVE, StopRequest())
    assert results["images_per_second"] > 12
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert '"step_seconds": 0.' in lines[0]


def test_graphs_of_launches_get_gradients_in_memory_of_their_own_and_copies_of_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, state = made(tmp_path, "eager", micro_batches=3)
    plain_run, plain_state = made(tmp_path / "plain", None, micro_batches=3)
    run.compiler._cuda_graphs = True  # as on a GPU; this backend makes none
    begun: list[int] = []
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: begun.append(state.step))
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    state.hold_gradients()
    held = [parameter.grad for parameter in state.model.parameters()]
    first = batch()
    for state.step in range(2):
        result = train_step(run, state, student_forward(run, state), first, OBJECTIVE)
        plain_state.step = state.step
        train_step(plain_run, plain_state, student_forward(plain_run, plain_state), first, OBJECTIVE)
    assert begun == [0, 0, 0, 1, 1, 1]
    assert all(parameter.grad is grad for parameter, grad in zip(state.model.parameters(), held, strict=True))
    assert all(not grad.any() for grad in held if grad is not None)
    assert result.finite_rows.tolist() == [True] * 12
    unused = {"unused.weight", "unused.bias"}  # a gradient of zeros decays them, none does not
    for name, value in plain_state.model.state_dict().items():
        assert name in unused or torch.equal(state.model.state_dict()[name], value), name


def test_a_step_of_two_heads_is_compiled_too(tmp_path: Path) -> None:
    class TwoHeads(Student):
        def forward(self, images: torch.Tensor) -> Any:
            logits = super().forward(images)
            return logits, 2 * logits

    counter = CompileCounter()
    run, state = made(tmp_path, counter)
    state = TrainState(TwoHeads(), state.optimizer, None)
    objective = DistillObjective(DistillLossConfig(kind="token"))
    whole: Batch = batch()
    assert warm_up(run, state, student_forward(run, state), whole, objective) > 0
    assert run.compiler.on
    assert counter.frame_count == 2


@pytest.mark.slow
def test_what_torchs_own_compiler_makes_trains_as_the_network_itself(tmp_path: Path) -> None:
    losses = []
    for compiled in (False, True):
        run, state = made(tmp_path / str(compiled), "inductor" if compiled else None, micro_batches=3)
        state.model.get_submodule("body.3").eval()  # the compiler draws other random numbers
        forward = student_forward(run, state)
        warm_up(run, state, forward, batch(), OBJECTIVE)
        with torch._dynamo.config.patch(error_on_recompile=True):
            steps = [train_step(run, state, forward, batch(), OBJECTIVE) for _ in range(3)]
        losses.append([step.scalars["loss"] for step in steps])
        assert run.compiler.on is compiled
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-5)
    assert losses[0][0] != losses[0][2]
