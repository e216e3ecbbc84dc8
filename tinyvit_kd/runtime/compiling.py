"""``torch.compile``, where that is asked for and works: it needs a compiler, and a folder to keep what it made."""

from __future__ import annotations

import atexit
import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, TypeVar

import torch
from torch.nn import functional as F

from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.foreign_errors import first_line_of
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.log import say, say_any_rank
from tinyvit_kd.runtime.wording import duration

Result = TypeVar("Result")
Backend = str | Callable[..., Any]
BACKEND: Backend = "inductor"
"""What a recipe's networks are compiled by; tests count with another."""


class Compiler:
    """Runs functions, compiled where that is asked for and works; all processes of a job do the same.

    Functions are given at each call, and dynamo keeps their code by function and by what their arguments look like. So
    two networks of the same layers share their code, as do a run and its continuation in the same process.

    Args:
        job: the processes that agree on whether it works.
        asked: "auto" means on CUDA only.
        cuda_graphs: whether to replay launches as CUDA graphs; without effect on the CPU and where nothing is compiled.
        backend: of ``torch.compile``; for tests.

    Attributes:
        on: whether functions are compiled.
        reason: why they are not, though that was asked for; else empty.
    """

    def __init__(
        self,
        job: Job,
        asked: bool | Literal["auto"] = False,
        cuda_graphs: bool = False,
        backend: Backend = "inductor",
    ) -> None:
        self.job, self.asked, self.backend = job, asked, backend
        self.on = job.device.type == "cuda" if asked == "auto" else asked
        self._cuda_graphs = cuda_graphs and job.device.type == "cuda"
        self.reason = ""
        self._compiled: dict[Callable[..., Any], Callable[..., Any]] = {}
        self._said: set[str] = set()

    def another(self) -> Compiler:
        """One for other functions, which may be compiled where these cannot; it repeats no line of this one."""
        other = Compiler(self.job, self.asked, self._cuda_graphs, self.backend)
        other._said = self._said
        return other

    @property
    def cuda_graphs(self) -> bool:
        """Whether results lie in memory that the next replay writes to: clone those that outlive a step."""
        return self.on and self._cuda_graphs

    @property
    def told(self) -> str:
        """In words: compiled or not, and why not though that was asked for."""
        if self.on:
            return "compiled, with CUDA graphs" if self._cuda_graphs else "compiled"
        return "not compiled, because that failed" if self.reason else "not compiled"

    def __call__(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """What a function makes of its arguments, whose shapes should be the same at each call."""
        if not self.on:
            return function(*arguments)
        if function not in self._compiled:
            mode = "reduce-overhead" if self._cuda_graphs else None
            # Shapes are fixed; a second one, as of an evaluation, would otherwise make code for shapes of any size.
            self._compiled[function] = torch.compile(function, dynamic=False, backend=self.backend, mode=mode)
        result: Result = self._compiled[function](*arguments)
        return result

    def begin_step(self) -> None:
        """Say that results of before are not needed any more; call it before each forward pass of a step or batch."""
        if self.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def without_gradients(self) -> AbstractContextManager[None]:
        """A context for answers that are not learned from.

        Tensors made in inference mode differ in kind from others, and each kind would have code of its own.
        """
        return torch.no_grad() if self.on else torch.inference_mode()

    def kept(self, tensor: torch.Tensor) -> torch.Tensor:
        """A result that outlives its step."""
        return tensor.clone() if self.cuda_graphs else tensor

    def try_out(self, what: str, attempt: Callable[[], object]) -> float:
        """Compile what ``attempt`` calls; every process must call, and all go on uncompiled if one of them fails.

        The attempt must not communicate, since the others would wait for the one that failed. It should leave no trace:
        random generators are restored here, the rest is its own affair.

        Args:
            what: is compiled, as "the network for training".
            attempt: calls this compiler with arguments as those of later calls.

        Returns:
            the seconds that it took; 0 if nothing was to be compiled.
        """
        if not self.on:
            return 0.0
        begin = time.perf_counter()
        self._say(f"compiling {what}, which may take minutes")
        atexit.register(end_compile_workers)  # which then runs before torch's own
        with saying(f"compiling {what}"):
            failure = self._failure_of(attempt)
            failed = torch.zeros(self.job.world_size, dtype=torch.int64)
            failed[self.job.rank] = failure is not None
            self.job.barrier()
            failed = self.job.sum(failed)
        seconds = time.perf_counter() - begin
        if failed.any():
            self._give_up(failure, int(failed.argmax()))
        else:
            self._say(f"compiled {what} in {duration(seconds)}, which no rate includes")
        return seconds

    def _failure_of(self, attempt: Callable[[], object]) -> str | None:
        if self.backend == "inductor" and (reason := why_not(self.job.device)) is not None:
            return f"torch.compile does not work here, and the network runs without it: {reason} ({NEEDS})"
        try:
            with generators_kept(self.job.device):
                attempt()
        except Exception as error:  # torch, its compilers and the system raise errors of many kinds
            cause = getattr(error, "inner_exception", error)  # torch's BackendCompilerFailed says little itself
            reason = f"{type(cause).__name__}: {first_line_of(cause)}"
            return f"torch.compile fails, and the network runs without it: {reason}"
        return None

    def _give_up(self, failure: str | None, first_to_fail: int) -> None:
        self.on = False
        self.reason = failure or f"it failed on rank {first_to_fail}"
        self._compiled.clear()
        if self.job.rank == first_to_fail and self.reason not in self._said:
            say_any_rank(self.job, self.reason)
        self._said.add(self.reason)
        gc.collect()  # the error's frames held what the attempt had made
        if self.job.device.type == "cuda":
            torch.cuda.empty_cache()

    def _say(self, line: str) -> None:
        if not self._said:  # not after a failure
            say(self.job, line)


NEEDS = (
    "it needs a C++ compiler such as g++, on a GPU triton, and a folder to write to, TORCHINDUCTOR_CACHE_DIR; "
    "runtime.compile: false does without"
)


def compiler_of(runtime: RuntimeConfig, job: Job) -> Compiler:
    """The compiler that a recipe asks for; a line says so where a setting is without effect."""
    if runtime.cuda_graphs and job.device.type != "cuda":
        say(job, "runtime.cuda_graphs is for CUDA alone, and left out of account on the CPU")
    return Compiler(job, runtime.compile, runtime.cuda_graphs, BACKEND)


@contextmanager
def generators_kept(device: torch.device) -> Iterator[None]:
    """Restore torch's generators, the CPU's and the device's, at the end of the context."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def forget_compiled() -> None:
    """Let go of all code that was compiled in this process.

    Dynamo keeps the code of eight networks for a function; further ones would run as they are.
    """
    torch.compiler.reset()


def end_compile_workers() -> None:
    """End the processes that torch compiles in, if there are any; nothing of theirs is needed at a program's end.

    torch 2.15 asks them to end and waits for up to 300 s (``SubprocPool.shutdown``); one that hangs would keep a run
    alive that has done all its work.
    """
    async_compile = sys.modules.get("torch._inductor.async_compile")
    for pool in getattr(async_compile, "_pool_set", ()):
        process = getattr(pool, "process", None)
        if isinstance(process, subprocess.Popen):
            process.kill()


def why_not(device: torch.device) -> str | None:
    """What torch says of a small function that it cannot compile, forward or backward; None if it can.

    It fails within seconds where a network would fail after a minute.
    """
    try:
        with torch.enable_grad():
            values = torch.ones(8, device=device, requires_grad=True)
            torch.autograd.backward(torch.compile(_probe)(values))
    except Exception as error:  # torch, its compilers and the system raise errors of many kinds
        return first_line_of(error)
    return None


def _probe(values: torch.Tensor) -> torch.Tensor:
    return (F.gelu(values) * values).sum()
