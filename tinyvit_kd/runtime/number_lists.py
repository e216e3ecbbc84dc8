"""Lists of numbers, as options have them: ``0-3``, ``0,2,5-7``."""

from __future__ import annotations

_DIGITS = 9  # a number of a million digits is not worth its conversion


def listed_numbers(text: str, count: int) -> list[int] | None:
    """The numbers in a list, each once, in its order; None if it is no list of numbers from 0 to ``count - 1``.

    A range whose larger number is first has no numbers.
    """
    numbers: dict[int, None] = {}
    for part in text.split(","):
        ends = _ends(part)
        if ends is None or not all(number < count for number in ends):
            return None
        numbers.update(dict.fromkeys(range(ends[0], ends[1] + 1)))
    return list(numbers)


def is_number_or_range(text: str) -> bool:
    """Whether a text is a number or a range of numbers, such as ``7`` or ``0-99``."""
    return _ends(text) is not None


def _ends(part: str) -> tuple[int, int] | None:
    first, dash, last = (each.strip() for each in part.partition("-"))
    ends = [first, last] if dash else [first, first]
    if not all(_is_number(end) for end in ends):
        return None
    return int(ends[0]), int(ends[1])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _DIGITS
