"""What a GPU is told is set on purpose, by both of torch's generations of switches, and told in one line."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from tests.conftest import NEEDS_GPU
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.compiling import Compiler
from tinyvit_kd.runtime.device_report import device_line, say_device
from tinyvit_kd.runtime.device_switches import CUBLAS_WORKSPACE, set_environment, set_switches
from tinyvit_kd.runtime.distributed import Job, solo_job, start_job
from tinyvit_kd.runtime.foreign_errors import determinism_refused


def switches() -> dict[str, object]:
    """Those that are set, as torch tells them."""
    return {
        "tf32": (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32),
        "benchmark": torch.backends.cudnn.benchmark,
        "deterministic": (torch.backends.cudnn.deterministic, torch.are_deterministic_algorithms_enabled()),
    }


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic
    yield
    matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
    torch.use_deterministic_algorithms(False)


CASES = [
    ({}, {"tf32": (False, False), "benchmark": True, "deterministic": (False, False)}),
    ({"tf32": True}, {"tf32": (True, True), "benchmark": True, "deterministic": (False, False)}),
    ({"cudnn_autotune": False}, {"tf32": (False, False), "benchmark": False, "deterministic": (False, False)}),
    ({"deterministic": True}, {"tf32": (False, False), "benchmark": False, "deterministic": (True, True)}),
]


@pytest.mark.parametrize(("fields", "expected"), CASES)
def test_switches_are_set_without_a_warning(fields: dict[str, bool], expected: dict[str, object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        set_switches(RuntimeConfig.model_validate(fields))
        assert switches() == expected


def test_what_torchs_compiler_reads_is_what_was_set() -> None:
    for tf32, precision in ((True, "high"), (False, "highest")):
        set_switches(RuntimeConfig(tf32=tf32))
        assert torch.get_float32_matmul_precision() == precision


def test_cublas_is_told_through_the_environment_unless_a_user_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CUBLAS_WORKSPACE, raising=False)
    set_environment(RuntimeConfig())
    assert CUBLAS_WORKSPACE not in os.environ
    set_environment(RuntimeConfig(deterministic=True))
    assert os.environ[CUBLAS_WORKSPACE] == ":4096:8"
    monkeypatch.setenv(CUBLAS_WORKSPACE, ":16:8")
    set_environment(RuntimeConfig(deterministic=True))
    assert os.environ[CUBLAS_WORKSPACE] == ":16:8"


def test_a_job_on_the_cpu_leaves_torchs_switches_alone() -> None:
    before = switches()
    with start_job("cpu", runtime=RuntimeConfig(tf32=True, cudnn_autotune=True)) as job:
        assert job.device.type == "cpu"
        assert switches() == before


def test_one_line_says_how_a_gpu_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 4))
    job = Job(0, 1, torch.device("cuda"))
    set_switches(RuntimeConfig())
    assert device_line("NVIDIA H200", Compiler(job), network, "float16") == (
        "NVIDIA H200: float16, not compiled, channels first, TF32 off, cuDNN autotuned, not deterministic"
    )
    set_switches(RuntimeConfig(tf32=True, deterministic=True))
    network.to(memory_format=torch.channels_last)
    assert device_line("NVIDIA H200", Compiler(job, "auto", True), network, "bfloat16") == (
        "NVIDIA H200: bfloat16, compiled, with CUDA graphs, channels last, TF32 on, cuDNN not autotuned, deterministic"
    )
    say_device(Compiler(solo_job()), network, "float32")
    assert capsys.readouterr().err == ""


def test_an_operator_without_a_deterministic_form_is_an_error_of_ours() -> None:
    refused = determinism_refused(
        RuntimeError(
            "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set "
            "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation, or …"
        )
    )
    assert isinstance(refused, ConfigError)
    assert "adaptive_avg_pool2d_backward_cuda" in str(refused)
    assert "runtime.deterministic" in str(refused)
    assert determinism_refused(RuntimeError("out of memory")) is None


@NEEDS_GPU
def test_on_a_gpu_the_switches_are_set_before_it_is_used() -> None:
    code = (
        "import os, torch\n"
        "from tinyvit_kd.config.training import RuntimeConfig\n"
        "from tinyvit_kd.runtime.distributed import start_job\n"
        "with start_job('cuda', runtime=RuntimeConfig(deterministic=True)) as job:\n"
        "    x = torch.randn(256, 256, device=job.device)\n"
        "    print((x @ x).sum().item() == (x @ x).sum().item(), torch.backends.cuda.matmul.allow_tf32)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True", "False"], done.stderr
