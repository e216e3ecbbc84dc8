"""A network is compiled where that works; elsewhere a line says why not, and the run goes on."""

from __future__ import annotations

import functools
import inspect
import json
import signal
import subprocess
from collections.abc import Iterator, Set
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.conftest import CommandLine
from tinyvit_kd.runtime import compiling
from tinyvit_kd.runtime.compiling import compile_network, end_compile_workers, why_not
from tinyvit_kd.runtime.distributed import solo_job


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A machine without a C++ compiler, on which nothing was compiled before."""
    import torch._inductor.config as config
    from torch._inductor import cpp_builder

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    for cached in vars(cpp_builder).values():
        if isinstance(cached, functools._lru_cache_wrapper):
            cached.cache_clear()
    torch.compiler.reset()
    with config.patch({"cpp.cxx": (None, str(tmp_path / "absent-g++"))}):
        yield
    torch.compiler.reset()


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_the_reason_is_said_and_the_network_runs_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    network = nn.Linear(2, 2)
    assert not compile_network(network, solo_job())
    said = capsys.readouterr().err
    assert "torch.compile does not work here, and the network runs without it" in said
    assert "compiler" in said
    assert network._compiled_call_impl is None
    network(torch.ones(1, 2)).sum().backward()


@pytest.mark.usefixtures("no_compiler")
def test_a_probe_draws_no_random_number_and_leaves_gradients_as_they_were() -> None:
    before = torch.get_rng_state()
    with torch.inference_mode():
        assert why_not(torch.device("cpu")) is not None
        assert torch.is_inference_mode_enabled()
    assert torch.equal(torch.get_rng_state(), before)


def test_where_it_works_the_network_is_compiled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compiling, "why_not", lambda _: None)
    network = nn.Linear(2, 2)
    assert compile_network(network, solo_job())
    assert network._compiled_call_impl is not None
    assert "may take minutes" in capsys.readouterr().err


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
