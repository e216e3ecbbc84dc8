"""Weights that lie inside a larger module: the part that is the network, found by names and shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from tinyvit_kd.models.weight_files import WRAPPERS, StateDict, tell

# What people call the network inside a larger module, averages first: Lightning modules, DINO and its kind.
HOLDERS = (
    *("ema_model", "model_ema", "ema"),
    *("model", "net", "network", "timm_model", "teacher", "student"),
    *("backbone", "encoder", "base_encoder", "momentum_encoder", "encoder_q", "encoder_k"),
)
NESTED = 3  # holders within holders, at most


@dataclass(frozen=True)
class FittedWeights:
    """The tensors of a network, as far as they were found.

    Attributes:
        state: under the network's names and at its resolution; what does not belong to it is there, too.
        body_complete: whether all but the heads is there, in the right shapes.
        story: for people, in one clause: the prefix that was stripped, and what was left out. Empty if nothing was.
    """

    state: StateDict
    body_complete: bool
    story: str


def find_network(
    state: StateDict, own: Mapping[str, torch.Tensor], heads: list[str], fit: Callable[[StateDict], StateDict]
) -> FittedWeights:
    """The part of the weights that is the network: all of them or, if that does not fit, those under one prefix.

    A prefix that people use is taken where it fits better than none; any other one only where the whole network, but
    for its heads, lies under it. What lies elsewhere is left out, except heads that have the network's own names.

    Args:
        state: as a file has it.
        own: the network's own tensors.
        heads: names of those of its heads.
        fit: translates names and sizes to the network's.
    """
    body = {name: value.shape for name, value in own.items() if name not in heads}

    def matches(fitted: StateDict) -> int:
        return sum(name in fitted and fitted[name].shape == shape for name, shape in body.items())

    best = fit(state)
    best_matches, prefix = matches(best), ""
    if best_matches == len(body):
        return FittedWeights(best, True, "")
    for each in _prefixes(state, len(body)):
        fitted = fit(_under(state, each))
        found = matches(fitted)
        if found > best_matches and (_is_known(each) or found == len(body)):
            best, best_matches, prefix = fitted, found, each
        if best_matches == len(body):
            break
    if not prefix:
        return FittedWeights(best, False, "")
    elsewhere = {name: value for name, value in state.items() if not name.startswith(f"{prefix}.")}
    for name in heads:
        if name not in best and name in elsewhere:
            best = {**best, name: elsewhere.pop(name)}
    return FittedWeights(best, best_matches == len(body), tell("", [], [prefix], list(elsewhere)))


def _prefixes(state: StateDict, size: int) -> Iterator[str]:
    """Prefixes of names, without their last dot: first those of known holders, then those of ``size`` tensors."""
    every = dict.fromkeys(
        ".".join(parts[:length])
        for parts in (name.split(".")[:-1] for name in state)
        for length in range(1, min(len(parts), NESTED) + 1)
    )
    known = [prefix for prefix in every if _is_known(prefix)]
    yield from sorted(known, key=lambda prefix: (HOLDERS.index(prefix.split(".")[0]), prefix.count(".")))
    counts = {prefix: len(_under(state, prefix)) for prefix in every if prefix not in known}
    large = [prefix for prefix, count in counts.items() if count >= size]
    yield from sorted(large, key=lambda prefix: -counts[prefix])


def _is_known(prefix: str) -> bool:
    """Whether all parts are names of holders; a wrapper's may stand between them and the network's."""
    first, *rest = prefix.split(".")
    return first in HOLDERS and all(part in HOLDERS or part in WRAPPERS for part in rest)


def _under(state: StateDict, prefix: str) -> StateDict:
    return {name[len(prefix) + 1 :]: value for name, value in state.items() if name.startswith(f"{prefix}.")}
