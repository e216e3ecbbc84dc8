"""A benchmark's cases, one after the other: what each found is kept at once, and one that fails is passed over."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import describe
from tinyvit_kd.runtime.files import write_json
from tinyvit_kd.runtime.foreign_errors import first_line_of

Figures = dict[str, Any]  # what one case found, as JSON has it
Summary = Callable[[dict[str, Figures]], Mapping[str, Any]]
LONGEST = 300  # characters of an error that are kept


class Cases:
    """The result of a benchmark while it grows.

    Args:
        settings: what was asked for, as JSON has it.
        device: whose memory is given back after each case.
        results: the file that is written whole after each case; None: none.
        summary: the ratios, from the figures of the cases that there are so far, by name.
    """

    def __init__(
        self, settings: Mapping[str, Any], device: torch.device, results: Path | None, summary: Summary
    ) -> None:
        self.machine, self.settings, self.device = describe(), dict(settings), device
        self.results, self.summary = results, summary
        self.done: dict[str, Figures] = {}
        self.failed: dict[str, str] = {}

    def run(self, name: str, work: Callable[[], Figures]) -> Figures | None:
        """A case's figures; None where it failed, which is noted. Either way the file is written."""
        found: Figures | None = self.attempt(name, work)
        if found is not None:
            self.done[name] = found
        self._write()
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()  # other shapes would be compiled anew, and after some of them not at all
        release(self.device)
        return found

    def keep(self, name: str, found: Figures) -> None:
        """Write what a case has found so far; it stays if the case then fails, or if all is killed."""
        self.done[name] = found
        self._write()

    def attempt(self, name: str, work: Callable[[], Any]) -> Any:
        """What a part of a case returns, or None where it fails: out of memory, or an error of the compiler's.

        The error is not kept, since its frames would keep the memory that was too little.
        """
        try:
            return work()
        except Exception as error:  # torch, compilers and drivers raise errors of many kinds
            self.failed[name] = f"{type(error).__name__}: {first_line_of(error)}"[:LONGEST]
        finally:
            release(self.device)
        print(f"failed: {name}: {self.failed[name]}", flush=True)
        return None

    @property
    def result(self) -> dict[str, Any]:
        """Machine, settings, ratios; then the cases, and what failed."""
        return {
            "machine": self.machine,
            "device": self.device.type,
            "settings": self.settings,
            **self.summary(self.done),
            "cases": self.done,
            "failed": self.failed,
        }

    def _write(self) -> None:
        if self.results is not None:
            self.results.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.results, self.result)

    def end(self) -> None:
        """Write the result, and print it as the last line."""
        self._write()
        print(json.dumps(self.result), flush=True)


def release(device: torch.device) -> None:
    """Give back what is no longer used: networks that refer to themselves, and memory that torch keeps."""
    gc.collect()
    if device.type == "cuda":
        with suppress(RuntimeError):  # a device that an error has made unusable says so again in the next case
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
