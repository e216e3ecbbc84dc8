"""How weights differ from a network, in words: what has another shape, what is missing and what is too many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import torch

SHOWN = 8  # tensors of each kind that a message names; the others are counted


def differences(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> str:
    """What does not fit, by name; empty where all does.

    Args:
        state: of a file.
        own: of the network.
    """
    shapes = [
        f"{name} is {list(state[name].shape)}, not {list(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    return in_words(shapes, [name for name in own if name not in state], [name for name in state if name not in own])


def in_words(shapes: Sequence[str], missing: Sequence[str], unexpected: Sequence[str]) -> str:
    """All differences in one line.

    Args:
        shapes: what is said of each tensor of another shape.
        missing: names of tensors that only the network has.
        unexpected: names of tensors that only the file has.
    """
    kinds = (
        (shapes, "of another shape"),
        ([f"{name} is missing" for name in missing], "missing"),
        ([f"{name} is unexpected" for name in unexpected], "unexpected"),
    )
    return "; ".join(chain.from_iterable(_shortened(said, kind) for said, kind in kinds))


def _shortened(said: Sequence[str], kind: str) -> list[str]:
    more = len(said) - SHOWN
    return list(said) if more <= 1 else [*said[:SHOWN], f"and {more} more {kind}"]
