"""Numbers in the words of messages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import islice


def duration(seconds: float) -> str:
    """A duration in its two largest units: ``45 s``, ``3 min 20 s``, ``18 h 5 min``, ``2 d 4 h``."""
    if not math.isfinite(seconds):  # of a file that somebody has changed
        return "an unknown time"
    left = round(seconds)
    lengths = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    first = next((number for number, length in enumerate(lengths.values()) if left >= length), len(lengths) - 1)
    parts: list[str] = []
    for name, length in list(lengths.items())[first : first + 2]:
        count, left = divmod(left, length)
        parts.append(f"{count} {name}" if count or not parts else "")
    return " ".join(part for part in parts if part)


def counted(count: int, noun: str) -> str:
    """A number with its noun: ``1 process``, ``8 processes``."""
    return f"{count:,} {noun if count == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """The plural of a noun: ``views``, ``processes``, ``batches``."""
    return f"{noun}es" if noun.endswith(("s", "ch")) else f"{noun}s"


def first_few(words: Iterable[object], count: int) -> str:
    """The first words of many, with commas between them, and an ellipsis where there are more."""
    few = list(islice(words, count + 1))
    return ", ".join(map(str, few[:count])) + (", …" if len(few) > count else "")


def printable(text: str, *, lines: bool = False) -> str:
    """A text that cannot control the terminal: names come from whoever made a store or a tar.

    Args:
        lines: keep line breaks, as in a message of several lines.
    """
    return "".join(each if each.isprintable() or (lines and each == "\n") else ascii(each)[1:-1] for each in text)


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Rows of text in columns, two spaces apart.

    Args:
        rows: cells; a row may lack its last ones.
        right: numbers of the columns that are aligned on the right, as figures are.
    """
    columns = max(map(len, rows), default=0)
    widths = [max((len(row[column]) for row in rows if column < len(row)), default=0) for column in range(columns)]
    return "\n".join(
        "  ".join(
            cell.rjust(widths[column]) if column in right else cell.ljust(widths[column])
            for column, cell in enumerate(row)
        ).rstrip()
        for row in rows
    )


def binary_size(count: float) -> str:
    """A number of bytes in its largest unit: ``812 B``, ``1.5 KiB``, ``196 GiB``, ``1.2 TiB``."""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    power = 0
    while power < len(units) - 1 and count >= 999.5:
        count /= 1024
        power += 1
    digits = 0 if power == 0 or count >= 99.95 else 1
    return f"{count:,.{digits}f} {units[power]}"
