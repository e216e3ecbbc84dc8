"""Whatever a name or a value is, it stays a text: nothing in it becomes a tag, an attribute or the end of a script."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from tests.reports.reading import Page
from tinyvit_kd.reports.markup import Html, data_block, element, facts, plain, table
from tinyvit_kd.runtime.wording import printable

NASTY = st.sampled_from(
    [
        "<script>alert(1)</script>",
        "</script><script>alert(1)</script>",
        '" onmouseover="alert(1)',
        "' onload='alert(1)",
        "<img src=x onerror=alert(1)>",
        "<!-- ",
        "]]>",
        "&lt;b&gt;",
        "javascript:alert(1)",
        "<td>",
        "<td class='best'>9</td>",
        "\u202eevil",
        "a\x00b\x1b[31m",
        "\ud800",
    ]
)
TEXTS = st.text() | NASTY | st.tuples(st.text(), NASTY).map("".join)


@given(TEXTS)
def test_a_text_is_shown_as_it_is_but_for_what_does_not_print(text: str) -> None:
    page = Page(element("p", text))
    assert page.tags == [("p", {})]
    assert page.text == printable(text, lines=True)


@given(TEXTS)
def test_an_attribute_keeps_its_value_and_makes_no_other(text: str) -> None:
    page = Page(element("div", class_=text, title=text))
    assert page.tags == [("div", {"class": printable(text), "title": printable(text)})]


@given(TEXTS, TEXTS, TEXTS)
def test_a_table_of_texts_has_no_tags_but_its_own(caption: str, head: str, cell: str) -> None:
    page = Page(table(caption, [head, head], [[cell, cell]]))
    inside = ["thead", "tr", "th", "th", "tbody", "tr", "th", "td"]
    assert [name for name, _ in page.tags] == ["div", "table", "caption", "span", *inside]
    assert page.of("div")[0]["aria-label"] == printable(caption)
    assert not page.unclosed


TREES = st.recursive(
    TEXTS | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(TREES)
def test_data_for_the_script_comes_back_whole_and_cannot_end_its_block(value: object) -> None:
    page = Page(data_block("drawing", value))
    ((attributes, content),) = page.scripts
    assert attributes == {"type": "application/json", "id": "drawing"}
    assert json.loads(content) == value
    assert page.text == ""


def test_empty_facts_are_left_out() -> None:
    page = Page(facts([("Known", "yes"), ("Unknown", "")]))
    assert page.text == "Knownyes"


@given(TEXTS)
def test_an_element_is_read_back_as_its_text(text: str) -> None:
    assert plain(element("b", text)) == printable(text, lines=True)
    assert plain(text) == text


def test_attributes_of_the_page_itself() -> None:
    assert element("input", type="checkbox", checked=True, hidden=False, data_source=3) == Html(
        '<input type="checkbox" checked data-source="3">'
    )
