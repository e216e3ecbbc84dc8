"""Compare the weights of runs."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The weights that a run wrote, memory-mapped from its file."""
    state: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return state


def changed(before: Path, after: Path) -> set[str]:
    """Names of the tensors that differ between two run folders in any bit."""
    first, second = weights(before), weights(after)
    assert first.keys() == second.keys()
    return {name for name, value in first.items() if not torch.equal(value, second[name])}


def assert_same_weights(left: Path, right: Path) -> None:
    """Assert that two runs have the same weights, bit for bit."""
    assert changed(left, right) == set()


def assert_nearly_same_weights(left: Path, right: Path) -> None:
    """Assert that two runs have the same weights within the rounding of sums in another order."""
    first, second = weights(left), weights(right)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=1e-4, atol=1e-6)
