"""A page loads nothing, runs no script but its own, and shows what strangers wrote as text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reports.made_runs import RECIPE, write_run
from tests.reports.reading import Page
from tests.reports.test_markup import TEXTS
from tinyvit_kd.analysis.jobs.run_folder import RunFolder, read_run
from tinyvit_kd.analysis.jobs.run_status import RunStatus
from tinyvit_kd.reports.assets import Assets, assets
from tinyvit_kd.reports.content import Picture, Report, ReportedRun, ReportedStore
from tinyvit_kd.reports.html_page import html_page
from tinyvit_kd.reports.markup import Html
from tinyvit_kd.runtime.wording import printable

OWN_TAGS = re.compile(
    "html|head|body|main|header|footer|nav|section|title|meta|script|noscript|h[1-4]|p|ul|li|a|div|span|b|code|pre|dl|dt|dd|"
    "table|caption|thead|tbody|tr|th|td|details|summary|figure|figcaption|svg|path|input|button|select|option|label|"
    "fieldset|legend"
)
NOTHING_AROUND = Assets(Html(""), Html(""))


def report_of(*runs: RunFolder, state: str = "finished", **parts: Any) -> Report:
    reported = (
        ReportedRun(f"run {number}", run, RunStatus(str(run.path), state=state)) for number, run in enumerate(runs)
    )
    return Report("a title", "Made today.", tuple(reported), **parts)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of two runs and a store."""
    folder = tmp_path_factory.mktemp("runs")
    other = {**RECIPE, "optim": {"base_lr": 0.004, "weight_decay": 0.05}}
    runs = read_run(write_run(folder / "a")), read_run(write_run(folder / "b", recipe=other))
    sheet = Picture("2 samples", "A dog and a cat.", b"\xff\xd8not really", "image/jpeg", (600, 400))
    return html_page(report_of(*runs, stores=(ReportedStore("store", "/store", pictures=(sheet,)),)), assets())


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    parsed = Page(page)
    assert parsed.loads() == []
    assert not parsed.of("link") + parsed.of("iframe") + parsed.of("object") + parsed.of("base") + parsed.of("form")
    style = re.search("<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    packed = {"plotly"}
    assert not [text for attributes, text in parsed.scripts if attributes.get("id") not in packed and "http" in text]


def test_the_policy_allows_these_scripts_and_no_others(page: str) -> None:
    parsed = Page(page)
    (policy,) = [
        each["content"] or "" for each in parsed.of("meta") if each.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'; ")
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert rules["img-src"] == "data:"
    (own,) = [text for attributes, text in parsed.scripts if not attributes]
    allowed = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
    assert f"'sha256-{allowed}'" in rules["script-src"].split()
    assert len(rules["script-src"].split()) == 2, "its own, and plotly's when it is unpacked"
    assert "unsafe" not in rules["script-src"]
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_a_page_is_well_formed_and_has_what_readers_of_screens_need(page: str) -> None:
    parsed = Page(page)
    assert parsed.unclosed == []
    assert parsed.of("html")[0]["lang"] == "en"
    assert [each.get("alt") for each in parsed.of("img")] == ["2 samples", "A dog and a cat."][1:]
    assert len(parsed.of("caption")) == len(parsed.of("table")) > 1
    assert all(each.get("aria-label") for each in parsed.of("div") if each.get("role"))
    names = [each["id"] for _, each in parsed.tags if "id" in each]
    assert len(names) == len(set(names))
    levels = [int(name[1]) for name, _ in parsed.tags if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_chart_has_its_data_and_every_link_its_place(page: str) -> None:
    parsed = Page(page)
    (data,) = [json.loads(text) for attributes, text in parsed.scripts if attributes.get("id") == "drawing"]
    assert {each["data-chart"] for each in parsed.of("div") if "data-chart" in each} == set(data["charts"])
    names = {each["id"] for _, each in parsed.tags if "id" in each}
    assert {(each["href"] or "").removeprefix("#") for each in parsed.of("a")} <= names


def test_the_page_is_of_a_size_that_can_be_mailed(page: str) -> None:
    assert 1_000_000 < len(page) < 3_000_000


KEYS = st.sampled_from(["kind", "name", "<b>", "a.b", '"', "stage", "shards", "store", "loss"])
TREES = st.recursive(
    TEXTS | st.integers() | st.floats() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(
    name=TEXTS,
    recipes=st.lists(st.dictionaries(KEYS | TEXTS, TREES, max_size=4), min_size=2, max_size=2),
    results=st.dictionaries(
        st.sampled_from(["commands", "machine", "versions", "data", "stores", "student", "started", "seconds"]), TREES
    ),
    figures=st.dictionaries(TEXTS, st.integers() | st.floats(), max_size=3),
)
def test_whatever_a_run_holds_it_makes_no_tag_and_no_handler(
    name: str, recipes: list[dict[str, Any]], results: dict[str, Any], figures: dict[str, float]
) -> None:
    line = {**figures, "time": 1.0, "kind": name, "step": 3}
    runs = [
        RunFolder(Path("run"), recipe, (line,), 0, {"top1": 1.0, **figures}, {"figures": {}, **results})
        for recipe in recipes
    ]
    reported = tuple(
        ReportedRun(f"{name}{number}", run, RunStatus("run", state="failed", message=name), (), (name,))
        for number, run in enumerate(runs)
    )
    stores = (ReportedStore(name, name, ((name, name),), notes=(name,)),)
    parsed = Page(html_page(Report(name, name, reported, stores, ((name, name),), name), NOTHING_AROUND))
    assert parsed.loads() == []
    assert parsed.handlers() == []
    assert [attributes.get("id") for attributes, _ in parsed.scripts] == ["drawing"]
    assert parsed.unclosed == []
    assert printable(name, lines=True) in parsed.text
    assert all(OWN_TAGS.fullmatch(tag) for tag, _ in parsed.tags)


def test_values_other_than_the_first_are_marked_and_equal_fields_are_not_listed(page: str) -> None:
    marked = re.findall(r'<td class="other">([^<]*)</td>', page)
    assert marked == ["0.004"]
    assert "1 field that all recipes have differ" in page
    assert "optim.weight_decay" not in re.sub("<pre>.*?</pre>", "", page, flags=re.DOTALL)


def test_the_best_of_several_runs_is_marked_and_a_lone_one_is_not(tmp_path: Path) -> None:
    runs = [read_run(write_run(tmp_path / name)) for name in "ab"]
    worse = RunFolder(Path("c"), RECIPE, runs[0].lines, 0, {**(runs[0].summary or {}), "top1": 12.0})
    assert html_page(report_of(runs[0], worse), NOTHING_AROUND).count("ranked best") == 3 + 2, (
        "top-5 and per class are tied"
    )
    assert html_page(report_of(runs[0]), NOTHING_AROUND).count("ranked best") == 0
