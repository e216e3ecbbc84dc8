"""The base of every configuration section, and what a field can say about itself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue


def _plain(location: object) -> object:
    """A path as ``pathlib`` writes it, or a URL as it is."""
    text = os.fspath(location) if isinstance(location, os.PathLike) else location
    return text if not isinstance(text, str) or "://" in text else str(Path(text))


Location = Annotated[str, BeforeValidator(_plain), Field(json_schema_extra={"format": "path"})]
"""A file or folder: a path, or a URL, which ``pathlib`` would spoil; ``storage.open`` knows which."""


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys, NaN and infinity.

    Attributes:
        alternatives: fields that exclude each other. A printed recipe fills in the first and comments out the others.
        suggested: of several fields of which one has to be given, the one that a printed recipe fills in.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)
    alternatives: ClassVar[tuple[str, ...]] = ()
    suggested: ClassVar[str | None] = None


def in_effect(section: Section, fields: dict[str, Any], *later: str) -> dict[str, Any]:
    """A section's serialised fields without those of ``later`` that have their default.

    So recipes and identities of runs have the same bytes as those from before a field was added.
    """
    kinds = type(section).model_fields
    unused = {name for name in later if getattr(section, name) == kinds[name].get_default(call_default_factory=True)}
    return {name: value for name, value in fields.items() if name not in unused}


def unit(name: str) -> dict[str, JsonValue]:
    """The unit of a field, for ``Field(json_schema_extra=unit("pixels"))``; values and hashes do not contain it."""
    return {"unit": name}


def section_of(annotation: Any) -> type[Section] | None:
    """The section that a field's type consists of: itself, or optional, or a list of such sections."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Section):
            return candidate
    return None
