"""``--part auto`` as it is typed: a dump by an array's elements, and a probe that looks at one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.tiny_world import World
from tests.analysis.job_folders import NOW, progress, write
from tests.conftest import CommandLine, Ended
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.store.store import LogitStore


def element(patch: pytest.MonkeyPatch, number: int, first: int, last: int) -> None:
    """Make this process element ``number`` of ``--array=FIRST-LAST``."""
    told = {"ID": number, "MIN": first, "MAX": last, "STEP": 1, "COUNT": last - first + 1}
    for name, value in told.items():
        patch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))


def test_the_elements_of_an_array_make_a_store_and_some_of_them_again_are_not_taken_for_an_array(
    world: World, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = world.folder / "parts"
    recipe = world.folder / "dump.yaml"
    recipe.write_text(dump_yaml(world.dump(store={"path": str(store), "topk": 5, "views": 2})))

    def dump(part: str) -> Ended:
        return command_line("dump-logits", recipe, "--part", part)

    element(monkeypatch, 1, 1, 3)
    assert dump("auto").code == 0
    element(monkeypatch, 2, 1, 2)  # sbatch --array=1-2
    refused = dump("auto")
    assert refused.code == 2
    assert "an array of 2 parts goes on with a store that was begun in 3 parts" in refused.err
    assert not list(world.folder.glob("parts.part-*-of-2.*")), "or the next start would take them for its own kind"
    assert len(LogitStore.open(store).missing_blocks()) == 4
    assert dump("auto/3").code == 0
    element(monkeypatch, 3, 3, 3)  # sbatch --array=3
    assert "does not say how many parts there are" in dump("auto").err
    assert dump("auto/3").code == 0
    assert LogitStore.open(store).missing_blocks() == []


def test_a_probe_looks_at_its_own_part_alone(
    tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"  # which is not there yet
    monkeypatch.setattr("time.time", lambda: NOW)
    for part, age in ((2, 5), (3, 500)):
        write(tmp_path / f"store.part-{part}-of-8.progress.json", progress(stage="dump-logits", age=age), age)
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    alive = command_line("status", store, "--part", "auto/8", "--stale", "60")
    assert (alive.code, alive.err) == (0, "")
    assert "dump-logits, running" in alive.out
    assert "part 2/8" in alive.out
    assert "3/8" not in alive.out
    assert command_line("status", store, "--part", "3/8", "--stale", "60").code == 1
    assert "part 4 of 8 of a dump has left nothing" in command_line("status", store, "--part", "4/8").err
    assert command_line("status", store, "--part", "auto", "--stale", "60").code == 2
