"""The page of a search shows every candidate in its tables, and what a search has in its charts; it loads nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from tests.contraction.made_searches import BASE, NARROWEST, made_outcome, made_result
from tests.reports.reading import Page
from tests.reports.test_markup import TEXTS
from tests.reports.test_page import NOTHING_AROUND, OWN_TAGS
from tinyvit_kd.contraction.records import Costs, Result
from tinyvit_kd.contraction.rounds import Outcome
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.reports import contraction_page as module
from tinyvit_kd.reports.contraction_charts import contraction_charts
from tinyvit_kd.reports.contraction_page import contraction_page, write_contraction_page
from tinyvit_kd.runtime.wording import printable

PUBLISHED = {"TinyViT-5M": Costs(5_392_764, 1_255_174_720, 0, 0), "TinyViT-21M": Costs(21_198_568, 4_250_329_536, 0, 0)}


def page_of(outcome: Outcome, title: str = "a search", command: str = "") -> Page:
    return Page(contraction_page(outcome, PUBLISHED, NOTHING_AROUND, title, "Made today.", command))


def drawn(page: Page) -> dict[str, Any]:
    (data,) = [json.loads(text) for attributes, text in page.scripts if attributes.get("id") == "drawing"]
    charts: dict[str, Any] = data["charts"]
    return charts


def all_results(outcome: Outcome) -> list[Result]:
    return [outcome.base, *(each for record in outcome.rounds for each in record.results)]


def test_each_score_is_drawn_against_each_cost_that_is_known() -> None:
    charts = drawn(page_of(made_outcome()))
    assert list(charts) == [
        f"{score}-{cost}"
        for score in ("cross_entropy", "agreement", "top1")
        for cost in ("parameters", "multiply_adds", "images_per_second")
    ]
    for name, chart in charts.items():
        untimed = name.endswith("images_per_second")
        assert [len(group["x"]) for group in chart["scatter"]] == [1, 2, 2 if untimed else 3], name


def test_a_store_without_labels_has_no_chart_of_accuracy_and_a_search_without_timings_none_of_throughput() -> None:
    outcome = made_outcome(top1=None)
    for result in all_results(outcome):
        result.timing = None
    assert {name.split("-")[0] for name in drawn(page_of(outcome))} == {"cross_entropy", "agreement"}
    assert not [name for name in drawn(page_of(outcome)) if "images" in name]


def test_bases_front_and_winner_are_marked_and_every_limit_and_published_network_is_drawn() -> None:
    chart = drawn(page_of(made_outcome()))["cross_entropy-parameters"]
    assert [group["roles"] for group in chart["scatter"]] == [
        ["plain"],
        ["base", "base"],
        ["winner", "front", "plain"],
    ]
    assert [(line["at"], line["name"], line["source"]) for line in chart["lines"]] == [
        (19e6, "", 1),
        (16e6, "", 2),
        (16e6, "limit", None),
        (21_198_600.0, "TinyViT-21M", None),
    ], "TinyViT-5M is too far away from all points"


def test_bars_are_the_errors_by_which_candidates_are_ranked() -> None:
    chart = drawn(page_of(made_outcome()))["cross_entropy-parameters"]
    first = chart["scatter"][1]
    assert first["y"] == [1.51, 1.6]
    # The first one has two seeds, 0.02 apart: a variance of 0.0002 that is halved by the mean of two.
    assert first["errors"] == pytest.approx([math.hypot(0.01, 0.01), math.hypot(0.01, math.sqrt(0.0002))], rel=1e-5)


def test_the_tables_have_every_candidate_with_its_fate_and_the_way_to_the_winner() -> None:
    page = page_of(made_outcome())
    for result in all_results(made_outcome()):
        assert result.candidate.shape.name in page.text
        assert f"{result.costs.parameters:,}" in page.text
        assert result.out is None or result.out in page.text
    for text in ("where the search began", "widths[3] 576 → 544", "widths[2] 384 → 352", "winner", "900 (predicted)"):
        assert text in page.text
    other = made_outcome().rounds[1].ties[0][1]
    assert f"within two standard errors of the difference from that of {other}" in page.text


def test_the_table_of_rounds_counts_who_was_timed_predicted_and_refused() -> None:
    text = contraction_page(made_outcome(), {}, NOTHING_AROUND, "a search", "Made today.")
    rows = text.split('id="rounds"')[1].split("</section>")[0].split("<tr>")[2:]
    cells = [[cell.split(">")[1].split("<")[0] for cell in row.split("<t")[1:] if cell[0] in "hd"] for row in rows]
    assert cells == [
        ["1", "19,000,000", "950", "1", "3", "2", "1", "1", "0", "2", "2", "0"],
        ["2", "16,000,000", "1,300", "2", "3", "2", "0", "0", "1", "2", "2", "1"],
    ]


def test_the_page_is_well_formed_and_has_what_readers_of_screens_need() -> None:
    page = page_of(made_outcome())
    assert page.unclosed == []
    assert page.loads() == []
    assert len(page.of("caption")) == len(page.of("table")) > 3
    described = [each["aria-label"] or "" for each in page.of("div") if each.get("role") == "img"]
    assert len(described) == 9
    assert "round 1: 2 points, from 1.51 to 1.6, between 18,000,000 and 19,000,000" in described[0]
    assert "limit at 16,000,000" in described[0]
    names = {each["id"] for _, each in page.tags if "id" in each}
    assert {(each["href"] or "").removeprefix("#") for each in page.of("a")} <= names


def test_a_search_before_its_first_round_ends_and_one_without_winners_have_a_page() -> None:
    whole = made_outcome()
    for outcome in (replace(whole, rounds=[], winners=()), replace(whole, rounds=whole.rounds[:1], winners=())):
        page = page_of(outcome)
        assert page.unclosed == []
        assert "★" not in page.text
        assert set(drawn(page)) == (set(drawn(page_of(whole))) if outcome.rounds else set())


def test_a_score_that_is_not_finite_is_not_drawn_and_stands_in_no_mean() -> None:
    outcome = made_outcome(cross_entropy=math.inf)
    charts = contraction_charts(outcome, {})
    assert [len(points) for points in charts[0].points.values()] == [1, 1, 3]
    assert page_of(outcome).unclosed == []


@given(TEXTS, TEXTS)
def test_whatever_names_and_reasons_hold_they_make_no_tag(name: str, reason: str) -> None:
    outcome = made_outcome()
    moved = made_result(NARROWEST, 15e6, base=BASE, moves=(name,), cross_entropies=(), how=name, out=reason)
    outcome.rounds[1].results.append(moved)
    page = page_of(outcome, title=name, command=reason)
    assert page.loads() == []
    assert page.unclosed == []
    assert printable(name, lines=True) in page.text
    assert [attributes.get("id") for attributes, _ in page.scripts] == ["drawing"]
    assert all(OWN_TAGS.fullmatch(tag) for tag, _ in page.tags)


def test_the_page_is_written_whole_with_the_published_networks_of_its_family(tmp_path: Path) -> None:
    path = write_contraction_page(tmp_path, made_outcome())
    assert path == tmp_path / "contract.html"
    text = path.read_text()
    assert 1_000_000 < len(text) < 3_000_000
    for title in ("TinyViT-5M", "TinyViT-11M", "TinyViT-21M"):
        assert title in Page(text).text


def test_without_plotly_the_page_has_its_tables_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ConfigError("plotly is not installed", fix="pip install it")

    monkeypatch.setattr(module, "assets", refuse)
    page = Page(write_contraction_page(tmp_path, made_outcome()).read_text())
    assert "plotly was not installed" in page.text
    assert [attributes.get("id") for attributes, _ in page.scripts] == ["drawing"]
    assert "From the base to" in page.text
    (policy,) = [each["content"] or "" for each in page.of("meta") if each.get("http-equiv")]
    assert "script-src" not in policy
