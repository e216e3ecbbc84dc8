"""The versions that `make test-oldest` installs are those from which on the package says that it works."""

from __future__ import annotations

import configparser

from packaging.requirements import Requirement
from packaging.version import Version

from tests.conftest import REPOSITORY


def bounds(lines: list[str], operator: str) -> dict[str, Version]:
    """The version of each requirement, which must name one alone and with this operator."""
    found = {}
    for line in lines:
        requirement = Requirement(line)
        ((each),) = requirement.specifier
        assert each.operator == operator, line
        found[requirement.name] = Version(each.version)
    return found


def test_lower_bounds_are_the_versions_that_are_tested() -> None:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    required = setup["options"]["install_requires"].strip().splitlines()
    lines = (REPOSITORY / ".ci" / "oldest.txt").read_text().splitlines()
    tested = bounds([line for line in lines if line and not line.startswith("#")], "==")
    assert bounds(required, ">=") == tested
