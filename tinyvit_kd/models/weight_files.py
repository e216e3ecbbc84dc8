"""Weights in the files of other training codes: under which entry they lie, and which wrappers' names they carry."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch

StateDict = dict[str, torch.Tensor]

# Where training codes keep the weights, the first one first: averages before what they were averaged from. timm's
# train.py has state_dict_ema, DeiT's main.py model_ema; DINO's teacher is an average of its student.
ENTRIES = (
    *("state_dict_ema", "model_ema", "ema_state_dict"),
    *("state_dict", "model_state_dict", "model", "teacher", "student", "module", "network", "net", "backbone", "ema"),
)
NESTED = 4  # entries within entries, at most
WRAPPERS = ("module",)  # DataParallel, DistributedDataParallel, DeepSpeed, torch's AveragedModel
_ANYWHERE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
_NO_WEIGHTS = ("n_averaged",)  # of an AveragedModel, beside module.…
SHOWN = 3  # names in a message; of more, their number by part


@dataclass(frozen=True)
class FoundWeights:
    """Weights by name, and what was done to get them.

    Attributes:
        state: the tensors; it may be empty.
        story: for people, in one clause: the entry that was taken, the prefixes that were stripped, what was left out.
            Empty if the file holds tensors under their own names and nothing else.
    """

    state: StateDict
    story: str


def find_weights(content: Any) -> FoundWeights:
    """The weights in what a file holds.

    Raises:
        ValueError: two tensors have the same name once the wrappers' prefixes are gone.
    """
    path: list[str] = []
    beside: list[str] = []
    while len(path) < NESTED and (entries := _entries(content)):
        path.append(entries[0])
        beside += entries[1:]
        content = content[entries[0]]
    state: StateDict = {}
    stripped: dict[str, None] = {}
    for name, tensor in _tensors(content).items():
        prefixes, own = _unwrapped(name)
        stripped |= dict.fromkeys(prefixes)
        if own in state:
            raise ValueError(f"two of its tensors are {own}, one of them with the prefix of a wrapper")
        state[own] = tensor
    left_out = [name for name in _NO_WEIGHTS if stripped and state.pop(name, None) is not None]
    return FoundWeights(state, tell(".".join(path), beside, list(stripped), left_out))


def tell(entry: str, beside: list[str], stripped: list[str], left_out: list[str]) -> str:
    """A clause for people; empty where there is nothing to tell."""
    parts = []
    if entry:
        parts.append(f"took {entry}" + (f" (the file also has {', '.join(beside)})" if beside else ""))
    if stripped:
        parts.append("stripped " + ", ".join(f"'{prefix}.'" for prefix in stripped))
    if len(left_out) > SHOWN:
        counts = Counter(name.partition(".")[0] for name in left_out)
        left_out = [f"{number} tensors of '{part}'" for part, number in counts.items()]
    if left_out:
        parts.append(f"left out {', '.join(left_out)}")
    return ", ".join(parts)


def _entries(content: Any) -> list[str]:
    """The known entries that hold weights, the one to take first."""
    if not isinstance(content, dict):
        return []
    return [entry for entry in ENTRIES if _holds_weights(content.get(entry), NESTED)]


def _holds_weights(content: Any, depth: int) -> bool:
    if not isinstance(content, dict) or depth == 0:
        return False
    return bool(_tensors(content)) or any(_holds_weights(content.get(entry), depth - 1) for entry in ENTRIES)


def _tensors(content: Any) -> StateDict:
    pairs = content.items() if isinstance(content, dict) else ()
    return {name: value for name, value in pairs if isinstance(name, str) and isinstance(value, torch.Tensor)}


def _unwrapped(name: str) -> tuple[list[str], str]:
    """The wrappers in a tensor's name, and the name without them."""
    *path, last = name.split(".")
    prefixes = [part for part in path if part in _ANYWHERE]
    path = [part for part in path if part not in _ANYWHERE]
    while path and path[0] in WRAPPERS:
        prefixes.append(path.pop(0))
    return prefixes, ".".join([*path, last])
