"""Steps one after the other within a budget of time; whatever happens to one, the next has its turn."""

from __future__ import annotations

import datetime
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.json_files import last_object, read_json, write_json
from benchmarks.gpu.running import REPOSITORY, Outcome, run
from benchmarks.gpu.steps import SETUP, Step
from benchmarks.gpu.summary import DONE, FAILED, INTERRUPTED, NOT_RUN, TIMED_OUT, Note, Summary
from tinyvit_kd.errors import ConfigError

RESERVE = 5.0  # seconds of the budget that are kept for killing the last step and writing the summary
LOOK_LIMIT = 180.0  # seconds that it may take to import torch for the first time
LOG_LINES = 15
ARCHIVE_BYTES = 12 << 20  # what carries an archive may refuse a larger one, and then nothing would come back
Look = Callable[["Series", float], Note]


@dataclass(frozen=True)
class Settings:
    """How steps are run.

    Attributes:
        folder: for results.
        device: cuda or cpu.
        tiny: in small, to rehearse.
        minutes: of all steps together.
        options: of the whole command, by name, for those steps that take them.
        site: folder of installed packages, which comes first on the path.
        archive: a file that takes all of ``folder`` after each step.
    """

    folder: Path
    device: str
    tiny: bool
    minutes: float
    options: dict[str, Path]
    site: Path
    archive: Path | None = None

    def environment(self, temporary: str) -> dict[str, str]:
        """Of a step: packages that were installed, then the tree; what is printed is written at once.

        Args:
            temporary: folder for its temporary files. What torch compiles is kept beyond the step.
        """
        path = [str(self.site), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
        return {
            "TORCHINDUCTOR_CACHE_DIR": str(self.site.parent / "inductor"),
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": temporary,
        }

    def run(self, module: str, arguments: Sequence[str], limit: float, log: Path) -> Outcome:
        """Run a module in a process of its own, and remove the temporary files that it left, killed or not."""
        command = [sys.executable, "-m", module, *arguments]
        with tempfile.TemporaryDirectory(prefix="tinyvit-kd-gpu-", ignore_cleanup_errors=True) as temporary:
            return run(command, limit, log, self.environment(temporary))


class Series:
    """Runs steps in order of worth.

    Args:
        settings: how.
        look: what finds out about the machine; ``look_at_machine`` if not given.
    """

    def __init__(self, settings: Settings, look: Look | None = None) -> None:
        self.settings, self.look = settings, look or look_at_machine
        self.deadline = time.monotonic() + 60 * settings.minutes - RESERVE
        settings.folder.mkdir(parents=True, exist_ok=True)
        self.summary = Summary(settings.folder)

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self.deadline - time.monotonic()

    def run(self, steps: Sequence[Step]) -> bool:
        """Run these steps; whether all that ran ended well.

        Raises:
            ConfigError: the steps are to run on a GPU, and torch sees none.
        """
        states = []
        for number, step in enumerate(steps):
            if number == 0 and step.name != SETUP:
                self._look()
            states.append(self._turn(step, is_last=number == len(steps) - 1))
            if step.name == SETUP:
                self._look()
        return set(states) <= {DONE, NOT_RUN}

    def _look(self) -> None:
        """Note what the machine is; where that cannot be found out, the steps' own logs will say why."""
        found = self.look(self, min(LOOK_LIMIT, self.left))
        if "error" not in found or not self.summary.machine:
            self.summary.machine = found
        self.summary.write()
        if self.settings.device == "cuda" and "torch" in found and "gpu" not in found:
            raise ConfigError(
                "torch sees no GPU",
                found=f"torch {found['torch']}",
                fix="run this where there is one, or rehearse it on the CPU: --tiny",
            )

    def _turn(self, step: Step, is_last: bool) -> str:
        """Run a step if there is time for it, and note what came of it; its state."""
        limit = self.left if is_last else min(step.limit, self.left)
        if limit < step.least:
            why = f"{max(0, limit):.0f} s of the budget were left, and it is not begun with less than {step.least} s"
            self._note(step, {"state": NOT_RUN, "why": why})
            return NOT_RUN
        for kind in ("json", "log"):
            _keep_older(self._file(step, kind))
        arguments = self._arguments(step)
        about: Note = {"state": INTERRUPTED, "module": step.module, "arguments": arguments, "tiny": self.settings.tiny}
        about |= {"limit": round(limit), "when": now()}
        print(f"{step.name}: {step.about} (at most {limit:.0f} s)", file=sys.stderr, flush=True)
        try:
            about |= _verdict(self.settings.run(step.module, arguments, limit, self._file(step, "log")), limit)
        finally:
            self._note(step, about | self._found(step, about["state"]))
        return str(about["state"])

    def _arguments(self, step: Step) -> list[str]:
        settings = self.settings
        found = ["--device", settings.device, "--results", str(self._file(step, "json").resolve())]
        for name in step.takes:
            if name in settings.options:
                found += [f"--{name}", str(settings.options[name].resolve())]
        return [*found, *step.options, *(["--tiny"] if settings.tiny else [])]

    def _found(self, step: Step, state: str) -> Note:
        """The result that a step left, however it ended; the end of its log where it did not end well."""
        log, file = self._file(step, "log"), self._file(step, "json")
        text = log.read_text(errors="replace") if log.exists() else ""
        result = read_json(file)
        if result is None and (result := last_object(text)) is not None:
            write_json(file, result)
        tail = [] if state == DONE else text.splitlines()[-LOG_LINES:]
        failed = result.get("failed") if isinstance(result, dict) else None
        why = {"why": f"failed: {', '.join(failed)}"} if state == DONE and failed and isinstance(failed, dict) else {}
        return {"result": result, "log_tail": tail, **why}

    def _file(self, step: Step, kind: str) -> Path:
        return self.settings.folder / f"{step.name}.{kind}"

    def _note(self, step: Step, note: Note) -> None:
        self.summary.note(step.name, note)
        outcome = f"{note['state']} {note.get('why', '')}".strip()
        print(f"{step.name}: {outcome}, {max(0, self.left):.0f} s are left", file=sys.stderr, flush=True)
        if self.settings.archive is not None:
            pack(self.settings.folder, self.settings.archive)


def _verdict(outcome: Outcome, limit: float) -> dict[str, Any]:
    seconds = {"seconds": round(outcome.seconds, 1)}
    if outcome.code is None:
        return seconds | {"state": TIMED_OUT, "why": f"killed after {limit:.0f} s"}
    if outcome.code != 0:
        return seconds | {"state": FAILED, "why": f"exit code {outcome.code}"}
    return seconds | {"state": DONE}


def _keep_older(path: Path) -> None:
    """Move aside what an earlier run of a step left, so that a later failure does not cost its result."""
    if path.exists():
        path.replace(path.with_name(f"{path.stem}.before{path.suffix}"))


def look_at_machine(series: Series, limit: float) -> Note:
    """What the steps will run on, as a process with their packages sees it; ``error`` says why that is not known."""
    log = series.settings.folder / "machine.log"
    outcome = series.settings.run("benchmarks.machine", [], limit, log)
    text = log.read_text(errors="replace")
    found = last_object(text)
    if found is not None and outcome.code == 0:
        return found
    return {"error": f"exit code {outcome.code}: " + " ".join(text.splitlines()[-3:])}


def pack(folder: Path, archive: Path, most: int = ARCHIVE_BYTES) -> None:
    """The files of a folder in one, for those who can carry only a few; it appears whole.

    Small files first: a large one, such as a trace, is left out where all would be more than ``most`` bytes.
    """
    aside, size = archive.with_name(f".{archive.name}.partial"), 0
    with tarfile.open(aside, "w:gz") as file:
        for path in sorted(folder.iterdir(), key=lambda path: (path.stat().st_size, path.name)):
            if not path.is_file() or path in (archive, aside) or path.name.startswith("."):
                continue
            size += path.stat().st_size
            if size <= most:
                file.add(path, f"{folder.name}/{path.name}")
            else:
                print(f"{path.name} is not in {archive}, which would be too large", file=sys.stderr, flush=True)
    os.replace(aside, archive)


def now() -> str:
    """Date and time here, to the minute."""
    return datetime.datetime.now().astimezone().isoformat(" ", "minutes")
