"""Which wheels a Python is given: what it lacks, what is too old, and what these require in turn; never torch."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu.requirements import needs, of_the_package, of_the_steps, wheels_in
from tests.benchmarks.gpu.wheels import write_wheel


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_wheel(tmp_path, "Top.Level", "2.5", ["middle>=1.0", "torch>=2", "nvidia-cublas", 'other; extra == "more"'])
    write_wheel(tmp_path, "middle", "1.4", ["bottom[extra]==3.0", 'ancient; python_version < "3.12"'])
    write_wheel(tmp_path, "bottom", "3.0", ['for-extra>=1; extra == "extra"', 'for-others; extra == "others"'])
    write_wheel(tmp_path, "for-extra", "1.0", ["bottom"])
    return tmp_path


@pytest.mark.parametrize(
    ("installed", "chosen"),
    [
        ({}, {"top-level", "middle", "bottom", "for-extra"}),
        ({"top-level": "1.9"}, {"top-level", "middle", "bottom", "for-extra"}),
        ({"top-level": "2.0"}, set()),
        ({"middle": "1.0"}, {"top-level"}),
        ({"middle": "0.9", "bottom": "3.0"}, {"top-level", "middle"}),
        ({"bottom": "3.1"}, {"top-level", "middle", "bottom", "for-extra"}),
    ],
    ids=["nothing is there", "too old", "new enough", "what it requires is there", "a part is too old", "an exact one"],
)
def test_what_is_missing_or_too_old_is_chosen_with_what_it_requires(
    installed: dict[str, str], chosen: set[str], folder: Path
) -> None:
    found = needs(["top_level>=2.0", "torch>=2.6"], wheels_in(folder), installed.get, "3.12")
    assert set(found.wheels) == chosen
    assert found.missing == {}


def test_what_no_wheel_offers_is_named_with_the_versions_that_would_do(folder: Path) -> None:
    found = needs(["top_level>=3", "middle", "absent>=1", "absent<2"], wheels_in(folder), lambda _: None, "3.11")
    assert set(found.wheels) == {"middle", "bottom", "for-extra"}
    assert found.missing == {"top-level": "top_level>=3", "absent": "absent<2,>=1", "ancient": "ancient"}


def test_what_is_left_alone_is_not_looked_for_in_what_others_require_either(folder: Path) -> None:
    found = needs(["top_level", "absent"], wheels_in(folder), lambda _: None, "3.12", ["Bottom", "absent"])
    assert set(found.wheels) == {"top-level", "middle"}
    assert not found.missing


def test_a_damaged_wheel_is_none(folder: Path) -> None:
    for path in folder.glob("middle*"):
        path.write_bytes(path.read_bytes()[:-40])
    assert set(wheels_in(folder)) == {"top-level", "bottom", "for-extra"}


def test_a_machines_torch_is_never_replaced(tmp_path: Path) -> None:
    write_wheel(tmp_path, "torch", "9.0")
    found = needs(["torch>=2.6", "torchvision", "nvidia-cudnn-cu13"], wheels_in(tmp_path), lambda _: None)
    assert not found.wheels
    assert not found.missing


def test_the_steps_require_what_setup_cfg_says_and_what_tests_import() -> None:
    package, steps = of_the_package(), of_the_steps()
    assert "pydantic>=2.9.0" in package
    assert set(package) < set(steps)
    names = {line.partition(">=")[0] for line in steps}
    assert {"pytest", "hypothesis", "zarr"} <= names
    assert not {"ruff", "mypy", "types-PyYAML"} & names


def test_this_environment_has_all_of_the_packages_requirements() -> None:
    found = needs(of_the_package(), {})
    assert not found.wheels
    assert not found.missing
