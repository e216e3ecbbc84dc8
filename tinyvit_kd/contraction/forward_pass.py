"""A network's forward pass as it is timed: as an evaluation runs it, with random weights and views."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any

import torch

from tinyvit_kd.config.contraction import ThroughputConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.contraction.shape import Shape
from tinyvit_kd.contraction.turns import Pass
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.answer import answer, ready_to_answer
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.planning.measuring.stopwatch import seconds
from tinyvit_kd.runtime.compiling import NEEDS, Compiler, compiler_of
from tinyvit_kd.runtime.device import autocast, move_to_device, resolve_precision
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.machine import machine, versions
from tinyvit_kd.runtime.signals import raise_if_stopped

_WARM_UP = 2  # passes: the first one allocates, and lets cuDNN choose
_LEAST_SECONDS = 0.05  # of one timing: shorter passes are repeated
_MEAN, _STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)  # their values take no time


@dataclass(frozen=True)
class ForwardPasses:
    """Makes forward passes of shapes.

    Attributes:
        num_classes: C of the head.
        image_size: side of the views, pixels.
        job: of this process alone; its device computes.
    """

    config: ThroughputConfig
    runtime: RuntimeConfig
    num_classes: int
    image_size: int
    job: Job

    @property
    def precision(self) -> str:
        """float32, bfloat16 or float16."""
        return resolve_precision(self.job.device, self.config.precision, trains=False)

    def setting(self) -> dict[str, Any]:
        """All that throughput depends on besides the shape; the machine by its kind, since jobs go from one to another
        of the same kind."""
        return {
            "num_classes": self.num_classes,
            "image_size": self.image_size,
            "batch_size": self.config.batch_size,
            "precision": self.precision,
            "compile": self.config.compile,
            "turns": self.config.turns,
            "machine": self._machine(),
        }

    def _machine(self) -> dict[str, Any]:
        here, device = machine(), self.job.device
        found = {"device": device.type, "cpu": here["cpu"]}
        found |= {name: version for name, version in versions().items() if name in ("torch", "timm", "cuda")}
        if device.type != "cuda":
            return found | {"cores": here["cores"], "threads": torch.get_num_threads()}
        switches = ("channels_last", "tf32", "cudnn_autotune", "deterministic")
        gpu = torch.cuda.get_device_name(device)
        return found | {"gpu": gpu} | {name: getattr(self.runtime, name) for name in switches}

    def told_machine(self) -> str:
        """The machine in words, for people."""
        here = self._machine()
        what = here.get("gpu") or f"{here['cpu']}, {here['threads']} computing threads"
        return f"{what}, torch {here['torch']}"

    def __call__(self, shape: Shape) -> Pass:
        """The forward pass of a shape's network on a batch of views, warmed up.

        Raises:
            ConfigError: timm refuses the shape, or it cannot be compiled though that is asked for.
        """
        network = build_network(shape.spec(), self.num_classes, self.image_size)
        device, channels_last = self.job.device, self.runtime.channels_last
        ready_to_answer(move_to_device(network, device, channels_last), device)
        normalize = Normalizer(_MEAN, _STD, device, channels_last)
        views = self._views()
        compiler, function = self._compiler(), own_code(answer)

        def once() -> None:
            compiler.begin_step()
            with compiler.without_gradients(), autocast(device, self.precision):
                compiler(function, network, normalize, views)

        compiler.try_out(shape.name, once)
        if compiler.reason:
            raise ConfigError(
                "a network cannot be compiled here, and would be compared with others that are",
                where=f"throughput.compile, {shape.name}",
                found=compiler.reason,
                fix=f"set throughput.compile: false; {NEEDS}",
            )
        return repeated(once, device)

    def _views(self) -> torch.Tensor:
        """uint8 [B, 3, S, S]"""
        shape = (self.config.batch_size, 3, self.image_size, self.image_size)
        random = torch.Generator().manual_seed(0)
        return torch.randint(256, shape, dtype=torch.uint8, generator=random).to(self.job.device)

    def _compiler(self) -> Compiler:
        asked = {"compile": self.config.compile, "cuda_graphs": False}
        return compiler_of(self.runtime.model_copy(update=asked), self.job)


def repeated(once: Callable[[], None], device: torch.device) -> Pass:
    """A pass that is done as often as fills the shortest time that is worth timing; its seconds are those of one."""
    for _ in range(_WARM_UP):
        once()
    count = math.ceil(_LEAST_SECONDS / max(seconds(once, device), 1e-6))

    def many() -> None:
        for _ in range(count):
            once()

    return partial(_seconds_of_one, many, count, device)


def _seconds_of_one(many: Callable[[], None], count: int, device: torch.device) -> float:
    raise_if_stopped()
    return seconds(many, device) / count


def own_code(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, for a compiler another one.

    torch's compiler keeps what it makes by a function's code, and after the eighth network (``recompile_limit``) it
    would run all further ones as they are, without a word.
    """
    assert isinstance(function, FunctionType)
    return FunctionType(function.__code__.replace(), function.__globals__, function.__name__, function.__defaults__)
