"""Processes that cannot be started are told of at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY
from tests.processes import NOBODY
from tinyvit_kd.runtime.foreign_errors import is_thread_refusal, shortage_behind
from tinyvit_kd.runtime.parallel import require_threads

# Everything is imported before, since another user may not read this interpreter.
LIMITED = """
import os, resource, sys, threading
from tinyvit_kd.runtime.foreign_errors import is_thread_refusal
from tinyvit_kd.runtime.parallel import run_parallel
if os.getuid() == 0:
    os.setuid({user})
resource.setrlimit(resource.RLIMIT_NPROC, (2, 2))
try:
    list(run_parallel(abs, range(9), 2))
except RuntimeError as error:
    print(is_thread_refusal(error), threading.active_count())
"""


def test_enough_threads_are_no_fault() -> None:
    require_threads(20)


@pytest.mark.skipif(sys.platform != "linux", reason="a user's processes are limited in Linux's way")
def test_python_tells_of_a_thread_that_the_system_refuses_and_no_pool_is_begun() -> None:
    code = LIMITED.format(user=NOBODY - 7)  # who has no processes
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=REPOSITORY, timeout=100
    )
    assert done.stdout == "True 1\n", done.stderr


def test_a_refused_thread_and_too_little_memory_become_advice() -> None:
    refused = shortage_behind(RuntimeError("can't start new thread"))
    assert refused is not None
    assert "ulimit -u" in refused.fix
    short = shortage_behind(MemoryError())
    assert short is not None
    assert "batch_size" in short.fix
    assert shortage_behind(RuntimeError("a bug")) is None
    assert not is_thread_refusal(ValueError("can't start new thread"))
