"""Steps in turn: whatever happens to one, its result so far is kept, the reason is noted, and the next one runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from benchmarks.fault_injection.proc import state
from benchmarks.gpu.__main__ import main
from benchmarks.gpu.json_files import last_object, read_json
from benchmarks.gpu.series import pack
from tests.benchmarks.gpu.conftest import Call, Steps, states, summary
from tests.conftest import REPOSITORY

GOOD = "file.write_text(json.dumps({'over_bare': 0.5, 'steps': 7}))\n"
# A grandchild that leaves the group, as torchrun's processes do.
HANGING = """
file.write_text(json.dumps({"cases": {"first": 1}}))
child = subprocess.Popen(["sleep", "300"], start_new_session=True)
print("now", child.pid, flush=True)
time.sleep(300)
"""


def test_a_result_is_kept_and_ratios_come_first(steps: Steps, call: Call, out: Path) -> None:
    steps.add("good", GOOD + "print('here it is')\n")
    assert call() == 0
    assert read_json(out / "good.json") == {"over_bare": 0.5, "steps": 7}
    assert (out / "good.log").read_text() == "here it is\n"
    note = summary(out)["good"]
    assert (note["state"], note["result"]) == ("done", {"over_bare": 0.5, "steps": 7})
    page = (out / "summary.md").read_text()
    assert page.startswith("# made up\n")
    assert page.index("| good | over_bare | 0.5 |") < page.index("| good | done |") < page.index("| good | steps | 7 |")


def test_where_there_is_no_file_the_last_printed_object_is_the_result(steps: Steps, call: Call, out: Path) -> None:
    steps.add("printing", "print('{}')\nprint(json.dumps({'rate': 3}))\nprint('{no json')\nprint('warning')\n")
    assert call() == 0
    assert read_json(out / "printing.json") == {"rate": 3}


def test_a_step_is_told_what_it_understands(steps: Steps, call: Call, out: Path, tmp_path: Path) -> None:
    code = "file.write_text(json.dumps({'given': sys.argv[1:]}))"
    steps.add("plain", code)
    steps.add("peers", code, takes=("peer",))
    assert call("--peer", str(tmp_path)) == 0
    assert call("--only", "plain", "--tiny") == 0
    plain, peers = (json.loads((out / f"{name}.json").read_text())["given"] for name in ("plain", "peers"))
    assert plain == ["--device", "cpu", "--results", str(out / "plain.json"), "--tiny"]
    assert peers == ["--device", "cuda", "--results", str(out / "peers.json"), "--peer", str(tmp_path)]


def test_a_step_that_fails_is_noted_with_the_end_of_its_log(steps: Steps, call: Call, out: Path) -> None:
    steps.add("bad", "for number in range(100): print('line', number)\nsys.exit(3)\n")
    steps.add("good", GOOD)
    assert call() == 1
    assert states(out) == {"bad": "failed", "good": "done"}
    note = summary(out)["bad"]
    assert note["why"] == "exit code 3"
    assert note["log_tail"][-1] == "line 99"
    assert "line 99\n```" in (out / "summary.md").read_text()


def test_cases_that_failed_are_named_though_their_step_went_on(steps: Steps, call: Call, out: Path) -> None:
    steps.add("cases", "file.write_text(json.dumps({'failed': {'batch 1024': 'out of memory'}}))")
    assert call() == 0
    assert summary(out)["cases"]["why"] == "failed: batch 1024"
    assert "| cases | failed, batch 1024 | out of memory |" in (out / "summary.md").read_text()


def test_a_step_that_hangs_is_killed_whole_and_keeps_what_it_had_measured(steps: Steps, call: Call, out: Path) -> None:
    steps.add("hanging", HANGING, limit=3)
    steps.add("good", GOOD)
    begin = time.monotonic()
    assert call() == 1
    assert time.monotonic() - begin < 30
    assert states(out) == {"hanging": "timed out", "good": "done"}
    note = summary(out)["hanging"]
    assert note["result"] == read_json(out / "hanging.json") == {"cases": {"first": 1}}
    assert note["why"] == "killed after 3 s"
    assert note["log_tail"][0].startswith("now ")
    assert state(int(note["log_tail"][0].split()[1])) in ("", "Z")


def test_temporary_files_of_a_step_are_removed(steps: Steps, call: Call, out: Path) -> None:
    code = "import tempfile\nmade = tempfile.mkdtemp()\nfile.write_text(json.dumps({'made': made}))\ntime.sleep(60)"
    steps.add("untidy", code, limit=2)
    steps.add("last", GOOD)
    call()
    assert not Path(summary(out)["untidy"]["result"]["made"]).exists()


def test_what_does_not_fit_into_the_budget_is_listed_and_not_begun(steps: Steps, call: Call, out: Path) -> None:
    steps.add("long", GOOD, least=30)
    steps.add("short", GOOD)
    assert call("--minutes", "0.4") == 0
    assert states(out) == {"long": "not run", "short": "done"}
    assert "it is not begun with less than 30 s" in summary(out)["long"]["why"]
    assert not (out / "long.log").exists()
    assert "| long | not run |" in (out / "summary.md").read_text()


def test_the_last_step_may_take_all_that_is_left(steps: Steps, call: Call, out: Path) -> None:
    steps.add("first", GOOD, limit=30)
    steps.add("last", GOOD, limit=30)
    call("--minutes", "2")
    assert summary(out)["first"]["limit"] == 30
    assert 100 < summary(out)["last"]["limit"] <= 115


def test_some_steps_alone_add_to_what_is_known(steps: Steps, call: Call, out: Path) -> None:
    steps.add("first", GOOD)
    steps.add("second", GOOD)
    assert call("--only", "second") == 0
    assert states(out) == {"second": "done"}
    (steps.folder / "made_up_first.py").write_text("raise SystemExit(4)")
    assert call("--only", "first") == 1
    assert states(out) == {"second": "done", "first": "failed"}


def test_a_later_failure_costs_no_earlier_result(steps: Steps, call: Call, out: Path) -> None:
    steps.add("once", GOOD)
    assert call() == 0
    assert call("--minutes", "0.01") == 0
    assert states(out) == {"once": "done"}  # it was not run again
    (steps.folder / "made_up_once.py").write_text("raise SystemExit(4)")
    assert call() == 1
    assert summary(out)["once"]["result"] is None
    assert read_json(out / "once.before.json") == {"over_bare": 0.5, "steps": 7}


def test_an_unknown_step_is_refused_with_the_list(
    steps: Steps, call: Call, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps.add("good", GOOD)
    steps.add("better", GOOD)
    assert call("--only", "good", "best") == 2
    assert "Found: best. Expected: some of good, better." in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_that_is_not_there_is_refused(
    steps: Steps, call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps.add("good", GOOD)
    assert call("--photos", str(tmp_path / "none")) == 2
    assert "Where: --photos." in capsys.readouterr().err


def test_without_a_gpu_nothing_runs_unless_in_small(
    steps: Steps, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps.add("good", GOOD)
    with pytest.raises(SystemExit) as caught:
        main(["--out", str(out)], steps.table, lambda *_: {"torch": "2.11.0"})
    assert caught.value.code == 2
    assert "torch sees no GPU. Found: torch 2.11.0." in capsys.readouterr().err
    assert not (out / "good.log").exists()


def test_a_machine_that_cannot_be_looked_at_stops_nothing(steps: Steps, out: Path) -> None:
    steps.add("good", GOOD)
    with pytest.raises(SystemExit) as caught:
        main(["--out", str(out)], steps.table, lambda *_: {"error": "exit code 1: no module torch"})
    assert caught.value.code == 0
    assert "error exit code 1: no module torch" in (out / "summary.md").read_text()


def test_all_files_travel_in_one(steps: Steps, call: Call, tmp_path: Path) -> None:
    steps.add("first", GOOD)
    steps.add("second", "sys.exit(1)")
    call("--archive", str(tmp_path / "all.tar.gz"))
    with tarfile.open(tmp_path / "all.tar.gz") as file:
        names = set(file.getnames())
    expected = {"first.json", "first.log", "second.log", "summary.json", "summary.md"}
    assert names == {f"out/{name}" for name in expected}


def test_a_file_that_would_make_the_archive_too_large_is_left_out(out: Path, tmp_path: Path) -> None:
    out.mkdir()
    for name, size in (("a.trace.json.gz", 900), ("steps.json", 400), ("steps.log", 500)):
        (out / name).write_bytes(bytes(size))
    pack(out, tmp_path / "all.tar.gz", most=1000)
    with tarfile.open(tmp_path / "all.tar.gz") as file:
        assert set(file.getnames()) == {"out/steps.json", "out/steps.log"}


def test_a_signal_ends_the_step_and_is_noted(steps: Steps, out: Path, tmp_path: Path) -> None:
    steps.add("hanging", HANGING)
    script = tmp_path / "call.py"
    script.write_text(
        "from benchmarks.gpu.__main__ import main\nfrom benchmarks.gpu.steps import Step\n"
        f"main(['--out', {str(out)!r}], {steps.table!r}, lambda *_: {{'gpu': 'made up'}})\n"
    )
    path = os.pathsep.join([str(REPOSITORY), str(steps.folder)])
    process = subprocess.Popen([sys.executable, str(script)], env=os.environ | {"PYTHONPATH": path})
    deadline = time.monotonic() + 60
    while not (out / "hanging.log").exists() or not (out / "hanging.log").read_text().startswith("now"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    note = summary(out)["hanging"]
    assert (note["state"], note["result"]) == ("interrupted", {"cases": {"first": 1}})
    assert state(int(note["log_tail"][0].split()[1])) in ("", "Z")


@pytest.mark.parametrize("text", ["", "[1]\n", "{broken\n", "no object"])
def test_a_log_without_an_object_has_no_result(text: str) -> None:
    assert last_object(text) is None
