"""``status`` and ``compare`` as they are typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.analysis.job_folders import make_store, progress, write, write_run
from tests.conftest import CommandLine
from tests.contraction.planted import contract_config
from tinyvit_kd.config.load import dump_yaml


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two runs and a store."""
    for name, loss in (("one", 2.0), ("two", 1.0)):
        run = write_run(tmp_path / name, {"kind": "train", "step": 5, "time": 1.0, "loss": loss})
        write(run / "progress.json", progress("stopped"))
    make_store(tmp_path / "store", missing=((0, 0),))
    return tmp_path


def test_a_folder_lists_all_runs_and_stores_below_it(folder: Path, command_line: CommandLine) -> None:
    code, out, _ = command_line("status", folder)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:4]] == [
        str(folder / name) for name in ("one", "store", "two")
    ]


def test_json_is_one_object_and_nothing_else(folder: Path, command_line: CommandLine) -> None:
    code, out, _ = command_line("status", folder / "one", folder / "store", "--json")
    assert code == 0
    jobs = json.loads(out)["jobs"]
    assert [each["kind"] for each in jobs] == ["run", "store"]
    assert jobs[1]["missing_shards"] == {"train-0.tar": 1}


def test_a_path_that_is_nothing_is_a_mistake(folder: Path, command_line: CommandLine) -> None:
    code, out, err = command_line("status", folder / "no-run")
    assert (code, out) == (2, "")
    assert "To do" in err or "Expected" in err


def test_a_probe_fails_on_a_job_that_is_silent_and_not_on_one_that_finished(
    folder: Path, command_line: CommandLine
) -> None:
    assert command_line("status", folder / "one", "--stale", "1e12").code == 0
    os.utime(folder / "one" / "progress.json", (1, 1))
    for name in ("recipe.yaml", "metrics.jsonl"):
        os.utime(folder / "one" / name, (1, 1))
    assert command_line("status", folder / "one", "--stale", "60").code == 1
    write(folder / "one" / "summary.json", {"results": {"step": 5}})
    write(folder / "one" / "progress.json", progress("finished"))
    assert command_line("status", folder / "one", "--stale", "60").code == 0


@pytest.mark.parametrize("option", [["--watch", "0.2"], ["--watch=0.2"]])
def test_watching_looks_again_until_it_is_interrupted(
    folder: Path, command_line: CommandLine, option: list[str]
) -> None:
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    code, out, err = command_line("status", *option, folder / "one")
    assert (code, err) == (0, "")
    assert out.count("pretrain, stopped") > 2


def test_watch_may_stand_in_front_of_a_path(folder: Path, command_line: CommandLine) -> None:
    timer = threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    code, out, _ = command_line("status", "--watch", folder / "one")
    assert (code, out.count("pretrain, stopped")) == (0, 1), "five seconds are not over"


def test_what_vanishes_while_it_is_watched_is_told(folder: Path, command_line: CommandLine) -> None:
    def vanish() -> None:
        (folder / "one").rename(folder / "elsewhere")
        time.sleep(0.6)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Timer(0.6, vanish).start()
    code, out, err = command_line("status", "--watch", "0.2", folder / "one")
    assert code == 0
    assert "pretrain, stopped" in out
    assert "nothing to look into" in err


@pytest.fixture
def search(tmp_path: Path) -> Path:
    """A search that has been planned, and was stopped."""
    made = tmp_path / "search"
    write(made / "identity.json", {})
    write(made / "contract.yaml", dump_yaml(contract_config()))
    write(made / "results" / "round-01.plan.json", {"limits": {}, "results": [{"out": None}, {"out": "too slow"}]})
    line = "2026-01-01 00:00:00  {}\n"
    write(made / "log.txt", line.format("contract, process 1") + line.format("ended: stopped by SIGTERM"))
    return made


def test_a_search_has_a_status_too(folder: Path, search: Path, command_line: CommandLine) -> None:
    code, out, _ = command_line("status", search)
    assert code == 0
    assert out.startswith(f"{search}: contract, stopped")
    assert "0 of 4" in out
    assert "stopped by SIGTERM" in out
    (job,) = json.loads(command_line("status", search, "--json").out)["jobs"]
    assert (job["kind"], job["state"], job["round"], job["candidates"]) == ("search", "stopped", 1, 1)
    for name in ("log.txt", "contract.yaml"):
        os.utime(search / name, (1, 1))
    assert command_line("status", search, "--stale", "60").code == 1

    listed = command_line("status", folder).out.splitlines()  # beside runs and stores, in one table
    assert [line.split()[1:3] for line in listed if line.startswith(str(search))] == [["contract", "stopped"]]
    assert len(listed) >= 5


def test_a_search_is_watched(search: Path, command_line: CommandLine) -> None:
    timer = threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    code, out, _ = command_line("status", "--watch", "0.2", search)
    assert (code, out.count("contract, stopped") > 1) == (0, True)


@pytest.mark.parametrize("name", ["report", "compare"])
def test_a_report_of_a_search_is_its_own_page(name: str, search: Path, command_line: CommandLine) -> None:
    ended = command_line(name, search)
    assert ended.code == 2
    assert str(search / "contract.html") in ended.err
    holder = search.parent / "searches"
    holder.mkdir()
    search.rename(holder / "search")
    ended = command_line(name, holder)
    assert ended.code == 2
    assert "contract.html" in ended.err


def test_a_report_of_runs_beside_a_search_says_where_its_page_is(
    folder: Path, search: Path, command_line: CommandLine
) -> None:
    pytest.importorskip("plotly")
    ended = command_line("report", folder / "one", search.parent, "--output", folder / "report.html", "--samples", "0")
    assert ended.code == 0, ended.err
    assert f"{search}: a search has a page of its own, {search / 'contract.html'}" in ended.err


@pytest.mark.parametrize("name", ["status", "compare"])
def test_it_starts_without_torch(folder: Path, name: str) -> None:
    program = (
        "import sys\nfrom tinyvit_kd.cli import cli\n"
        f"try:\n    cli([{name!r}, {str(folder)!r}])\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_runs_are_compared(folder: Path, command_line: CommandLine) -> None:
    code, out, _ = command_line("compare", folder / "one", folder / "two")
    assert code == 0
    assert "loss" in out
    values = json.loads(command_line("compare", folder, "--json").out)
    assert values["figures"]["loss"] == [2.0, 1.0]
    assert values["runs"] == [str(folder / "one"), str(folder / "two")], "a store has to be named"


def test_one_run_is_not_compared(folder: Path, command_line: CommandLine) -> None:
    code, _, err = command_line("compare", folder / "one")
    assert code == 2
    assert "nothing to compare" in err
