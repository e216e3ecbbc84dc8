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
RATIOS = {"busy", "equal", "kept", "linear", "mfu", "near", "over", "possible", "ratio", "ratios", "share", "wait"}
FIGURES = 12  # of one part of a result that the page shows; all are in the step's own file
NO_FIGURES = ("machine", "settings")  # parts of a result
CASES = "cases"
Figure = tuple[str, float | str | bool]  # its path, and what it is
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
            for part, figures in parts(note.get("result") or {}, ratios):
                for path, value in figures[:FIGURES]:
                    yield f"| {name} | {_shown(path)} | {_shown(value)} |"
                if len(figures) > FIGURES:
                    yield f"| {name} | {part}: {len(figures) - FIGURES} more | see {name}.json |"

    def _states(self) -> Iterator[str]:
        yield from ("", "## Steps", "", "| step | state | seconds | when | |", "|---|---|---|---|---|")
        for name, note in self.steps.items():
            state = note["state"] + ", in small" * note.get("tiny", False)
            cells = (state, note.get("seconds", ""), note.get("when", ""), note.get("why", ""))
            yield f"| {name} | " + " | ".join(map(_shown, cells)) + " |"

    def _logs(self) -> Iterator[str]:
        for name, note in self.steps.items():
            if note.get("log_tail"):
                yield from ("", f"## The end of {name}.log", "", "```text", *note["log_tail"], "```")


def parts(result: dict[str, Any], ratios: bool) -> Iterator[tuple[str, list[Figure]]]:
    """The ratios and verdicts of a result, or all other figures, by its parts.

    Ratios of single cases are left out where the result repeats them beside its cases.
    """
    found = {name: list(flat(part, name)) for name, part in result.items() if name not in NO_FIGURES}
    kept = {name: [each for each in figures if is_ratio(each[0]) == ratios] for name, figures in found.items()}
    if ratios and any(figures for name, figures in kept.items() if name != CASES):
        kept.pop(CASES, None)
    yield from kept.items()


def flat(value: Any, path: str) -> Iterator[Figure]:
    """Every number, verdict and short text in a value, without lists, by the path that leads to it."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from flat(part, f"{path}, {name}")
    elif isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) < 80 and "\n" not in value):
        yield path, value


def is_ratio(path: str) -> bool:
    """Whether a figure's name says that it is a ratio or a verdict."""
    return bool(RATIOS & set(re.split(r"[^a-z]+", path.lower())))


def _shown(value: float | str | bool) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "/").replace("\n", " ")
