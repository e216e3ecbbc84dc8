"""The fuzzer builds and runs; what it finds in minutes and hours is in fuzz/README.md."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

PROBE = "#include <stdio.h>\n#include <jpeglib.h>\nint LLVMFuzzerTestOneInput(void) { return 0; }\n"


@pytest.fixture(scope="module")
def clang(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Clang with libFuzzer, the sanitizers and libjpeg-turbo."""
    found = shutil.which("clang")
    if found is None:
        pytest.skip("the fuzzer needs Clang, which is not here")
    command = [found, "-fsanitize=fuzzer,address,undefined", "-x", "c", "-", "-ljpeg"]
    out = tmp_path_factory.mktemp("probe") / "probe"
    probed = subprocess.run([*command, "-o", str(out)], input=PROBE, capture_output=True, text=True, check=False)
    if probed.returncode != 0:
        pytest.skip("the fuzzer needs Clang's libFuzzer, its sanitizers and libjpeg-turbo, which are not all here")
    return found


def test_a_few_seconds_of_fuzzing_find_nothing(clang: str) -> None:
    environment = os.environ | {"CLANG": clang, "PYTHON": sys.executable}
    command = [str(REPOSITORY / "fuzz" / "run"), "--quick", "--seconds", "3"]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    executed = re.search(r"number_of_executed_units: (\d+)", found.stdout)
    assert executed is not None
    assert int(executed[1]) > 100
