"""What the candidates of a round must keep to, and by how much one misses it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields

from tinyvit_kd.config.contraction import LimitsConfig
from tinyvit_kd.contraction.records import Costs
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.wording import counted

_AT_LEAST = ("images_per_second",)  # all others are upper limits
_UNITS = {
    "parameters": "parameters",
    "multiply_adds": "multiply-adds per image",
    "images_per_second": "images per second",
    "memory_mib": "MiB of memory",
}
_DIGITS = {"parameters": 0, "multiply_adds": 0, "images_per_second": 1, "memory_mib": 1}  # behind the point


@dataclass(frozen=True)
class Limits:
    """The limits of one round, in the units of ``LimitsConfig``; None: no limit.

    Attributes:
        parameters: most parameters.
        multiply_adds: most multiply-adds of one image's forward pass.
        images_per_second: least throughput.
        memory_mib: most memory of a forward pass of one image, MiB.
    """

    parameters: float | None = None
    multiply_adds: float | None = None
    images_per_second: float | None = None
    memory_mib: float | None = None

    @property
    def given(self) -> dict[str, float]:
        """Those that there are, by name."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Considered:
    """A shape that was held against limits.

    Attributes:
        name: of the shape.
        rate: images per second; None: not known.
    """

    name: str
    costs: Costs
    rate: float | None = None


def limits_of_round(target: LimitsConfig, base: Costs, base_rate: float | None, number: int, rounds: int) -> Limits:
    """The limits of a round: from those of the search's base each round tightens them by the same factor.

    What the base keeps to already has its target from the first round on.

    Args:
        base: of the base that the search starts from.
        base_rate: its images per second; None only where they are not limited.
        number: of the round, 1 to ``rounds``; the last one has the target.
    """
    assert 1 <= number <= rounds, (number, rounds)
    has = _values(base, base_rate)
    targets = Limits(**target.model_dump()).given
    return Limits(**{name: _limit(name, has[name], value, number / rounds) for name, value in targets.items()})


def _limit(name: str, has: float, target: float, part: float) -> float:
    if part == 1 or _misses_by(name, has, target) <= 1:
        return target
    return float(has * (target / has) ** part)


def misses(costs: Costs, rate: float | None, limits: Limits) -> dict[str, float]:
    """By what factor, above 1, a network misses each limit that it does not keep to; empty: it keeps to all.

    Args:
        rate: its images per second; None: not known yet, and not held against it.
    """
    factors = _factors(Considered("", costs, rate), limits)
    return {name: factor for name, factor in factors.items() if factor > 1}


def used(shape: Considered, limits: Limits) -> float:
    """The part of what the limits allow that a shape uses, as far as it is known: the geometric mean over them."""
    factors = _factors(shape, limits)
    return statistics.geometric_mean(factors.values()) if factors else 1.0


def _factors(shape: Considered, limits: Limits) -> dict[str, float]:
    """What is known of a shape over its limit, or where the limit is a least value, the limit over it."""
    has = _values(shape.costs, shape.rate)
    return {name: _misses_by(name, has[name], value) for name, value in limits.given.items() if name in has}


def _misses_by(name: str, has: float, limit: float) -> float:
    return limit / has if name in _AT_LEAST else has / limit


def _values(costs: Costs, rate: float | None) -> dict[str, float]:
    """What is known of a network, in the units of limits."""
    return costs.limited if rate is None else costs.limited | {"images_per_second": rate}


def no_candidate(considered: Sequence[Considered], limits: Limits, number: int, rounds: int) -> ConfigError:
    """The error of a round that has no candidate.

    It says which shape misses least, and of each limit which shape comes nearest to it and by how much that misses.

    Args:
        considered: all shapes that were held against the limits; empty: no factor of the bases can be lowered.
        number: of the round, of ``rounds``.
    """
    where = f"limits, in round {number} of {rounds}"
    expected = ", ".join(in_words(name, value) for name, value in limits.given.items())
    if not considered:
        return ConfigError(
            "there is no candidate: each factor of the bases has its smallest value",
            where=where,
            expected=expected,
            fix="lower the smallest values in space, name more factors there, or loosen limits",
        )
    nearest = min(considered, key=lambda each: max(_factors(each, limits).values()))
    missed = misses(nearest.costs, nearest.rate, limits)
    found = [f"of {counted(len(considered), 'shape')} {nearest.name} comes nearest: {_deviations(nearest, limits)}"]
    for name in limits.given:
        known = [each for each in considered if name in _factors(each, limits)]
        alone = min(known, key=lambda each: _factors(each, limits)[name], default=nearest)
        if alone is not nearest:
            found.append(f"nearest to limits.{name} is {alone.name}: {_deviation(alone, name, limits)}")
    return ConfigError(
        "no candidate keeps to the limits",
        where=where,
        found="; ".join(found),
        expected=expected,
        fix=f"loosen {', '.join(f'limits.{name}' for name in missed)}, raise search.rounds or search.moves, or lower "
        "the steps or smallest values in space",
    )


def unreachable(smallest: Considered, limits: Limits) -> ConfigError:
    """The error of a search whose target even the smallest shape of the space misses."""
    missed = misses(smallest.costs, smallest.rate, limits)
    return ConfigError(
        "even the smallest shape of the space misses the limits",
        where=", ".join(f"limits.{name}" for name in missed),
        found=f"{smallest.name}: {_deviations(smallest, limits)}",
        expected=", ".join(in_words(name, value) for name, value in limits.given.items()),
        fix=f"loosen {', '.join(f'limits.{name}' for name in missed)}, or lower the smallest values in space or name "
        "more factors there",
    )


def _deviations(shape: Considered, limits: Limits) -> str:
    return ", ".join(_deviation(shape, name, limits) for name in _factors(shape, limits))


def _deviation(shape: Considered, name: str, limits: Limits) -> str:
    """``6,020,000 parameters (9.5 % above the limit)``."""
    has, limit = _values(shape.costs, shape.rate)[name], limits.given[name]
    if _factors(shape, limits)[name] <= 1:
        judged = "within the limit"
    else:
        percent = 100 * abs(has / limit - 1)
        judged = f"{percent:,.{0 if percent >= 10 else 1}f} % {'below' if name in _AT_LEAST else 'above'} the limit"
    return f"{has:,.{_DIGITS[name]}f} {_UNITS[name]} ({judged})"


def in_words(name: str, limit: float) -> str:
    """A limit for people: ``at most 5,500,000 parameters``."""
    return f"at {'least' if name in _AT_LEAST else 'most'} {limit:,.{_DIGITS[name]}f} {_UNITS[name]}"
