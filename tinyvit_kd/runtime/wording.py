"""Numbers in the words of messages."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A duration in its two largest units: ``45 s``, ``3 min 20 s``, ``18 h 5 min``, ``2 d 4 h``."""
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
