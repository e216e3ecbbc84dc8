"""What checks find: all of it is collected, so that a plan names everything that is wrong at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from tinyvit_kd.errors import TinyVitKdError

_PARTS = ("what", "where", "found", "expected", "fix")  # of an error


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        recipe: the recipe that it concerns, as it was given.
        wrong: whether a run would be refused; False: worth knowing.
        text: one paragraph.
        parts: the paragraph's parts, by name; of a note, only what.
    """

    recipe: str
    wrong: bool
    text: str
    parts: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        parts = {name: self.parts.get(name) for name in _PARTS}
        return {"recipe": self.recipe, "wrong": self.wrong, **parts}


@dataclass
class Findings:
    """Everything that was found so far, in the order of the checks."""

    found: list[Finding] = field(default_factory=list)

    @property
    def wrong(self) -> list[Finding]:
        """Those for which a run would be refused."""
        return [each for each in self.found if each.wrong]

    def checking(self, recipe: str) -> Checking:
        """A context that notes what a check raises, in place of raising it."""
        return Checking(self, recipe)

    def refuse(self, recipe: str, error: TinyVitKdError) -> None:
        """Note that a run would be refused with this error."""
        parts = {name: text for name in _PARTS if (text := getattr(error, name))}
        self._add(Finding(recipe, True, str(error), parts))

    def note(self, recipe: str, text: str) -> None:
        """Note what is worth knowing."""
        self._add(Finding(recipe, False, text, {"what": text}))

    def _add(self, finding: Finding) -> None:
        if finding not in self.found:
            self.found.append(finding)


@dataclass
class Checking:
    """A context in which errors become findings of one recipe."""

    findings: Findings
    recipe: str

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, TinyVitKdError):
            self.findings.refuse(self.recipe, error)
            return True
        return False
