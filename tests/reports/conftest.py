"""The browser in which pages are opened."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.reports.browser import Browser, browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened
