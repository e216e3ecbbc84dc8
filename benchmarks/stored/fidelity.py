"""What a record keeps of the teacher: bytes, divergence, and error of the loss's gradient."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.local_files import block_file
from benchmarks.stored.records import fill_store, official_records, official_type
from tinyvit_kd.store.records import Block
from tinyvit_kd.training.loss import soft_loss

Float64 = npt.NDArray[np.float64]
_ROUNDING = 2.0**-24
_TOGETHER = 128  # records whose [B, C] logits are in memory at a time


def fidelity(block: Block, num_classes: int, gradients: int) -> dict[str, dict[str, float]]:
    """Of our record and of the official one: bytes, mean divergence, errors of the gradient.

    Args:
        block: simulated records.
        gradients: records whose gradients are compared; they take [B, C] numbers each.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = fill_store(Path(folder) / "store", block, num_classes, len(block))
        size = block_file(store, 0, 0).stat().st_size / len(block)
        compact = store.read_block(0, 0)
    found = {"compact": (size, compact), "official": (official_type(block.probs.shape[1]).itemsize, official(block))}
    return {
        name: {"bytes": each, **kl(block, kept, num_classes), **gradient_errors(block, kept, num_classes, gradients)}
        for name, (each, kept) in found.items()
    }


def official(block: Block) -> Block:
    """The block as it comes out of official records: the residual is what float16 probabilities leave of 1."""
    packed = official_records(block)
    order = np.argsort(packed["indices"], axis=1)
    probs = np.take_along_axis(packed["probs"].astype(np.float32), order, axis=1)
    residual = 1 - probs.sum(axis=1, dtype=np.float32)
    return Block(block.indices, probs, residual, block.seeds, block.digests, block.status)


def divergences(block: Block, kept: Block, num_classes: int) -> Float64:
    """KL divergence of each record's recovered distribution from the block's to the kept one: [n], may be infinite.

    Both spread their residual evenly over the classes that were not stored.
    """
    tail = max(1, num_classes - block.probs.shape[1])
    p, q = (np.column_stack([each.probs, residual_of(each) / tail]).astype(np.float64) for each in (block, kept))
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p / q), 0)
    terms[:, -1] *= tail
    return np.asarray(terms.sum(axis=1), dtype=np.float64)


def residual_of(block: Block) -> npt.NDArray[np.float32]:
    """Residuals, zero where they are but what float32 probabilities, being rounded, do not sum to."""
    return np.where(block.residual < _ROUNDING, np.float32(0), block.residual)


def kl(block: Block, kept: Block, num_classes: int) -> dict[str, float]:
    """Mean over the records whose divergence is finite, and the share of the others."""
    each = divergences(block, kept, num_classes)
    finite = np.isfinite(each)
    return {"kl": float(each[finite].mean()), "kl_infinite": float(1 - finite.mean())}


def gradient_errors(block: Block, kept: Block, num_classes: int, records: int) -> dict[str, float]:
    """‖g - g'‖ / ‖g‖ of the soft loss's gradient by student logits: of a record, mean and largest, and of all.

    Logits are drawn from N(0, 1), as of a new student; or "near": the log of what the teacher says plus N(0, 1), as
    of one that has learnt. Records of which a student knows all have next to no gradient, and so the largest errors;
    "all" takes the norms over all records.
    """
    generator, found = torch.Generator().manual_seed(0), dict[str, list[torch.Tensor]](random=[], near=[])
    for first in range(0, min(records, len(block)), _TOGETHER):
        rows = slice(first, min(first + _TOGETHER, records, len(block)))
        targets, others = tensors(block, rows), tensors(kept, rows)
        noise = torch.randn(len(targets[0]), num_classes, generator=generator)
        for name, logits in (("random", noise), ("near", noise + log_teacher(targets, num_classes))):
            g, other = (gradient(logits, each) for each in (targets, others))
            found[name].append(torch.stack([(g - other).norm(dim=1), g.norm(dim=1)]) * len(noise))
    errors: dict[str, float] = {}
    for name, parts in found.items():
        differences, norms = torch.cat(parts, dim=1)
        each = differences / norms
        errors |= {f"gradient_{name}_mean": float(each.mean()), f"gradient_{name}_max": float(each.max())}
        errors[f"gradient_{name}_all"] = float(differences.norm() / norms.norm())
    return errors


Targets = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # indices [B, K], probs [B, K], residual [B]


def tensors(block: Block, rows: slice) -> Targets:
    """What the loss takes of some records."""
    indices = torch.from_numpy(block.indices[rows].astype(np.int64))
    return indices, torch.from_numpy(block.probs[rows]), torch.from_numpy(block.residual[rows])


def log_teacher(targets: Targets, num_classes: int) -> torch.Tensor:
    """Logarithm of the recovered distribution: [B, C]."""
    indices, probs, residual = targets
    tail = residual.clamp(min=1e-6) / max(1, num_classes - indices.shape[1])
    return tail.log()[:, None].repeat(1, num_classes).scatter_(1, indices, probs.log())


def gradient(logits: torch.Tensor, targets: Targets) -> torch.Tensor:
    """Of the mean soft loss: [B, C]."""
    logits = logits.clone().requires_grad_()
    loss = soft_loss(logits, *targets, torch.ones(len(logits)))
    return torch.autograd.grad(loss, logits)[0]
