"""The course of a search survives its file, and tells where a shape came from."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.contraction.made_searches import made_outcome
from tinyvit_kd.contraction.records import Result
from tinyvit_kd.contraction.rounds import as_plain, from_json, read_as, to_json
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.files import parse_json, write_json


def test_a_search_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    outcome = made_outcome()
    write_json(tmp_path / "rounds.json", to_json(outcome))
    assert from_json(parse_json((tmp_path / "rounds.json").read_bytes())) == outcome


def test_a_result_comes_back_with_scores_that_are_not_finite() -> None:
    result = made_outcome(cross_entropy=math.inf).rounds[0].results[0]
    again = read_as(Result, json.loads(json.dumps(as_plain(result))), "a file")
    assert again == result
    assert again.scores[0].cross_entropy == math.inf


def test_a_search_from_before_seeds_could_be_left_out_is_read() -> None:
    outcome = made_outcome()
    value = to_json(outcome)
    for record in value["rounds"]:
        for result in record["results"]:
            assert result.pop("diverged") == 0
    assert from_json(value) == outcome


def test_what_is_no_search_is_refused_with_its_place() -> None:
    value = to_json(made_outcome())
    value["rounds"][1]["results"][0]["costs"]["parameters"] = "many"
    with pytest.raises(ConfigError, match=r"rounds\.json: rounds\.1\.results\.0\.costs\.parameters"):
        from_json(value)


def test_a_lineage_goes_back_to_the_base() -> None:
    outcome = made_outcome()
    steps = outcome.lineage(outcome.winners[0])
    assert [number for number, _ in steps] == [0, 1, 2]
    names = [result.candidate.shape.name for _, result in steps]
    assert names[0] == outcome.base.candidate.shape.name
    assert names[-1] == outcome.winners[0]
    assert [result.candidate.base for _, result in steps[1:]] == names[:-1]


def test_a_shape_that_no_round_had_has_no_lineage() -> None:
    with pytest.raises(ConfigError, match="in none of its rounds"):
        made_outcome().lineage("w1")
