"""What the operating system refuses becomes a paragraph whose advice fits where the path came from."""

from __future__ import annotations

import errno

import pytest

from tinyvit_kd.errors import DiskSpaceError
from tinyvit_kd.runtime.refusals import FOLDERS, from_os_error


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("/cache/inductor/x", "set the environment variable TORCHINDUCTOR_CACHE_DIR"),
        ("/cache/inductor", "set the environment variable TORCHINDUCTOR_CACHE_DIR"),
        ("/home/me/.cache/huggingface", "set the environment variable HOME"),
        ("/home/me/shards", "correct the path or its permissions"),
        ("/cache/inductor-2", "correct the path or its permissions"),
    ],
)
def test_advice_about_a_path_names_the_environment_where_it_comes_from_there(
    monkeypatch: pytest.MonkeyPatch, path: str, advice: str
) -> None:
    for name in FOLDERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/cache/inductor")
    monkeypatch.setenv("HOME", "/home/me")
    refused = from_os_error(PermissionError(errno.EACCES, "Permission denied", path))
    assert refused is not None
    assert refused.fix.startswith(advice)
    assert "recipe" not in refused.fix


def test_a_full_disk_and_a_limit_are_told_apart_from_a_wrong_path() -> None:
    assert isinstance(from_os_error(OSError(errno.ENOSPC, "No space left on device", "a")), DiskSpaceError)
    short = from_os_error(OSError(errno.EMFILE, "Too many open files", "a"))
    assert short is not None
    assert "ulimit -n" in short.fix
    assert from_os_error(OSError("a bug of ours")) is None
