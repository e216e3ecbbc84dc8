"""What every page has around its content: head, title, links to its sections, and a foot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyvit_kd.reports.assets import Assets
from tinyvit_kd.reports.markup import Content, Html, data_block, element, joined

Part = tuple[str, str, Html]  # a section: its name in links, its title, its content


def framed(
    title: str,
    made: str,
    sections: Sequence[Part],
    around: Assets,
    data: Any,
    *,
    warning: Content = "",
    command: str = "",
) -> str:
    """A whole page.

    Args:
        title: of the page.
        made: what it is about, and when it was made.
        around: scripts, styles and policy (``assets.assets``).
        data: plain values for the page's script.
        warning: what has to be said before anything else.
        command: that makes this page again.
    """
    head = joined(
        Html('<meta charset="utf-8">'),
        around.head,
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
    )
    header = _header(title, made, sections, warning)
    body = joined(header, element("main", *map(_section, sections)), _footer(command))
    end = joined(data_block("drawing", data), around.scripts)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>{body}\n{end}</body></html>\n'


def _header(title: str, made: str, sections: Sequence[Part], warning: Content) -> Html:
    links = [element("li", element("a", shown, href=f"#{name}")) for name, shown, _ in sections]
    parts: list[Content] = [
        element("h1", title),
        element("p", made, class_="quiet"),
        element("nav", element("ul", *links), aria_label="Sections"),
    ]
    return element("header", *parts, *([element("div", warning, class_="warning")] if warning else []))


def _section(section: Part) -> Html:
    name, title, content = section
    return element("section", element("h2", title), content, id=name)


def _footer(command: str) -> Html:
    said: list[Content] = ["This file is complete in itself: it loads nothing, and can be mailed, printed or archived."]
    if command:
        said += [" Made by ", element("code", command), "."]
    return element("footer", element("p", *said))
