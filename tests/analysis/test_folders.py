"""Folders of jobs are found, and called by names that tell them apart."""

from __future__ import annotations

import pytest

from tinyvit_kd.analysis.jobs.folders import short_names


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/x/a", "/x/b"], ["a", "b"]),
        (["/x/one/run", "/x/two/run"], ["one/run", "two/run"]),
        (["/x/run", "/y/x/run"], ["x/run", "y/x/run"]),
        (["/x/a"], ["a"]),
        (["file:///x/store", "/x/store"], ["/x/store", "x/store"]),
        (["x/a", "y/b/"], ["a", "b"]),
        (["x/run", "y/run"], ["x/run", "y/run"]),
        ([], []),
    ],
)
def test_names_are_the_last_parts_of_paths_that_tell_them_apart(paths: list[str], names: list[str]) -> None:
    assert short_names(paths) == names
