"""Reads a page as a browser would: tags, attributes and texts, and what would be loaded."""

from __future__ import annotations

from html.parser import HTMLParser

LOADING = {"src", "srcset", "href", "data", "poster", "action", "formaction", "background", "xlink:href", "ping"}
WITHOUT_END = {"img", "input", "meta", "br", "link", "hr"}


class Page(HTMLParser):
    """A page that was parsed.

    Attributes:
        tags: (name, attributes) in order.
        texts: all that is shown, piece by piece; what is in scripts and styles is not.
        scripts: (attributes, content) of scripts.
        unclosed: names of tags that were opened and not closed in order.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.unclosed: list[str] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.unclosed += self._open

    @property
    def text(self) -> str:
        """All that is shown, in one piece."""
        return "".join(self.texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        if tag not in WITHOUT_END:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Note the end of a tag."""
        if self._open and self._open[-1] == tag:
            self._open.pop()
        else:
            self.unclosed.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if self._open and self._open[-1] == "script":
            attributes, before = self.scripts[-1]
            self.scripts[-1] = attributes, before + data
        elif not self._open or self._open[-1] != "style":
            self.texts.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all tags of one name."""
        return [attributes for name, attributes in self.tags if name == tag]

    def loads(self) -> list[str]:
        """What the page would load, or lead to, besides itself and what it holds."""
        values = [value or "" for _, each in self.tags for name, value in each.items() if name in LOADING]
        return [value for value in values if not value.startswith(("#", "data:image/"))]

    def handlers(self) -> list[str]:
        """Attributes that run scripts."""
        return [name for _, attributes in self.tags for name in attributes if name.startswith("on")]
