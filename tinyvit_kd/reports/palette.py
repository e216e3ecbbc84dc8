"""How runs and stores are told apart: by colour, by dashes and by the marks of single points.

Colours are Okabe's and Ito's, which people with any kind of colour blindness can tell apart
(https://jfly.uni-koeln.de/color/), without black and yellow, which do not show on one of a dark and a light page.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyvit_kd.reports.markup import Html, element

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("", "7,3", "2,3", "9,3,2,3", "14,4", "12,3,2,3,2,3")  # lengths in pixels; the first is a whole line
MARKS = ("circle", "square", "diamond", "triangle-up", "cross", "x")


@dataclass(frozen=True)
class Style:
    """How the curves of one run or store look.

    Attributes:
        colour: as in CSS.
        dashes: lengths of dashes and gaps in pixels; empty for a whole line.
        mark: plotly's name of the mark that stands at a point.
    """

    colour: str
    dashes: str
    mark: str


def style(number: int) -> Style:
    """The style of the run with this number; 36 differ from each other."""
    turn = number // len(COLOURS)
    shape = (number + turn) % len(DASHES)
    return Style(COLOURS[number % len(COLOURS)], DASHES[shape], MARKS[shape])


def swatch(look: Style) -> Html:
    """A short piece of line in a style, for tables and controls. It says nothing that the name beside it does not."""
    line = element("path", d="M1 6H31", stroke=look.colour, stroke_width=3, stroke_dasharray=look.dashes or None)
    return element("svg", line, viewBox="0 0 32 12", class_="swatch", aria_hidden="true")
