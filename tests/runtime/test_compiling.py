"""A network is compiled where that works; elsewhere a line says why not, and the run goes on."""

from __future__ import annotations

import functools
import inspect
import json
import re
import signal
import subprocess
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from pydantic import ValidationError
from torch._C._distributed_c10d import HashStore
from torch._dynamo.testing import CompileCounter

from tests.conftest import CommandLine
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.runtime.compiling import Compiler, compiler_of, end_compile_workers, why_not
from tinyvit_kd.runtime.distributed import Job, solo_job


def double(values: torch.Tensor) -> torch.Tensor:
    return values * 2


@pytest.fixture(autouse=True)
def nothing_compiled() -> Iterator[None]:
    """What other tests compiled would be used again."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine without a C++ compiler, on which nothing was compiled before."""
    import torch._inductor.config as config
    from torch._inductor import cpp_builder

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    for cached in vars(cpp_builder).values():
        if isinstance(cached, functools._lru_cache_wrapper):
            cached.cache_clear()
    with config.patch({"cpp.cxx": (None, str(tmp_path / "absent-g++"))}):
        yield


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_the_reason_is_said_once_and_functions_run_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    compiler = Compiler(solo_job(), asked=True)
    other = compiler.another()
    for each in (compiler, other):
        each.try_out("the network", lambda: pytest.fail("it would take long, and fail"))
        assert not each.on
        assert each(double, torch.ones(2)).tolist() == [2, 2]
        assert each.told == "not compiled, because that failed"
    said = capsys.readouterr().err
    assert said.count("torch.compile does not work here, and the network runs without it") == 1
    assert "C++ compiler" in said


@pytest.mark.usefixtures("no_compiler")
def test_a_probe_draws_no_random_number_and_leaves_gradients_as_they_were() -> None:
    before = torch.get_rng_state()
    with torch.inference_mode():
        assert why_not(torch.device("cpu")) is not None
        assert torch.is_inference_mode_enabled()
    assert torch.equal(torch.get_rng_state(), before)


def test_where_it_works_functions_are_compiled_and_the_time_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    counter = CompileCounter()
    compiler = Compiler(solo_job(), True, backend=counter)
    seconds = compiler.try_out("the network", lambda: compiler(double, torch.ones(2)))
    assert compiler(double, torch.full((2,), 4.0)).tolist() == [8, 8]
    assert counter.frame_count == 1
    assert compiler.told == "compiled"
    assert seconds > 0
    first, second = capsys.readouterr().err.splitlines()
    assert first == "compiling the network, which may take minutes"
    assert re.fullmatch(r"compiled the network in .* s, which no rate includes", second)


def test_what_fails_in_the_real_network_is_named_and_leaves_random_numbers_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def without_kernels(*_: object) -> Any:
        raise NotImplementedError("no kernel for aten::rare\nmore lines")

    def attempt() -> None:
        torch.rand(3)
        compiler(double, torch.ones(2))

    compiler = Compiler(solo_job(), True, backend=without_kernels)
    before = torch.get_rng_state()
    compiler.try_out("the network", attempt)
    assert torch.equal(torch.get_rng_state(), before)
    assert "and the network runs without it: NotImplementedError: no kernel for aten::rare" in capsys.readouterr().err
    assert compiler(double, torch.ones(2)).tolist() == [2, 2]


ASKED: list[tuple[str, Any, bool]] = [
    ("cpu", "auto", False),
    ("cuda", "auto", True),
    ("cpu", True, True),
    ("cuda", True, True),
    ("cpu", False, False),
    ("cuda", False, False),
]


@pytest.mark.parametrize(("device", "asked", "on"), ASKED)
def test_by_itself_it_compiles_on_cuda_alone(device: str, asked: Any, on: bool) -> None:
    assert Compiler(Job(0, 1, torch.device(device)), asked).on is on
    assert RuntimeConfig().compile == "auto"
    assert RuntimeConfig(compile=asked).compile == asked


def test_one_process_that_fails_stops_all_from_compiling(capsys: pytest.CaptureFixture[str]) -> None:
    store, reached = HashStore(), []

    def process(rank: int) -> Compiler:
        group = dist.ProcessGroupGloo(store, rank, 2, timedelta(seconds=30))
        job = Job(rank, 2, torch.device("cpu"), group)  # type: ignore[arg-type]
        compiler = Compiler(job, True, backend="eager")

        def attempt() -> None:
            reached.append(rank)
            if rank == 1:
                raise RuntimeError("out of memory")

        compiler.try_out("the network", attempt)
        return compiler

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(process, range(2))
    assert sorted(reached) == [0, 1]
    assert not first.on
    assert not second.on
    assert first.reason == "it failed on rank 1"
    assert "[rank 1] torch.compile fails, and the network runs without it: RuntimeError: out of memory" in (
        capsys.readouterr().err
    )


def test_graphs_of_launches_are_for_a_gpu_and_results_that_outlive_a_step_are_cloned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runtime, tensor = RuntimeConfig(compile=True, cuda_graphs=True), torch.ones(1)
    here = compiler_of(runtime, solo_job())
    assert "cuda_graphs is for CUDA alone" in capsys.readouterr().err
    assert not here.cuda_graphs
    assert here.kept(tensor) is tensor
    on_a_gpu = compiler_of(runtime, Job(0, 1, torch.device("cuda")))
    assert on_a_gpu.cuda_graphs
    assert on_a_gpu.kept(tensor) is not tensor
    assert on_a_gpu.told == "compiled, with CUDA graphs"
    on_a_gpu.begin_step()
    assert capsys.readouterr().err == ""
    with pytest.raises(ValidationError, match="cuda_graphs replays compiled code"):
        RuntimeConfig(compile=False, cuda_graphs=True)


def test_a_process_that_compiles_does_not_outlive_its_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch would wait for five minutes for one that hangs."""
    from torch._inductor import async_compile
    from torch._inductor.compile_worker.subproc_pool import SubprocPool

    assert "self.process = subprocess.Popen(" in inspect.getsource(SubprocPool)  # what is ended, by that name
    assert isinstance(async_compile._pool_set, Set)
    with subprocess.Popen(["sleep", "600"]) as hanging:
        monkeypatch.setattr(async_compile, "_pool_set", [SimpleNamespace(process=hanging), object()])
        end_compile_workers()
        assert hanging.wait(60) == -signal.SIGKILL


@pytest.mark.usefixtures("no_compiler")
def test_each_stage_goes_on_without_a_compiler(dumped: Path, tmp_path: Path, command_line: CommandLine) -> None:
    from benchmarks.tiny_world import ONE_EPOCH, dump_recipe, evaluate_recipe, finetune_recipe

    runtime = {"workers": 0, "device": "cpu", "compile": True}
    recipes = {
        "dump-logits": dump_recipe(dumped / "shards", dumped / "teacher", tmp_path / "store", runtime=runtime),
        "finetune": finetune_recipe(dumped / "shards", tmp_path / "run", schedule=ONE_EPOCH, runtime=runtime),
        "evaluate": evaluate_recipe(tmp_path / "run", dumped / "shards", runtime=runtime),
    }
    for command, tree in recipes.items():
        (tmp_path / "recipe.yaml").write_text(json.dumps(tree))
        ended = command_line(command, tmp_path / "recipe.yaml")
        assert ended.code == 0, ended.err
        assert ended.err.count("the network runs without it") == 1
