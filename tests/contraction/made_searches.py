"""Courses of searches as a search writes them, made without training."""

from __future__ import annotations

from functools import partial

from tinyvit_kd.contraction.records import Candidate, Costs, Result, Score, Timing
from tinyvit_kd.contraction.rounds import Outcome, RoundRecord
from tinyvit_kd.contraction.shape import Shape

BASE = Shape(
    "tiny_vit",
    (
        ("widths", (96, 192, 384, 576)),
        ("depths", (2, 2, 6, 2)),
        ("windows", (7, 7, 14, 7)),
        ("mbconv_expand_ratio", 4.0),
        ("mlp_ratio", 4.0),
    ),
    (("head_widths", (32, 32, 32)), ("local_conv_size", 3)),
)
NARROWER = BASE.with_factor("widths", (96, 192, 384, 544))
SHALLOWER = BASE.with_factor("depths", (2, 2, 5, 2))
LIGHTER = BASE.with_factor("mlp_ratio", 3.0)
NARROWEST = NARROWER.with_factor("widths", (96, 192, 352, 544))
NARROW_AND_SHALLOW = NARROWER.with_factor("depths", (2, 2, 5, 2))
LIGHT_AND_SHALLOW = SHALLOWER.with_factor("mlp_ratio", 3.0)


def made_result(
    shape: Shape,
    parameters: float,
    *,
    base: Shape | None = None,
    moves: tuple[str, ...] = (),
    cross_entropies: tuple[float, ...] = (2.0,),
    top1: float | None = None,
    rate: float | None = 1000.0,
    how: str = "measured",
    out: str | None = None,
) -> Result:
    """A candidate's result; without cross-entropies one that was never trained."""
    number = round(parameters)
    costs = Costs(number, 200 * number, 6 * number, 8 * number)
    timing = None if rate is None else Timing(rate, rate / 1000.0, 0.02, how, "a machine")
    errors = {"cross_entropy": 0.01, "agreement": 0.4} | ({} if top1 is None else {"top1": 0.5})
    scores = [
        Score(value, 90.0 - 10 * value, top1, errors, 4096, 500, seed) for seed, value in enumerate(cross_entropies)
    ]
    candidate = Candidate(shape, None if base is None else base.name, moves)
    return Result(candidate, costs, timing, scores, out)


def made_outcome(cross_entropy: float = 1.5, top1: float | None = 60.0) -> Outcome:
    """A search of two rounds with a winner.

    Args:
        cross_entropy: of the first round's first candidate.
        top1: of all candidates; None: of a store without labels.
    """
    of_base = partial(made_result, base=BASE, top1=top1)
    of_narrower = partial(made_result, base=NARROWER, top1=top1)
    too_large = "parameters: 1.06 times the limit"
    first = [
        of_base(NARROWER, 19e6, moves=("widths[3] 576 → 544",), cross_entropies=(cross_entropy, 1.52)),
        of_base(SHALLOWER, 18e6, moves=("depths[2] 6 → 5",), cross_entropies=(1.6,), rate=1200.0),
        of_base(
            LIGHTER, 17e6, moves=("mlp_ratio 4 → 3",), cross_entropies=(), how="predicted", rate=900.0, out=too_large
        ),
    ]
    second = [
        of_narrower(NARROWEST, 16e6, moves=("widths[2] 384 → 352",), cross_entropies=(1.7, 1.72), rate=1400.0),
        of_narrower(NARROW_AND_SHALLOW, 15e6, moves=("depths[2] 6 → 5",), cross_entropies=(1.71,), rate=1500.0),
        made_result(
            LIGHT_AND_SHALLOW,
            14e6,
            base=SHALLOWER,
            moves=("mlp_ratio 4 → 3",),
            cross_entropies=(2.5,),
            top1=top1,
            rate=None,
            out="worse after 500 of 2,000 steps",
        ),
    ]
    rounds = [
        RoundRecord(
            1,
            {"parameters": 19e6, "images_per_second": 950.0},
            (BASE.name,),
            first,
            (NARROWER.name, SHALLOWER.name),
            (NARROWER.name, SHALLOWER.name),
        ),
        RoundRecord(
            2,
            {"parameters": 16e6, "images_per_second": 1300.0},
            (NARROWER.name, SHALLOWER.name),
            second,
            (NARROWEST.name, NARROW_AND_SHALLOW.name),
            (),
            [(NARROWEST.name, NARROW_AND_SHALLOW.name)],
        ),
    ]
    base = made_result(BASE, 21e6, cross_entropies=(1.4,), top1=top1)
    return Outcome(base, rounds, (NARROWEST.name,), {"parameters": 16e6, "images_per_second": 1300.0}, 224, 1000)
