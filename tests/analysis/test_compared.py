"""What differs between runs is told, and nothing else; the best is marked where values can be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.analysis.job_folders import NOW, make_store, progress, write, write_run
from tinyvit_kd.analysis.jobs.compared import compare_runs
from tinyvit_kd.analysis.jobs.compared_text import describe

LOSS = {"kind": "soft"}


def finished(folder: Path, figures: dict[str, Any], store: str = "s1", scored: str = "e1", **recipe: Any) -> str:
    """A finished run."""
    write_run(folder, **({"loss": LOSS, "output": str(folder)} | recipe))
    write(folder / "summary.json", {"results": figures})
    results = {
        "figures": figures,
        "data": {"shards": {"hash": "d1"}, "eval": {"hash": scored}},
        "stores": [{"hash": store}],
        "teacher": [{"name": "Net", "weights_hash": "w"}],
        "versions": {"torch": "1"},
        "machine": {"host": folder.name, "gpus": [{"name": "H200"}, {"name": "H200"}]},
        "seconds": figures["loss"] * 10,
    }
    write(folder / "results.json", results)
    return str(folder)


def pair(first: str, second: str) -> list[tuple[str, bool]]:
    return [(first, True), (second, True)]


def test_settings_and_figures_that_differ_stand_beside_each_other(tmp_path: Path) -> None:
    first = finished(tmp_path / "a", {"loss": 2.0, "top1": 40.0, "step": 9}, optim={"base_lr": 0.1, "eps": 1})
    second = finished(tmp_path / "b", {"loss": 1.5, "top1": 39.0, "step": 9}, optim={"base_lr": 0.2, "eps": 1})
    compared = compare_runs(pair(first, second), NOW)
    assert compared.settings == {"optim.base_lr": (0.1, 0.2)}
    assert compared.settings_in_common == 3, "eps, the batch and the loss"
    assert compared.figures == {"loss": (2.0, 1.5), "top1": (40.0, 39.0), "seconds": (20.0, 15.0)}
    assert compared.figures_in_common == 1
    assert compared.best == {"loss": (1,), "top1": (0,), "seconds": (1,)}
    assert compared.data == {}
    assert compared.surroundings == {"host": ("a", "b")}
    assert compared.notes == ()
    text = describe(compared)
    assert "40.00 *" in text
    assert "39.00 *" not in text


def test_losses_of_other_stores_and_scores_of_other_images_have_no_best(tmp_path: Path) -> None:
    first = finished(tmp_path / "a", {"loss": 2.0, "top1": 40.0})
    second = finished(tmp_path / "b", {"loss": 1.5, "top1": 39.0}, store="s2", scored="e2")
    compared = compare_runs(pair(first, second), NOW)
    assert compared.best == {"seconds": (1,)}
    assert compared.data == {"evaluation data": ("e1", "e2"), "stores": ("s1", "s2")}
    assert [note for note in compared.notes if "different stores" in note]
    assert [note for note in compared.notes if "different images" in note]


def test_losses_of_other_objectives_have_no_best(tmp_path: Path) -> None:
    first = finished(tmp_path / "a", {"loss": 2.0})
    second = finished(tmp_path / "b", {"loss": 1.5}, loss={"kind": "hard"})
    compared = compare_runs(pair(first, second), NOW)
    assert "loss" not in compared.best


def test_a_run_that_has_not_finished_shows_its_last_figures_and_is_never_the_best(tmp_path: Path) -> None:
    first = finished(tmp_path / "a", {"loss": 2.0, "top1": 40.0})
    second = write_run(tmp_path / "b", {"kind": "eval", "step": 5, "top1": 99.0}, loss=LOSS)
    write(second / "progress.json", progress())
    compared = compare_runs(pair(first, str(second)), NOW)
    assert compared.states == ("finished", "running, step 120 of 400")
    assert compared.figures["top1"] == (40.0, 99.0)
    assert compared.best == {}


def test_a_section_that_some_runs_lack_is_one_row_where_the_others_agree(tmp_path: Path) -> None:
    views = {"size": 32, "hflip": 0.5, "scale": 1}
    paths = [
        finished(tmp_path / "a", {"loss": 1.0}),
        finished(tmp_path / "b", {"loss": 1.0}, views=views),
        finished(tmp_path / "c", {"loss": 1.0}, views=views | {"scale": 2}),
    ]
    compared = compare_runs([(path, True) for path in paths], NOW)
    alike = "2 settings, alike"
    assert compared.settings == {"views.*": (None, alike, alike), "views.scale": (None, 1, 2)}


def test_a_run_of_which_little_is_known_does_not_make_all_else_differ(tmp_path: Path) -> None:
    paths = [finished(tmp_path / name, {"loss": 1.0}) for name in ("a", "b", "c")]
    (tmp_path / "c" / "recipe.yaml").write_text("")
    (tmp_path / "c" / "results.json").unlink()
    compared = compare_runs([(path, True) for path in paths], NOW)
    assert compared.settings == {}
    assert compared.data == {}
    assert [note for note in compared.notes if "not known of" in note and str(tmp_path / "c") in note]


def test_dumps_are_compared_by_their_stores_and_parts_are_added(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_store(tmp_path / name)
    recipe = {"store": {"views": 3}}
    write(tmp_path / "one.results.json", {"figures": {"views": 120, "holes": 2}, "seconds": 8.0, "recipe": recipe})
    for part in (1, 2):
        kept = {"figures": {"views": 60, "holes": 0}, "seconds": 3.0, "recipe": recipe}
        write(tmp_path / f"two.part-{part}-of-2.results.json", kept)
    compared = compare_runs([(str(tmp_path / name), False) for name in ("one", "two")], NOW)
    assert compared.figures == {"holes": (2, 0), "seconds": (8, 6)}
    assert compared.stages == ("dump-logits", "dump-logits")


def test_a_comparison_is_plain_data(tmp_path: Path) -> None:
    paths = [finished(tmp_path / name, {"loss": 1.0}) for name in ("a", "b")]
    json.dumps(compare_runs(pair(*paths), NOW).as_dict())
