"""The steps of the command for a GPU: what each finds out, and that its own modules do it in small."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.gpu import environment
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.demo import ON_THE_CPU, compared
from benchmarks.gpu.requirements import wheels_in
from benchmarks.gpu.resume import in_force, is_right
from benchmarks.gpu.steps import STEPS, chosen
from benchmarks.gpu.suite import FAILED, PASSED, Recorder, files_that_need_a_gpu
from tests.benchmarks.gpu.conftest import states, summary
from tests.benchmarks.gpu.wheels import write_wheel
from tests.conftest import REPOSITORY
from tinyvit_kd.runtime.compiling import Compiler
from tinyvit_kd.runtime.device_report import device_line
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.views import native

OWN = ["setup", "tests", "demo", "resume"]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_every_step_is_a_module(step: Any) -> None:
    assert importlib.util.find_spec(step.module) is not None


def test_steps_run_in_order_of_worth_whatever_the_order_they_are_asked_for_in() -> None:
    assert [step.name for step in chosen(None)][:5] == ["setup", "tests", "demo", "steps", "resume"]
    assert [step.name for step in chosen(["dump", "setup", "online"])] == ["setup", "online", "dump"]


def test_the_page_lists_every_step_with_its_limit() -> None:
    text = (REPOSITORY / "docs" / "PERFORMANCE.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|.*\| `([\w./]+)` \| (\d+) s \|$", text, re.MULTILINE)
    named = [(name, place.removesuffix(".py").replace("/", "."), int(limit)) for name, place, limit in rows]
    assert named == [(step.name, step.module, step.limit) for step in STEPS]


@pytest.mark.slow
def test_the_own_steps_run_in_small_on_a_cpu(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--out", str(tmp_path / "out"), "--tiny", "--only", *OWN])
    assert states(tmp_path / "out") == dict.fromkeys(OWN, "done")
    assert caught.value.code == 0
    found = {name: note["result"] for name, note in summary(tmp_path / "out").items()}
    assert found["setup"]["missing"] == found["setup"]["installed"] == []
    assert found["demo"]["digests_equal"]
    (case,) = found["resume"]["cases"].values()
    assert case["equal"]
    assert case["weights_apart"] == 0
    assert "torch" in json.loads((tmp_path / "out" / "summary.json").read_text())["machine"]


# setup


def run_module(module: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return done.returncode, found


def test_packages_are_installed_from_wheels_alone(tmp_path: Path) -> None:
    wheels = wheels_in(write_wheel(tmp_path / "wheels", "Made.Up", "1.5").parent)
    site = tmp_path / "site"
    assert environment.install(list(wheels.values()), site).returncode == 0
    assert (site / "Made_Up_made_up.py").read_text() == "VERSION = '1.5'\n"
    newer = wheels_in(write_wheel(tmp_path / "newer", "Made.Up", "2.0").parent)
    assert environment.install(list(newer.values()), site).returncode == 0
    assert [path.read_text() for path in site.glob("*_made_up.py")] == ["VERSION = '2.0'\n"]


def test_a_full_environment_is_left_as_it_is(tmp_path: Path) -> None:
    write_wheel(tmp_path / "wheels", "pydantic", "99.0")
    found = environment.packages(tmp_path, tmp_path / "site")
    assert found["installed"] == found["missing"] == []
    assert not (tmp_path / "site").exists()


def test_a_renderer_that_is_there_is_not_built_again() -> None:
    if not native.is_on():
        pytest.skip("there is no native renderer")
    found = environment.renderer(None)
    assert (found["built"], found["native"]) == (False, True)
    assert "natively" in found["renders"]


def test_a_carried_library_is_what_the_renderer_is_built_against(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert environment.build_flags(tmp_path) == {}
    folder = tmp_path / "with blanks"
    (folder / "libjpeg").mkdir(parents=True)
    for name, flags in environment.build_flags(folder).items():
        monkeypatch.setenv(name, flags)
    monkeypatch.chdir(REPOSITORY)
    spec = importlib.util.spec_from_file_location("setup_of_the_tree", REPOSITORY / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    extension = setup.native()
    library = f"{folder}/libjpeg/lib"
    assert f"-I{folder}/libjpeg/include" in extension.extra_compile_args
    assert extension.extra_link_args[:2] == [f"-L{library}", f"-Wl,-rpath,{library}"]
    assert "-ljpeg" in extension.extra_link_args


# tests


def test_the_mark_selects_exactly_the_tests_that_need_a_gpu(tmp_path: Path) -> None:
    names = {path.name for path in files_that_need_a_gpu()}
    assert {"test_transfer.py", "test_synchronisation.py"} <= names
    code, found = run_module("benchmarks.gpu.suite", "--device", "cuda", "--results", str(tmp_path / "tests.json"))
    assert found == json.loads((tmp_path / "tests.json").read_text())
    assert len(found["tests"]) >= 4
    assert {name.partition("::")[0].rpartition("/")[2] for name in found["tests"]} == names
    if not torch.cuda.is_available():
        assert set(found["tests"].values()) == {"skipped"}
        assert code == 1  # where a GPU was promised, a test that is skipped is a failure


def report(name: str, when: str, outcome: str) -> Any:
    return SimpleNamespace(nodeid=name, when=when, outcome=outcome, longreprtext="x" * 3000)


def test_every_outcome_is_kept_as_soon_as_there_is_one(tmp_path: Path) -> None:
    path = tmp_path / "tests.json"
    recorder = Recorder({"native": True}, path)
    for when in ("setup", "call", "teardown"):
        recorder.pytest_runtest_logreport(report("one", when, PASSED))
    assert json.loads(path.read_text())["tests"] == {"one": "passed"}
    recorder.pytest_runtest_logreport(report("two", "setup", FAILED))
    recorder.pytest_collectreport(report("file", "collect", FAILED))
    found = json.loads(path.read_text())
    assert found["tests"] == {"one": "passed", "two": "failed", "file": "failed"}
    assert (found["passed"], found["failed"], found["skipped"], found["native"]) == (1, 2, 0, True)
    assert {name: len(text) for name, text in found["failures"].items()} == {"two": 2000, "file": 2000}


# demo


def test_what_the_demo_is_compared_with_is_what_the_readme_shows() -> None:
    text = (REPOSITORY / "README.md").read_text()
    rows = dict(re.findall(r"^(\w.*?) {2,}([\d,.]+)(?: %)?$", text, re.MULTILINE))
    shown = {
        "teacher_top1": "teacher, top-1",
        "scratch_top1": "student from scratch, as many steps",
        "distilled_top1": "student distilled (stages 1, 2)",
        "finetuned_top1": "student distilled and finetuned (1, 2, 3)",
        "teacher_images_per_second": "images/s: teacher training",
        "dump_images_per_second": "images/s: dump-logits",
        "pretrain_images_per_second": "images/s: pretrain",
        "finetune_images_per_second": "images/s: finetune",
        "seconds": "seconds in all",
    }
    assert {name: float(rows[row].replace(",", "")) for name, row in shown.items()} == ON_THE_CPU


def figures(**changes: float) -> dict[str, float]:
    return {**ON_THE_CPU, "digests_checked": 8, "digests_equal": 8, **changes}


def test_a_demo_is_compared_with_the_cpus() -> None:
    found = compared(figures(seconds=89.5, distilled_top1=37.33), whole=True)
    assert found["digests_equal"] is True
    assert found["scores_near_cpu"] is True
    assert found["over_cpu"]["seconds"] == 0.5
    assert found["points_above_cpu"]["distilled_top1"] == 3.0
    assert compared(figures(scratch_top1=4.17), whole=True)["scores_near_cpu"] is False
    assert compared(figures(digests_equal=7), whole=False)["digests_equal"] is False
    assert "over_cpu" not in compared(figures(), whole=False)


# resume


@pytest.mark.parametrize(
    ("found", "right"),
    [
        ({"plain": (True, True)}, True),
        ({"plain": (False, False)}, True),
        ({"plain": (False, True)}, False),
        ({"deterministic": (True, True), "plain": (False, False)}, True),
        ({"deterministic": (False, False), "plain": (True, True)}, False),
        ({"deterministic": (True, True), "deterministic-compiled": (False, False)}, False),
    ],
    ids=[
        *("the same", "never the same", "not the same for the kill"),
        *("deterministic the same", "deterministic differs", "compiled differs"),
    ],
)
def test_a_resumed_run_is_right_if_it_is_as_equal_as_a_repeated_one(
    found: dict[str, Sequence[bool]], right: bool
) -> None:
    cases = {name: {"equal": equal, "equal_without_a_kill": again} for name, (equal, again) in found.items()}
    assert is_right(cases) == right


def test_whether_a_run_was_compiled_is_what_it_says_itself() -> None:
    network, job = nn.Sequential(nn.Conv2d(3, 4, 3)), Job(0, 1, torch.device("cuda"))
    line = device_line("NVIDIA H200", Compiler(job, True), network, "bfloat16")
    assert in_force(f"continuing\n{line}\nstep 4\n") == line
    assert ", compiled," in line
    assert in_force("continuing\nstep 4\n") == ""
