"""The page in Chromium: it draws its curves, they can be switched off, it prints, and fits on a phone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.reports.browser import Browser
from tests.reports.made_runs import RECIPE, write_run
from tinyvit_kd.stages.report import report

LINES = "document.querySelectorAll('.scatterlayer .js-line').length"
EVIL = "<img src=x onerror=alert(1)><b>bold</b>"
CHARTS, RUNS = 9, 3


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a short run, a long one and one with a hostile name, which is under way."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "short")
    write_run(folder / "long", lines=2000, total=20_000, recipe={**RECIPE, "optim": {"base_lr": 0.004}})
    write_run(folder / EVIL.replace("/", "\\"), finished=False, tail='{"kind": "train", "st')
    report([str(folder)], folder / "report.html")
    return folder / "report.html"


def check(chromium: Browser, selector: str, on: bool) -> None:
    """Set a box of the page, as a click does."""
    chromium.value(
        f"(() => {{ const box = document.querySelector('{selector}'); if (box.checked !== {str(on).lower()}) "
        "box.click(); })()"
    )


def choose(chromium: Browser, name: str, value: str) -> None:
    """Choose an entry of a list of the page."""
    chromium.value(
        f"(() => {{ const list = document.getElementById('{name}'); list.value = '{value}'; "
        "list.dispatchEvent(new Event('change')); })()"
    )


def test_the_page_draws_a_curve_for_each_figure_of_each_run(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    assert chromium.value("document.documentElement.dataset.drawn") == "yes"
    assert chromium.value("document.querySelectorAll('figure .main-svg').length") >= CHARTS
    assert chromium.value("document.querySelectorAll('[data-chart]').length") == CHARTS
    # A long run has two more lines in a chart of training: the edges of its band.
    bands = chromium.value(
        "Object.values(JSON.parse(document.getElementById('drawing').textContent).charts)"
        ".flatMap((chart) => chart.curves).filter((curve) => curve.low).length"
    )
    assert chromium.value(LINES) == CHARTS * RUNS + 2 * bands
    assert bands > 0
    assert chromium.value("[...document.querySelectorAll('.js-line')].every((line) => line.getTotalLength() > 0)")


def test_nothing_is_wrong_by_the_browsers_own_word_and_nothing_was_asked_for(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    assert chromium.console == []
    assert [each for each in chromium.requests if not each.startswith("data:")] == [page.resolve().as_uri()]


def test_the_policy_keeps_what_is_not_the_pages_own_from_running(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    chromium.console.clear()
    chromium.value(
        "(() => { const script = document.createElement('script'); script.textContent = 'window.ran = 1'; "
        "document.head.append(script); const image = new Image(); image.src = 'https://example.org/x.png'; })()"
    )
    assert chromium.value("window.ran === undefined")
    chromium.wait_for("true")
    assert len([each for each in chromium.console if "Content Security Policy" in each]) == 2


def test_a_name_with_markup_is_shown_as_it_is(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    shown = chromium.value("[...document.querySelectorAll('tbody .run-name')].map((name) => name.textContent)")
    assert EVIL.replace("/", "\\") in shown
    assert chromium.value("document.querySelectorAll('img').length") == 0


def test_a_run_can_be_switched_off_and_on_in_all_charts(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    before = chromium.value(LINES)
    check(chromium, '[data-source="0"]', on=False)
    chromium.wait_for(f"{LINES} < {before}")
    assert chromium.value(LINES) <= before - CHARTS
    check(chromium, '[data-source="0"]', on=True)
    chromium.wait_for(f"{LINES} === {before}")
    chromium.value("document.querySelector('[data-all=off]').click()")
    chromium.wait_for(f"{LINES} === 0")
    assert chromium.value("document.querySelectorAll('figure.nothing').length") == CHARTS


def test_curves_stand_along_steps_epochs_or_time(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    title = "document.querySelector('.plot .xtitle').textContent"
    assert chromium.value(title) == "step"
    choose(chromium, "axis", "epoch")
    chromium.wait_for(f"{title} === 'epoch'")
    choose(chromium, "axis", "hours")
    chromium.wait_for(f"{title} === 'hours in training'")


def test_the_vertical_axis_can_be_logarithmic_and_noisy_curves_smoothed(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    check(chromium, "#log", on=True)
    chromium.wait_for("document.querySelector('[data-chart=train-loss]')._fullLayout.yaxis.type === 'log'")
    before = chromium.value(LINES)
    choose(chromium, "smooth", "9")
    chromium.wait_for(f"{LINES} !== {before}")
    assert chromium.console == []


def test_on_a_phone_only_boxes_of_their_own_scroll_sideways(chromium: Browser, page: Path) -> None:
    for width in (320, 390):
        chromium.open(page, width, 700, mobile=True)
        assert chromium.value("document.documentElement.scrollWidth") == width
        assert chromium.value("document.body.scrollWidth") <= width
        wide = chromium.value(
            "[...document.querySelectorAll('figure, p, h1, h2, dl, .scroll')].filter((each) => "
            "each.getBoundingClientRect().right > innerWidth + 1).length"
        )
        assert wide == 0


def test_drawings_follow_the_width_of_the_window(chromium: Browser, page: Path) -> None:
    chromium.open(page, 1280)
    width = "document.querySelector('.main-svg').width.baseVal.value"
    before = chromium.value(width)
    chromium.resize(500, 900)
    chromium.wait_for(f"{width} !== {before}")
    assert chromium.value("document.documentElement.scrollWidth") <= 500


def test_the_page_prints_on_few_sheets_with_its_curves_as_lines(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    paper = chromium.paper()
    assert paper.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", paper)) <= 10
    assert b"/Subtype /Image" not in paper, "curves are drawn, not pictures of them"


def test_in_the_dark_text_and_grid_change_and_the_paper_stays_white(chromium: Browser, page: Path) -> None:
    chromium.open(page)
    light = chromium.value("getComputedStyle(document.querySelector('.plot .xtick text')).fill")
    try:
        chromium.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        assert chromium.value("getComputedStyle(document.querySelector('.plot .xtick text')).fill") != light
        chromium.send(
            "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
        )
        assert chromium.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    finally:
        chromium.send("Emulation.setEmulatedMedia", media="", features=[])
