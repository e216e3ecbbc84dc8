"""Networks are really timed, as an evaluation runs them."""

from __future__ import annotations

import importlib.metadata
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter

from tests.contraction.known_shapes import small
from tinyvit_kd.config.contraction import HardwareConfig, ThroughputConfig
from tinyvit_kd.config.recipes import ContractConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.contraction import forward_pass
from tinyvit_kd.contraction.forward_pass import ForwardPasses, own_code
from tinyvit_kd.contraction.throughput import Clock, open_clock
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.answer import answer
from tinyvit_kd.runtime import compiling
from tinyvit_kd.runtime.compiling import Compiler
from tinyvit_kd.runtime.distributed import solo_job


def passes(size: int = 32, classes: int = 10, runtime: RuntimeConfig | None = None, **config: Any) -> ForwardPasses:
    throughput = ThroughputConfig(**{"batch_size": 2, "turns": 3} | config)
    return ForwardPasses(throughput, runtime or RuntimeConfig(), classes, size, solo_job())


def clock(folder: Path, **config: Any) -> Clock:
    made = passes(**config)
    recipe = {
        "stage": "contract",
        "output": "search",
        "shards": {"path": "shards"},
        "store": {"path": "store"},
        "student": {"name": "tiny_vit_5m_224"},
        "optim": {"base_lr": 1e-3},
        "schedule": {"epochs": 1, "global_batch_size": 8},
        "limits": {"parameters": 5e6},
        "throughput": made.config,
    }
    return open_clock(ContractConfig.model_validate(recipe), made.job, 10, 32, folder)


def test_a_network_of_twice_the_depth_takes_longer_on_a_real_machine(tmp_path: Path) -> None:
    base, half, narrow = small(depth=4), small(depth=2), small(depth=2).with_factor("mlp_ratio", 2.0)
    found = clock(tmp_path).measure(base, [half, narrow])
    assert found[half.name].over_base > 1
    assert {timing.how for timing in found.values()} == {"measured"}
    assert "torch" in found[half.name].machine


def measure_in_another_process(folder: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    clock(folder).measure(small(), [small(2)])


def test_a_process_finds_what_another_one_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (tmp_path, torch.get_num_threads())
    other = multiprocessing.get_context("spawn").Process(target=measure_in_another_process, args=arguments)
    other.start()
    other.join(120)
    assert other.exitcode == 0
    monkeypatch.setattr(forward_pass, "build_network", None)  # none may be built
    found = clock(tmp_path).measure(small(), [small(2)])
    assert found[small(2).name].over_base < 1


ANOTHER = {
    "resolution": passes(size=64),
    "classes": passes(classes=20),
    "batch": passes(batch_size=3),
    "precision": passes(precision="bfloat16"),
    "compiled": passes(compile=True),
    "turns": passes(turns=5),
}


@pytest.mark.parametrize("other", ANOTHER.values(), ids=ANOTHER)
def test_whatever_changes_throughput_is_part_of_the_setting(other: ForwardPasses) -> None:
    assert other.setting() != passes().setting()
    assert passes().setting() == passes().setting()


def test_threads_and_the_version_of_torch_are_part_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    here = passes().setting()["machine"]
    assert here["threads"] == torch.get_num_threads()
    assert here["torch"] == importlib.metadata.version("torch")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    assert passes().setting()["machine"] == here | {"threads": 77}
    assert "77 computing threads" in passes().told_machine()


def test_what_only_a_gpu_heeds_is_no_part_of_a_setting_on_the_cpu() -> None:
    assert passes(runtime=RuntimeConfig(tf32=True, channels_last=False)).setting() == passes().setting()


def test_each_of_many_networks_is_compiled_though_torch_stops_at_the_eighth() -> None:
    counter = CompileCounter()
    for width in range(1, 11):
        compiler = Compiler(solo_job(), True, backend=counter)
        network = nn.Sequential(nn.Flatten(), nn.Linear(3, width))
        logits = compiler(own_code(answer), network, nn.Identity(), torch.zeros(1, 3, 1, 1))
        assert logits.shape == (1, width)
        assert counter.frame_count == width


def test_networks_are_compiled_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = CompileCounter()
    monkeypatch.setattr(compiling, "BACKEND", counter)
    assert passes()(small())() > 0
    assert counter.frame_count == 0
    assert passes(compile=True)(small())() > 0
    assert counter.frame_count == 1


def test_a_network_that_cannot_be_compiled_is_not_compared_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> object:
        raise NotImplementedError("no kernel")

    monkeypatch.setattr(compiling, "BACKEND", refuse)
    with pytest.raises(ConfigError, match="no kernel") as caught:
        passes(compile=True)(small())
    assert "throughput.compile: false" in caught.value.fix


def test_given_figures_of_hardware_are_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_pass, "build_network", None)
    hardware = HardwareConfig(multiply_adds_per_second=1e12, bytes_per_second=1e11)
    found = clock(tmp_path, hardware=hardware).measure(small(), [small(2)])
    assert found[small(2).name].how == "hardware"
    assert not list(tmp_path.iterdir())
