"""What a run goes back to is told as far as it is known, whatever its files hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.analysis.job_folders import write, write_run
from tinyvit_kd.analysis.jobs.lineage import Stage, last_part, lineage
from tinyvit_kd.analysis.jobs.run_folder import read_run
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.reports.model_card import ExportedModel, model_card

CARD = ModelCard(
    architecture={"name": "resnet10t"}, num_classes=2, image_size=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.just(10**400) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        | st.dictionaries(st.sampled_from(("shards", "eval", "hash", "views", "name", "gpus", "device")), inner)
    ),
    max_leaves=5,
)
RECIPE = ("stage", "shards", "store", "student", "eval", "train")
RESULTS = ("data", "stores", "teacher", "versions", "machine", "world_size", "seconds")


def some(names: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, ANYTHING))


def card_of(stages: list[Stage]) -> str:
    known: Any = {"network": "n", "parameters": 1, "two_heads": False, "card": CARD, "class_names": None}
    return model_card(ExportedModel(title="t", weights="raw", weights_hash="h", stages=stages, versions={}, **known))


@settings(max_examples=60, deadline=None)
@given(some(RECIPE), some(RESULTS), some(("top1", "samples", "loss")))
def test_no_content_of_a_runs_files_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, recipe: dict[str, Any], results: dict[str, Any], figures: dict[str, Any]
) -> None:
    folder = write_run(tmp_path_factory.mktemp("runs") / "run")
    write(folder / "summary.json", {"results": figures})
    write(folder / "results.json", {"figures": figures} | results)
    run = read_run(folder)
    (stage,) = lineage(type(run)(run.path, recipe, run.lines, 0, run.summary, run.results))
    assert "How it was trained" in card_of([stage])


def test_of_a_command_that_fetches_shards_nothing_is_published() -> None:
    assert last_part("pipe:curl -H 'Authorization: Bearer secret' https://host/train.tar") == "pipe:…"
    assert last_part("https://host/a/train-{000..010}.tar?token=secret") == "train-{000..010}.tar"
