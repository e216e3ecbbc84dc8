"""Values in the words of a page."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any, TypeGuard

from tinyvit_kd.reports.figures import Figure

_LARGEST = 10**300  # beyond which a whole number is no float


def moment(seconds: Any) -> str:
    """A Unix time as a date and time of the day, UTC; empty for what is none."""
    if not is_number(seconds):
        return ""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, OSError, ValueError):
        return ""


def measured(value: Any, shown: Figure) -> str:
    """A figure with its unit, in as many digits as mean something."""
    if not is_number(value):
        return "–"
    value = value * shown.factor
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    return number(value) if shown.unit != "%" else f"{value:.2f} %"


def number(value: float) -> str:
    """A number: whole ones with commas, others in four digits."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of JSON or YAML is a number."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, float) or (is_whole and abs(value) < _LARGEST)


def said(value: Any) -> str:
    """A value of a recipe, as YAML and JSON would write it."""
    if value is None:
        return "null"
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
