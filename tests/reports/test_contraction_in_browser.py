"""The page of a search in Chromium: points with their errors, limits and published networks; rounds can be hidden."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contraction.made_searches import made_outcome
from tests.reports.browser import Browser
from tinyvit_kd.reports.contraction_page import write_contraction_page

CHARTS = 9
PLACE = "document.querySelectorAll('[data-chart=cross_entropy-parameters] {}')"
POINTS, ERRORS = PLACE.format(".scatterlayer .point") + ".length", PLACE.format(".errorbar") + ".length"
LINES = PLACE.format(".shapelayer path") + ".length"
NAMES = f"[...{PLACE.format('.annotation-text')}].map((each) => each.textContent)"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_contraction_page(tmp_path_factory.mktemp("search"), made_outcome())


def test_every_point_has_its_error_and_every_limit_and_published_network_its_line(
    chromium: Browser, page: Path
) -> None:
    chromium.open(page)
    assert chromium.value("document.documentElement.dataset.drawn") == "yes"
    assert chromium.console == []
    assert [each for each in chromium.requests if not each.startswith("data:")] == [page.resolve().as_uri()]
    assert chromium.value("document.querySelectorAll('figure .main-svg').length") >= CHARTS
    assert chromium.value(POINTS) == chromium.value(ERRORS) == 1 + 2 + 3
    assert sorted(chromium.value(NAMES)) == ["TinyViT-11M", "TinyViT-21M", "limit"]
    assert chromium.value(LINES) == 2 + 3


def test_a_round_can_be_hidden_with_its_limit(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    chromium.value("document.querySelector('[data-source=\"2\"]').click()")
    chromium.wait_for(f"{POINTS} === 3")
    assert chromium.value(LINES) == 1 + 3
    chromium.value("document.querySelector('[data-all=on]').click()")
    chromium.wait_for(f"{POINTS} === 6")


def test_on_a_phone_and_on_paper_the_page_fits(chromium: Browser, page: Path) -> None:
    chromium.open(page, 360, 700, mobile=True)
    assert chromium.value("document.documentElement.scrollWidth") == 360
    paper = chromium.paper()
    assert paper.startswith(b"%PDF")
    assert b"/Subtype /Image" not in paper
