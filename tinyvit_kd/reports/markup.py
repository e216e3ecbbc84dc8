"""HTML in which whatever comes from a run or a store stays text.

Elements are made by ``element``, which escapes every text that is not ``Html`` already; no page is put together from
strings elsewhere. Names and values come from whoever made a run, so nothing in them may become a tag or an attribute.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any

from tinyvit_kd.runtime.wording import printable

_WITHOUT_END = frozenset({"img", "input", "meta", "br"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | Html


def escaped(text: str) -> Html:
    """A text as HTML that shows it: markup is escaped, and so are characters that do not print."""
    return text if isinstance(text, Html) else Html(html.escape(printable(text, lines=True), quote=True))


def element(tag: str, *children: Content, **attributes: str | int | bool | None) -> Html:
    """An element.

    Args:
        tag: its name.
        children: texts, which are escaped, and elements.
        attributes: a last ``_`` in a name is dropped, others become ``-`` (``class_``, ``aria_label``). True stands for
            an attribute without a value; None and False leave it out.
    """
    begin = f"<{tag}{''.join(_attribute(*each) for each in attributes.items())}>"
    return Html(begin if tag in _WITHOUT_END else f"{begin}{joined(*children)}</{tag}>")


def joined(*parts: Content, by: str = "") -> Html:
    """Texts and elements after each other."""
    return Html(escaped(by).join(map(escaped, parts)))


def _attribute(name: str, value: str | int | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = name.removesuffix("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(printable(str(value)), quote=True)}"'


def data_block(name: str, value: Any) -> Html:
    """Plain data for the page's script, in a block that no browser runs.

    Nothing in it can end the block: ``<``, ``>`` and ``&`` are written as their numbers, which JSON reads as the same.
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="{name}">{text}</script>')


def table(
    caption: Content,
    head: Sequence[Content],
    rows: Sequence[Sequence[Content]],
    *,
    numbers: Sequence[int] = (),
) -> Html:
    """A table with a caption, in a box that scrolls by itself where the table is wider than the page.

    Args:
        caption: what the table shows; also the name of the box.
        head: headings of the columns.
        rows: cells; the first of each row is its heading. A cell that is a ``td`` already stays as it is.
        numbers: columns whose cells are aligned on the right.
    """
    headings = [
        element("th", cell, scope="col", class_="number" if n in numbers else None) for n, cell in enumerate(head)
    ]
    body = [element("tr", *(_cell(cell, number, numbers) for number, cell in enumerate(row))) for row in rows]
    inner = element(
        "table",
        element("caption", element("span", caption)),
        element("thead", element("tr", *headings)),
        element("tbody", *body),
    )
    return element("div", inner, class_="scroll", tabindex=0, role="region", aria_label=plain(caption))


def _cell(cell: Content, number: int, numbers: Sequence[int]) -> Html:
    if isinstance(cell, Html) and cell.startswith("<td"):
        return cell
    if number == 0:
        return element("th", cell, scope="row")
    return element("td", cell, class_="number" if number in numbers else None)


def facts(rows: Sequence[tuple[str, Content]]) -> Html:
    """A list of terms and what they are; those that are empty are left out."""
    pairs = [joined(element("dt", term), element("dd", said)) for term, said in rows if said]
    return element("dl", *pairs)


def folded(summary: Content, *inside: Content, long: bool = False) -> Html:
    """Something that opens on a click, and is open on paper unless it is long and was shut."""
    return element("details", element("summary", summary), *inside, class_="long" if long else None)


def plain(content: Content) -> str:
    """The text of some content, for an attribute."""
    if not isinstance(content, Html):
        return content
    text, inside = [], False
    for character in content:
        inside = character == "<" or (inside and character != ">")
        if not inside and character != ">":
            text.append(character)
    return html.unescape("".join(text))
