"""What travels to a machine: wheels with all that they require, within a limit, and a libjpeg-turbo."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import main
from benchmarks.gpu.prepare import Carrier, prepare
from benchmarks.gpu.requirements import canonical, of_the_steps, parsed
from tests.benchmarks.gpu.wheels import write_wheel
from tinyvit_kd.errors import ConfigError

MIB = 1 << 20
SIZES = {"scipy": 3 * MIB, "numpy": 2 * MIB}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel for every requirement; pydantic's requires another one."""
    folder = tmp_path_factory.mktemp("registry")
    for line in of_the_steps():
        requirement = parsed(line)
        name = canonical(requirement.name)
        if name in ("torch", "torchvision"):
            continue
        version = next((each.version for each in requirement.specifier), "1.0")
        requires = {"pydantic": ["pydantic-core==7.1"], "timm": ["torch"], "zarr": ["numpy"]}.get(name, [])
        write_wheel(folder, name, version, requires, SIZES.get(name, 0))
    write_wheel(folder, "pydantic-core", "7.2")
    write_wheel(folder, "pydantic-core", "7.1", ['only-before; python_version < "3.12"'])
    return folder


def names_in(folder: Path) -> set[str]:
    return {canonical(path.name.partition("-")[0]) for path in (folder / "wheels").glob("*.whl")}


def test_all_that_is_required_is_gathered_without_a_net(registry: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    (folder / "wheels").mkdir(parents=True)
    write_wheel(folder / "wheels", "stale", "1.0")
    said = prepare(folder, Carrier("3.12", find_links=registry))
    expected = {canonical(parsed(line).name) for line in of_the_steps()} - {"torch", "torchvision"}
    assert names_in(folder) == expected | {"pydantic-core"}
    assert (folder / "wheels" / "pydantic_core-7.1-py3-none-any.whl").is_file()
    assert "all requirements are met" in said
    contents = json.loads((folder / "contents.json").read_text())
    assert contents["python"] == "3.12"
    assert (contents["left_out"], contents["missing"]) == ([], [])


@pytest.mark.parametrize(
    ("limit", "left_out", "fits"),
    [(4, ["scipy"], True), (0.001, ["scipy", "numpy"], False)],
    ids=["without one", "without all"],
)
def test_what_is_least_needed_is_left_out_where_all_is_too_much(
    limit: float, left_out: list[str], fits: bool, registry: Path, tmp_path: Path
) -> None:

    folder = tmp_path / "prepared"
    said = prepare(folder, Carrier("3.12", limit, ("tensorboard",), registry))
    contents = json.loads((folder / "contents.json").read_text())
    assert contents["left_out"] == left_out
    assert not names_in(folder) & {"tensorboard", *left_out}
    assert ("TOO MUCH" in said) == (not fits)


def test_a_package_that_pip_does_not_get_is_an_error_that_names_it(registry: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"only-before"):
        prepare(tmp_path / "prepared", Carrier("3.11", find_links=registry))


def test_wheels_of_another_python_are_not_kept(registry: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    for python, kept in (("3.13", False), ("3.12", True)):
        prepare(folder, Carrier("3.12", find_links=registry))
        mark = folder / "wheels" / "pytest-9.2-py3-none-any.whl"
        before = mark.stat().st_ino, mark.stat().st_mtime_ns
        prepare(folder, Carrier(python, find_links=registry))
        assert ((mark.stat().st_ino, mark.stat().st_mtime_ns) == before) == kept


def test_libjpeg_is_carried_without_links(registry: Path, tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    said = prepare(folder, Carrier("3.12", find_links=registry))
    if "none for x86-64 here" in said:
        pytest.skip("there is no libjpeg-turbo to carry")
    carried = {path.name for path in (folder / "libjpeg").rglob("*") if path.is_file()}
    assert {"jpeglib.h", "jconfig.h", "jmorecfg.h", "jerror.h", "libjpeg.so", "NOTICE"} <= carried
    assert any(name.startswith("libjpeg.so.") for name in carried)
    assert not [path for path in folder.rglob("*") if path.is_symlink()]


def test_the_command_prepares_and_says_how_large_it_is(
    registry: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--prepare", str(tmp_path / "prepared"), "--find-links", str(registry), "--without", "scipy", "numpy"])
    said = capsys.readouterr().out
    assert "wheels for Python 3.12" in said
    assert " MiB of 64 MiB" in said
    shutil.rmtree(tmp_path / "prepared")
