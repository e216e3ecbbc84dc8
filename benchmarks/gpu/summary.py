"""What is known so far, for people and for programs: written again after every step."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.gpu.json_files import read_json, write_json, write_text

JSON, MARKDOWN = "summary.json", "summary.md"
DONE, FAILED, TIMED_OUT, NOT_RUN, INTERRUPTED = "done", "failed", "timed out", "not run", "interrupted"
# Words in the name of a figure that is a ratio or a verdict: these travel from machine to machine.
RATIOS = {"equal", "mfu", "near", "over", "ratio", "ratios", "share", "speedup", "times", "utilisation", "utilization"}
FIGURES = 40  # of a step that the page shows; all are in the step's own file
Note = dict[str, Any]  # of a step: state, seconds, limit, why, when, command, log_tail, result


class Summary:
    """The state of a folder: what ran when and how it ended, with what came of it.

    Args:
        folder: of the results; what an earlier call wrote there is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        known = read_json(folder / JSON) or {}
        self.machine: Note = known.get("machine", {})
        self.steps: dict[str, Note] = known.get("steps", {})

    def note(self, name: str, note: Note) -> None:
        """Put in what is known of a step, in place of what was, and write both files.

        A step that was not run keeps the result of an earlier call.
        """
        if note["state"] != NOT_RUN or name not in self.steps:
            self.steps[name] = note
        self.write()

    def write(self) -> None:
        """Write both files."""
        write_json(self.folder / JSON, {"machine": self.machine, "steps": self.steps})
        write_text(self.folder / MARKDOWN, "\n".join(self._lines()) + "\n")

    def _lines(self) -> Iterator[str]:
        yield f"# {self.machine.get('gpu', 'Without a GPU')}"
        yield ""
        yield ", ".join(f"{name} {value}" for name, value in self.machine.items()) or "The machine was not looked at."
        yield from self._figures("Ratios and verdicts", ratios=True)
        yield from self._states()
        yield from self._figures("Other figures", ratios=False)
        yield from self._logs()

    def _figures(self, title: str, ratios: bool) -> Iterator[str]:
        yield from ("", f"## {title}", "", "| step | figure | value |", "|---|---|---|")
        for name, note in self.steps.items():
            result = note.get("result") or {}
            found = [(path, value) for path, value in flat(result) if is_ratio(path) == ratios]
            for path, value in found[:FIGURES]:
                yield f"| {name} | {path} | {_shown(value)} |"
            if len(found) > FIGURES:
                yield f"| {name} | {len(found) - FIGURES} more | see {name}.json |"

    def _states(self) -> Iterator[str]:
        yield from ("", "## Steps", "", "| step | state | seconds | when | |", "|---|---|---|---|---|")
        for name, note in self.steps.items():
            state = note["state"] + ", in small" * note.get("tiny", False)
            cells = (state, note.get("seconds", ""), note.get("when", ""), note.get("why", ""))
            yield f"| {name} | " + " | ".join(map(str, cells)) + " |"

    def _logs(self) -> Iterator[str]:
        for name, note in self.steps.items():
            if note.get("log_tail"):
                yield from ("", f"## The end of {name}.log", "", "```text", *note["log_tail"], "```")


def flat(value: Any, path: str = "") -> Iterator[tuple[str, float | str | bool]]:
    """Every number, verdict and short text of a result, by the path that leads to it, without lists and the machine."""
    if isinstance(value, dict):
        for name, part in value.items():
            if name != "machine":
                yield from flat(part, f"{path}, {name}" if path else str(name))
    elif isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) < 80 and "\n" not in value):
        yield path, value


def is_ratio(path: str) -> bool:
    """Whether a figure's name says that it is a ratio or a verdict."""
    return bool(RATIOS & set(re.split(r"[^a-z]+", path.lower())))


def _shown(value: float | str | bool) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "/")
