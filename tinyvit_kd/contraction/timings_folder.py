"""Measured throughput as files: one for each shape, in a folder for each machine and setting, written whole, once.

::

    timings/1f0c2a9e4b7d/setting.json     the machine and how it was measured
    timings/1f0c2a9e4b7d/w64-….json       a shape's throughput there
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tinyvit_kd.contraction.cost_model import Features
from tinyvit_kd.contraction.records import Timing
from tinyvit_kd.runtime.files import atomic_create, atomic_write, read_small_json

_SETTING = "setting.json"


@dataclass(frozen=True)
class Known:
    """The measured throughput of a shape.

    Attributes:
        base: name of the shape in turns with which it was timed.
    """

    base: str
    timing: Timing
    features: Features

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.timing.images_per_second


class TimingsFolder:
    """The timings of one setting.

    Args:
        folder: of all settings; it is made by the first timing.
        setting: all that throughput depends on besides the shape, as JSON has it.
    """

    def __init__(self, folder: Path, setting: dict[str, Any]) -> None:
        self._setting = _json(setting)
        self._folder = folder / hashlib.sha256(self._setting).hexdigest()[:12]

    def read(self, shape: str) -> Known | None:
        """The throughput of a shape, by name; None where there is none that can be read."""
        values = read_small_json(self._path(shape))
        try:
            known = Known(values["base"], Timing(**values["timing"]), Features(**values["features"]))
            is_whole = all(0 < each < math.inf for each in (known.rate, *known.features.row))
        except (KeyError, TypeError):  # of a file that was damaged
            return None
        return known if is_whole else None

    def read_all(self) -> dict[str, Known]:
        """All that is known, by name of the shape, in the order of names."""
        names = sorted(path.stem for path in self._folder.glob("*.json") if path.name != _SETTING)
        found = {name: self.read(name) for name in names}
        return {name: known for name, known in found.items() if known is not None}

    def write(self, shape: str, known: Known) -> Known:
        """Write a throughput, unless another process has come first.

        Returns:
            the one that stands.
        """
        atomic_create(self._folder / _SETTING, self._setting)
        content = _json(asdict(known))
        if not atomic_create(self._path(shape), content):
            found = self.read(shape)
            if found is not None:
                return found
            atomic_write(self._path(shape), content)
        return known

    def _path(self, shape: str) -> Path:
        return self._folder / f"{shape}.json"


def _json(values: dict[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()
