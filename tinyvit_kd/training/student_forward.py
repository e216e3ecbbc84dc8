"""What of a training step is compiled, where a run compiles: from views to logits, and from logits to scalars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tinyvit_kd.runtime.compiling import Compiler
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.meters import finite_rows
from tinyvit_kd.training.objectives import Objective, Output
from tinyvit_kd.training.run import Run
from tinyvit_kd.training.state import TrainState

Normalize = Callable[[torch.Tensor], torch.Tensor]


class StudentForward(nn.Module):
    """A student with the normalisation of its views before it, for ``data_parallel`` and ``train_step``.

    Args:
        network: the student; it keeps its names.
        normalize: uint8 views [B, 3, S, S] to the network's input.
        compiler: runs both as one.
    """

    def __init__(self, network: nn.Module, normalize: Normalize, compiler: Compiler) -> None:
        super().__init__()
        self.network, self.normalize, self.compiler = network, normalize, compiler

    def forward(self, views: torch.Tensor) -> Output:
        """uint8 views [B, 3, S, S] to logits [B, C], or to those of both heads."""
        return self.compiler(student_logits, self.network, self.normalize, views)


class Measured(NamedTuple):
    """What is known of a micro-batch's logits.

    Attributes:
        scalars: the objective's, "loss" among them.
        finite_rows: bool [B], whether all of a view's logits are finite.
    """

    scalars: dict[str, torch.Tensor]
    finite_rows: torch.Tensor

    def kept_by(self, compiler: Compiler) -> Measured:
        """The same without the graph of the backward pass, in memory that the next step leaves alone."""
        scalars = {name: compiler.kept(value.detach()) for name, value in self.scalars.items()}
        return Measured(scalars, compiler.kept(self.finite_rows))


def student_forward(run: Run, state: TrainState) -> StudentForward:
    """The student of a run, from views to logits."""
    return StudentForward(state.model, run.normalize, run.compiler)


def student_logits(network: nn.Module, normalize: Normalize, views: torch.Tensor) -> Output:
    """Logits of views in training. It is another function than ``models.answer.answer``, so each has its own code."""
    output: Output = network(normalize(views))
    return output


def measure(objective: Objective, output: Output, batch: Batch) -> Measured:
    """The objective's scalars, and which rows of the logits are finite."""
    scalars = objective(output, batch)
    heads = output if isinstance(output, tuple) else (output,)
    return Measured(scalars, finite_rows(*(logits.detach() for logits in heads)))


def warm_up(run: Run, state: TrainState, forward: nn.Module, batch: Batch, objective: Objective) -> float:
    """Compile a run's step on its first micro-batch, at that step's size; every process must call.

    Forward and backward run once, and leave nothing: no gradient is kept, running statistics and random generators are
    as before.

    Args:
        forward: what ``train_step`` will be given.

    Returns:
        the seconds that it took.
    """
    chunk = next(batch.chunks(run.micro_batches))
    bare = forward.module if isinstance(forward, DistributedDataParallel) else forward

    def attempt() -> None:
        run.compiler.begin_step()
        images = run.sizes(chunk.views, state.step)
        with buffers_kept(state.model):
            with run.autocast(), _as_if_in(forward):
                output = bare(images)
            loss = run.compiler(measure, objective, output, chunk).scalars["loss"]
            # Unlike backward(), this calls no hook of data parallelism, which would wait for the other processes.
            torch.autograd.grad(loss, state.trained, allow_unused=True)

    return run.compiler.try_out("the network for training", attempt)


@contextmanager
def buffers_kept(network: nn.Module) -> Iterator[None]:
    """Restore a network's buffers, running statistics among them, at the end of the context."""
    before = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)


def _as_if_in(forward: nn.Module) -> AbstractContextManager[None]:
    """Inside of a data-parallel forward pass dynamo cuts its code at buckets, so that each is sent when it is full."""
    if not isinstance(forward, DistributedDataParallel):
        return nullcontext()
    inside: AbstractContextManager[None] = forward._inside_ddp_forward()
    return inside
