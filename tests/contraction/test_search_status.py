"""How far a search is, as its folder shows it: from the files that its processes share, in whatever state."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.job_folders import gone_process
from tests.contraction.made_searches import BASE, LIGHTER, NARROWER, NARROWEST, SHALLOWER, made_outcome, made_result
from tests.contraction.planted import contract_config
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.contraction.records import Result
from tinyvit_kd.contraction.results_folder import ResultsFolder
from tinyvit_kd.contraction.rounds import Outcome, as_plain, to_json
from tinyvit_kd.contraction.search import Plan
from tinyvit_kd.contraction.search_status import SearchStatus, search_status

NOW = time.time()
SEARCH: dict[str, Any] = {"search": {"rounds": 2}, "proxy": {"steps": 80, "rungs": 3, "finalists": 2, "seeds": 2}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A search whose first round has begun: three candidates, of which one has come to the end of its first part."""
    (tmp_path / "contract.yaml").write_text(dump_yaml(contract_config(**SEARCH)))
    (tmp_path / "identity.json").write_text("{}")
    (tmp_path / "log.txt").write_text("2026-01-01 00:00:00  contract, on a-machine, process 1\n")
    results = ResultsFolder(tmp_path)
    plan = [made_result(shape, 1e6) for shape in (NARROWER, SHALLOWER, LIGHTER)]
    plan.append(made_result(NARROWEST, 1e6, out="misses the limit of images_per_second by a factor of 1.1"))
    results.write("round-00." + BASE.name + ".part-3", scored(1.0))
    results.write("round-01.plan", planned(plan))
    results.write("round-01." + NARROWER.name + ".part-1", scored(2.5))
    return tmp_path


def scored(cross_entropy: float) -> dict[str, Any]:
    return {"score": {"cross_entropy": cross_entropy}}


def planned(results: list[Result]) -> dict[str, Any]:
    return as_plain(Plan({}, results))


def finish_round(folder: Path, outcome: Outcome) -> None:
    (folder / "rounds.json").write_text(json.dumps(to_json(outcome)))
    (folder / "contract.html").write_text("<html>")


def text(status: SearchStatus) -> str:
    return "\n".join(": ".join(row) for row in status.rows())


def test_a_round_under_way_tells_its_candidates_and_who_has_which_in_hand(folder: Path) -> None:
    results, task = ResultsFolder(folder), f"round-01.{SHALLOWER.name}.part-1"
    with results.claimed("log.txt"), results.claimed(task):
        status = search_status(folder, time.time())
    assert (status.state, status.done, status.total, status.round) == ("running", 0, 2, 1)
    assert (status.candidates, status.parts, status.scored) == (3, 3, (1,))
    (worker,) = status.workers
    assert (worker.host, worker.process, worker.tasks) == (platform.node(), os.getpid(), (task,))
    assert status.leader is not None
    assert (status.leader.name, status.leader.cross_entropy) == (NARROWER.name, 2.5)
    assert (status.best, status.winners, status.page) == (None, (), None)
    told = text(status)
    assert "round 1: 3 candidates; scored after part 1 of 3: 1" in told
    assert f"{platform.node()}, {os.getpid()}: {task}" in told


def test_what_came_furthest_leads_and_further_seeds_and_divergence_are_counted(folder: Path) -> None:
    results = ResultsFolder(folder)
    results.write(f"round-01.{SHALLOWER.name}.part-1", {"failed": "its training diverged: NaN"})
    results.write(f"round-01.{LIGHTER.name}.part-1", scored(2.0))
    results.write(f"round-01.{NARROWER.name}.part-2", scored(2.25))
    results.write(f"round-01.{NARROWER.name}.part-3.seed-1", scored(1.75))
    status = search_status(folder, NOW)
    assert (status.scored, status.repeated) == ((3, 1), 1)
    assert "scored after part 1 of 3: 3, part 2: 1; 1 training with further seeds" in text(status)
    (folder / "results" / f"round-01.{NARROWER.name}.part-3.seed-1.json").unlink()
    status = search_status(folder, NOW)
    assert status.leader is not None
    assert (status.leader.part, status.leader.cross_entropy) == (2, 2.25)


def test_between_rounds_the_best_is_that_of_the_last_one(folder: Path) -> None:
    outcome = made_outcome()
    finish_round(folder, Outcome(outcome.base, outcome.rounds[:1], (), {}, 224, 1000))
    for seed, loss in (("", 1.5), (".seed-1", 1.7)):
        ResultsFolder(folder).write(f"round-01.{NARROWER.name}.part-3{seed}", scored(loss))
    status = search_status(folder, NOW)
    assert (status.done, status.round, status.leader) == (1, None, None)
    assert status.best is not None
    assert status.best.name == NARROWER.name
    assert status.best.cross_entropy == pytest.approx(1.6)
    assert f"best so far: {NARROWER.name}, cross-entropy 1.6000 after part 3, round 1" in text(status)
    assert status.page == str(folder / "contract.html")


def test_a_finished_search_names_its_winners(folder: Path) -> None:
    finish_round(folder, made_outcome())
    assert search_status(folder, NOW).state == "silent"  # winners are there, recipes are not yet
    (folder / "contract.md").write_text("# Contraction")
    status = search_status(folder, NOW)
    assert (status.state, status.done, status.winners) == ("finished", 2, (NARROWEST.name,))
    assert status.recipes == (str(folder / "winner.yaml"),)
    assert f"winner: {folder / 'winner.yaml'}; {NARROWEST.name}" in text(status)


def test_processes_that_are_gone_do_no_work(folder: Path) -> None:
    name = f"round-01.{SHALLOWER.name}.part-1"
    claim = folder / "claims" / f"{name}.claim"
    with ResultsFolder(folder).claimed(name):
        values = json.loads(claim.read_text())
    claim.write_text(json.dumps(values | {"process": gone_process()["pid"]}))
    status = search_status(folder, time.time())
    assert (status.state, status.workers) == ("killed", ())
    claim.write_text(json.dumps(values | {"machine": "another", "process": 7}))
    assert search_status(folder, time.time()).workers[0].host == "another"
    assert search_status(folder, time.time() + 100).state == "silent"


DAMAGE = ("contract.yaml", "rounds.json", "results/round-01.plan.json", "claims/x.claim")


@pytest.mark.parametrize("name", DAMAGE)
def test_no_file_has_to_be_whole(folder: Path, name: str) -> None:
    (folder / "claims").mkdir(exist_ok=True)
    (folder / name).write_text("{ half")
    status = search_status(folder, NOW)
    assert (status.total is None) == (name == "contract.yaml")
    assert (status.candidates is None) == ("plan" in name)
    assert text(status)
