"""What is given to a plan beside recipes: numbers for all stages, or for one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.planning.chain import PLANNED

PARTS = {
    "views": "views per second and core, decoded and augmented",
    "teacher": "views per second and GPU, forward; without GPUs, per process",
    "student": "views per second and GPU, of whole training steps; without GPUs, per process",
    "write": "records per second and process, encoded and written",
    "read": "MB (10^6 bytes) per second that the storage gives to all processes together",
}
"""What a rate is of, and its unit."""

_NUMBER = re.compile(r"([0-9][0-9_,]*\.?[0-9]*(?:e[0-9]+)?)([kM]?)")
_ROUNDING = 1e-12  # relative: 1.281167M is whole
_FACTORS = {"": 1, "k": 1_000, "M": 1_000_000}


@dataclass(frozen=True)
class PerStage:
    """A number that holds for all stages or for some of them."""

    everywhere: float | None = None
    by_stage: dict[str, float] = field(default_factory=dict)

    def of(self, stage: str) -> float | None:
        """The number of a stage; None if it was not given."""
        return self.by_stage.get(stage, self.everywhere)


def per_stage(option: str, texts: Iterable[str]) -> PerStage:
    """Texts of the form ``NUMBER`` or ``STAGE:NUMBER``.

    Raises:
        ConfigError: a text is another, a stage unknown, or a number not above zero.
    """
    everywhere, by_stage = None, {}
    for text in texts:
        stage, value = _scoped(option, text)
        if stage is None:
            everywhere = positive(option, value)
        else:
            by_stage[stage] = positive(option, value)
    return PerStage(everywhere, by_stage)


def samples_per_stage(texts: Iterable[str]) -> PerStage:
    """Numbers of samples, as ``per_stage``.

    Raises:
        ConfigError: as ``per_stage``; or a number is not whole.
    """
    given = per_stage("--samples", texts)
    for number in (given.everywhere, *given.by_stage.values()):
        if number is not None and (number < 0.5 or abs(number - round(number)) > _ROUNDING * number):
            raise ConfigError("--samples takes a whole number", found=f"{number:g}", expected="for example 14.2M")
    return given


def require_stages(option: str, given: PerStage, stages: Collection[str]) -> None:
    """Check that what was given for one stage is for one that there is.

    Raises:
        ConfigError: it would change nothing.
    """
    for stage in given.by_stage:
        if stage not in stages:
            raise ConfigError(
                f"{option} is for a stage that none of these recipes is of",
                found=f"{stage}:",
                expected=" or ".join(f"{each}:" for each in PLANNED if each in stages),
            )


def rates(texts: Iterable[str]) -> dict[str, PerStage]:
    """Texts of the form ``PART=NUMBER`` or ``STAGE:PART=NUMBER``, by part.

    Raises:
        ConfigError: as ``per_stage``; or there is no such part.
    """
    numbers: dict[str, list[str]] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        stage, part = _scoped("--rate", name)
        if not separator or part not in PARTS:
            units = ". ".join(f"{each}: {unit}" for each, unit in PARTS.items())
            raise ConfigError(
                "--rate takes PART=NUMBER or STAGE:PART=NUMBER",
                found=text,
                expected=f"one of these parts ({units})",
                fix="for example --rate teacher=2500",
            )
        numbers.setdefault(part, []).append(value if stage is None else f"{stage}:{value}")
    return {part: per_stage("--rate", values) for part, values in numbers.items()}


def positive(option: str, text: str) -> float:
    """A number above zero; k and M behind it stand for thousands and millions.

    Raises:
        ConfigError: it is none.
    """
    match = _NUMBER.fullmatch(text.strip())
    value = float(re.sub("[,_]", "", match[1])) * _FACTORS[match[2]] if match else 0.0
    if not 0 < value < float("inf"):
        raise ConfigError(
            f"{option} takes a number above zero", found=text, expected="for example 1281167, 14.2M or 20_000"
        )
    return value


def _scoped(option: str, text: str) -> tuple[str | None, str]:
    """The stage that stands in front of a text, and the rest."""
    stage, separator, rest = text.partition(":")
    if not separator:
        return None, text
    if stage not in PLANNED:
        raise ConfigError(
            f"{option} names a stage that does not exist",
            found=text,
            expected=f"one of {', '.join(PLANNED)} before the colon",
        )
    return stage, rest
