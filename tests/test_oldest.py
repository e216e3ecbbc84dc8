"""The versions that `make test-oldest` installs are those from which on the package says that it works."""

from __future__ import annotations

import configparser

from packaging.requirements import Requirement
from packaging.version import Version

from tests.conftest import REPOSITORY


def bounds(lines: list[str], operator: str) -> dict[str, Version]:
    """The version of each requirement that names one alone and with this operator."""
    requirements = [Requirement(line) for line in lines]
    return {
        each.name: Version(specifier.version)
        for each in requirements
        for specifier in each.specifier
        if len(each.specifier) == 1 and specifier.operator == operator
    }


def test_lower_bounds_are_the_versions_that_are_tested() -> None:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    required = setup["options"]["install_requires"].strip().splitlines()
    read_by_tests = bounds(setup["options.extras_require"]["dev"].strip().splitlines(), ">=")["zarr"]
    lines = (REPOSITORY / ".ci" / "oldest.txt").read_text().splitlines()
    tested = bounds([line for line in lines if line and not line.startswith("#")], "==")
    assert len(bounds(required, ">=")) == len(required)
    assert bounds(required, ">=") | {"zarr": read_by_tests} == tested
