"""The course of a search: its rounds and winners, as the search writes them and its page reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tinyvit_kd.contraction.records import Result
from tinyvit_kd.errors import ConfigError

KindT = TypeVar("KindT")


@dataclass(frozen=True)
class RoundRecord:
    """A finished round.

    Attributes:
        number: from 1.
        limits: of this round, by name of a field of ``config.contraction.LimitsConfig``; without those that are null.
        bases: names of the shapes that were contracted.
        results: of all candidates, in a fixed order.
        front: names of those that no other one beats in score and in what is limited, best first.
        next_bases: names of those that the next round contracts, best first.
        ties: pairs of names whose scores differ by no more than twice the standard error of their difference (see
            ``front.ties``).
    """

    number: int
    limits: dict[str, float]
    bases: tuple[str, ...]
    results: list[Result]
    front: tuple[str, ...] = ()
    next_bases: tuple[str, ...] = ()
    ties: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """A search, as far as it has come.

    Attributes:
        base: the network that it began with.
        rounds: finished ones, in order.
        winners: names of the best of the last round, best first; empty until that is finished.
        targets: limits of the last round, by name.
        image_size: side of the input, pixels.
        num_classes: of the store.
    """

    base: Result
    rounds: list[RoundRecord]
    winners: tuple[str, ...]
    targets: dict[str, float]
    image_size: int
    num_classes: int

    def result(self, name: str, before: int | None = None) -> Result | None:
        """What is known of a shape, from the last round that had it; None if no round did.

        Args:
            name: of the shape.
            before: number of a round: only those before it count.
        """
        earlier = [each for each in self.rounds if before is None or each.number < before]
        found = (each for record in reversed(earlier) for each in record.results if each.candidate.shape.name == name)
        return next(found, self.base if self.base.candidate.shape.name == name else None)

    def lineage(self, name: str) -> list[tuple[int, Result]]:
        """A shape's ancestors and itself, from the search's base on, each with the number of its round (the base: 0).

        Raises:
            ConfigError: the shape, or one that it came from, is in no round.
        """
        steps: list[tuple[int, Result]] = []
        number, wanted = self._round_of(name, len(self.rounds) + 1), name
        while number > 0:
            result = self.result(wanted, number + 1)
            assert result is not None
            steps.insert(0, (number, result))
            wanted = result.candidate.base or self.base.candidate.shape.name
            number = self._round_of(wanted, number)
        return [(0, self.base), *steps]

    def _round_of(self, name: str, before: int) -> int:
        """The last round before another that had a shape as a candidate; 0 if it is the search's base."""
        for record in reversed(self.rounds):
            if record.number < before and any(each.candidate.shape.name == name for each in record.results):
                return record.number
        if name == self.base.candidate.shape.name:
            return 0
        raise ConfigError("a shape of the search is in none of its rounds", where="rounds.json", found=name)


def to_json(outcome: Outcome) -> dict[str, Any]:
    """A search as plain values; scores that are not finite stay what they are."""
    return as_plain(outcome)


def from_json(value: Any) -> Outcome:
    """A search from plain values.

    Raises:
        ConfigError: they are not those of a search.
    """
    return read_as(Outcome, value, "rounds.json")


def as_plain(part: object) -> dict[str, Any]:
    """A part of a search, such as a plan, as plain values."""
    plain: dict[str, Any] = _listed(_adapter(type(part)).dump_python(part))  # type: ignore[arg-type]
    return plain


def read_as(kind: type[KindT], value: Any, where: str) -> KindT:
    """A part of a search, such as a plan or a score, from plain values.

    Args:
        where: the file that they are from, for errors.

    Raises:
        ConfigError: they are not of this kind.
    """
    try:
        read: KindT = _adapter(kind).validate_python(value)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(
            "this file does not hold what a search writes",
            where=f"{where}: {place}" if place else where,
            found=first["msg"],
            fix="the file is of another version, or was changed by hand; remove it, and the search writes it again",
        ) from None
    return read


@cache  # made once: it compiles all of a kind's fields
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _listed(value: Any) -> Any:
    """Tuples as lists, which they are when they come back from a file."""
    if isinstance(value, dict):
        return {key: _listed(each) for key, each in value.items()}
    return [_listed(each) for each in value] if isinstance(value, Sequence) and not isinstance(value, str) else value
