"""How far two runs of the same student came apart."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from tinyvit_kd.models.modelfile import load_model_file

Curve = dict[int, float]  # a step's loss, mean since the last log line


def differences(folder: Path, reference: Path) -> dict[str, float]:
    """Of weights and of losses, over the reference's.

    Returns:
        weights: norm of the difference of all weights, over the norm of the reference's;
        first_loss, last_loss, largest_loss: relative difference of the loss in the first, the last and that log line
        where it is largest.
    """
    losses = relative(loss_curve(folder), loss_curve(reference))
    return {
        "weights": weights_apart(folder, reference),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "largest_loss": max(losses),
    }


def weights_apart(folder: Path, reference: Path) -> float:
    """Norm of the difference of all weights, over the norm of the reference's."""
    own, theirs = (_flat(each) for each in (folder, reference))
    return float((own - theirs).norm() / theirs.norm())


def loss_curve(folder: Path) -> Curve:
    """The losses that a run logged; of a step that was made twice, the latter."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "train"}


def relative(curve: Curve, reference: Curve) -> list[float]:
    """Relative difference at each step that both have."""
    return [abs(curve[step] / reference[step] - 1) for step in sorted(curve.keys() & reference.keys())]


def _flat(folder: Path) -> torch.Tensor:
    state, _ = load_model_file(folder)
    return torch.cat([state[name].double().flatten() for name in sorted(state)])
